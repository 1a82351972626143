// How winograd.cpp and winograd_gradient.cpp cut images into tiles, and bring tiles to their points.
#pragma once

#include "conv2d.h"
#include "gemm.h"
#include "winograd.h"

TINYDIFF_BEGIN

constexpr int64_t OWN_FLOATS = 144 << 10;   // points of one task's tiles: about half a core's second-level cache
constexpr int64_t SHARED_FLOATS = 2 << 20;  // points of all tiles of one round, with large filters
constexpr int64_t AHEAD = 4;                // tiles whose pixels are asked for before they are needed

// Rows or columns of tiles: ``full`` of m outputs, then some of m - 1, so that few outputs stick out.
template <int m>
struct Axis {
    int64_t count, full;

    explicit Axis(int64_t outputs) : count(ceil_div(outputs, m)), full(count) {
        if (m == 4) full -= smaller(count, count * m - outputs);
    }
    int64_t start(int64_t tile) const { return tile * m - larger(0, tile - full); }
    int64_t points() const { return full * (m + 2) + (count - full) * (m + 1); }
};

// Some of the tiles of a block: how many to skip, and how many there are.
struct Part {
    int64_t skip, number;
};

// The tiles of all images in the order of their shapes: shorter, full, narrower, both. So those that have a point are
// neighbours, whichever point it is. Where their points lie: point p of tile t of a block at p * point_stride + t *
// width.
template <int m>
struct Tiles {
    static constexpr int n = m + 2, points = n * n, shapes = 4;
    static constexpr int missing = 4;  // the point, along an axis, that a tile of m - 1 outputs does not have
    Axis<m> rows, columns;
    int64_t begin[shapes + 1];  // of each shape
    int64_t count;

    Tiles(int64_t N, int64_t H_out, int64_t W_out) : rows(H_out), columns(W_out) {
        const int64_t short_rows = rows.count - rows.full, narrow = columns.count - columns.full;
        begin[0] = 0;
        begin[1] = N * short_rows * columns.full;
        begin[2] = begin[1] + N * rows.full * columns.full;
        begin[3] = begin[2] + N * rows.full * narrow;
        begin[4] = count = begin[3] + N * short_rows * narrow;
    }

    struct Place {
        int64_t image, h, w;
        bool is_short, is_narrow;
    };
    Place place(int64_t tile) const {
        const bool is_short = tile < begin[1] || tile >= begin[3], is_narrow = tile >= begin[2];
        const int shape = is_narrow ? (is_short ? 3 : 2) : (is_short ? 0 : 1);
        const int64_t high = is_short ? rows.count - rows.full : rows.full;
        const int64_t wide = is_narrow ? columns.count - columns.full : columns.full;
        const uint32_t index = static_cast<uint32_t>(tile - begin[shape]);  // divided in half the time of 64 bits
        const uint32_t line = index / static_cast<uint32_t>(wide), image = line / static_cast<uint32_t>(high);
        return {image, rows.start(line - image * high + (is_short ? rows.full : 0)),
                columns.start(index - line * wide + (is_narrow ? columns.full : 0)), is_short, is_narrow};
    }

    // Those of ``number`` tiles from ``first`` on that have point p.
    Part with_point(int p, int64_t first, int64_t number) const {
        const bool full_rows = p / n == missing, full_columns = p % n == missing;
        const int64_t from = larger(first, begin[full_rows ? 1 : 0]);
        const int64_t to = smaller(first + number, begin[full_columns ? 2 : full_rows ? 3 : 4]);
        return {from - first, larger(0, to - from)};
    }
};

// body(Tile of the rows, Tile of the columns) of a tile's shape
template <int m, class Body>
void with_shape(const typename Tiles<m>::Place& place, const Body& body) {
    if constexpr (m == 4) {
        if (place.is_short)
            place.is_narrow ? body(Tile<4, 3>(), Tile<4, 3>()) : body(Tile<4, 3>(), Tile<4, 4>());
        else
            place.is_narrow ? body(Tile<4, 4>(), Tile<4, 3>()) : body(Tile<4, 4>(), Tile<4, 4>());
    } else {
        body(Tile<2, 2>(), Tile<2, 2>());
    }
}

// Not a multiple of a page apart, or all points of a tile would share few cache sets.
inline int64_t point_stride(int64_t tiles, int64_t width) { return tiles * width + 16; }

// What a tile reads, and how it comes to its points: the input under it, or the gradient of its outputs.
struct Input {
    template <class Tile>
    static constexpr int extent = Tile::size + 2;
    template <class Tile>
    static void transform(const Vec (&in)[Tile::size + 2], Vec (&out)[Tile::size + 2]) {
        Tile::input(in, out);
    }
};
struct Upstream {
    template <class Tile>
    static constexpr int extent = Tile::size;
    template <class Tile>
    static void transform(const Vec (&in)[Tile::size], Vec (&out)[Tile::size + 2]) {
        Tile::output_adjoint(in, out);
    }
};

// What a tile reads: ``size`` x ``size`` pixels of an image (H, W_image, C) from (h, w) on, zeros outside it. Half of
// all tiles lie at an edge where images are small, so those must be fast too.
template <int size, class Real>
struct Patch {
    const Real* first;
    int64_t row, C;
    bool inside;
    const Real* pixels[size][size];  // where they do not all lie inside, or vectors are not whole

    Patch(const Real* image, int64_t H, int64_t W_image, int64_t C, int64_t h, int64_t w, const Real* zeros)
        : first(image + (h * W_image + w) * C),
          row(W_image * C),
          C(C),
          inside(h >= 0 && w >= 0 && h + size <= H && w + size <= W_image) {
        if (inside && C % W == 0) return;
        for (int i = 0; i < size; ++i)
            for (int j = 0; j < size; ++j) {
                const bool there = h + i >= 0 && h + i < H && w + j >= 0 && w + j < W_image;
                pixels[i][j] = there ? first + i * row + j * C : zeros;
            }
    }
};

// write(p, v) takes channels c .. c + W, zeros beyond the last, of point p.
template <int n, class What, class Rows, class Columns, int size, class Real, class Write>
inline void patch_to_points(const Patch<size, Real>& patch, int64_t c, const Write& write) {
    constexpr int HEIGHT = What::template extent<Rows>, WIDTH = What::template extent<Columns>;
    auto transform = [&](const auto& read) {
        along_both_axes<HEIGHT, WIDTH, Rows::size + 2, Columns::size + 2>(
            [](const Vec(&in)[WIDTH], Vec(&out)[Columns::size + 2]) { What::template transform<Columns>(in, out); },
            [](const Vec(&in)[HEIGHT], Vec(&out)[Rows::size + 2]) { What::template transform<Rows>(in, out); }, read,
            [&](int i, int j, Vec v) { write(Rows::points[i] * n + Columns::points[j], v); });
    };
    const Real* first = patch.first + c;
    // what a tile not far to the right will read first: images come from memory, four lines and more of them at a time
    constexpr int m = n - 2;
    for (int i = 0; i < HEIGHT; ++i)
        for (int j = 0; j < m; ++j) __builtin_prefetch(first + i * patch.row + (AHEAD * m + size + j) * patch.C);
    if (patch.inside && c + W <= patch.C)
        transform([&](int i, int j) { return load(first + i * patch.row + j * patch.C); });
    else
        transform([&](int i, int j) { return load_part(patch.pixels[i][j] + c, patch.C - c); });
}

// What the input's tiles read, and those of the outputs' gradient.
template <int m, class Real>
Patch<m + 2, Real> input_patch(const typename Tiles<m>::Place& place, const Real* x, const Real* zeros,
                               const Conv& conv) {
    const Real* image = x + place.image * conv.H * conv.W * conv.C;
    return {image, conv.H, conv.W, conv.C, place.h - conv.before, place.w - conv.before, zeros};
}
template <int m, class Real>
Patch<m, Real> upstream_patch(const typename Tiles<m>::Place& place, const Real* dy, const Real* zeros,
                              const Conv& conv) {
    const Real* image = dy + place.image * conv.H_out * conv.W_out * conv.O;
    return {image, conv.H_out, conv.W_out, conv.O, place.h, place.w, zeros};
}

// All points of a tile, of C channels: write(p, c, v) takes channels c .. c + W of point p.
template <int m, class What, class Real, int size, class Write>
void tile_to_points(const typename Tiles<m>::Place& place, const Patch<size, Real>& patch, int64_t C,
                    const Write& write) {
    with_shape<m>(place, [&](auto rows, auto columns) {
        for (int64_t c = 0; c < C; c += W)
            patch_to_points<m + 2, What, decltype(rows), decltype(columns)>(patch, c,
                                                                            [&](int p, Vec v) { write(p, c, v); });
    });
}

TINYDIFF_END
