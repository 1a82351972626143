// 3x3 convolutions with stride 1 by minimal filtering; the mathematics is in winograd.h.
//
// Three stages: input patches to points, one matrix product a point (tiles x channels in times channels in x
// channels out), points to output tiles. Everything is arranged so that points live in a core's own cache:
//
//     small filters   a task takes a few tiles through all stages, with the filters' points made beforehand
//     large filters   the points of many tiles are made first, by all threads; then a task takes one panel of output
//                     channels through the other two, making the filters' points a row of points at a time, just
//                     before they are used: their 36 values for every 9 weights are never in memory together
//
// and likewise for the weight gradient, with slices of tiles that are added in order, or blocks of channels.
// Tried without gain on 2 cores: a third to three halves as many tiles at once, and one to two and a half times as
// large rounds, all within 5 %. Points prepared before, where the same filters come again, take a fifth off one
// evaluation of the small network at batch 1 (6.2 to 5.1 ms on one thread, AMD EPYC with AVX-512, 2026-11) for 29 MB.
#include "winograd.h"

#include <type_traits>

#include "conv2d.h"
#include "gemm.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SMALL_FILTERS = 640 << 10;       // floats of a small filter's points,
constexpr int64_t FEW_TILES = 64;                  // too few for every task to meet all filters
constexpr int64_t SMALL_SUMS = 160 << 10;          // and of a small weight gradient's
constexpr int64_t OWN_FLOATS = 144 << 10;          // points of one task's tiles: about half a core's second-level cache
constexpr int64_t SHARED_FLOATS = 2 << 20;         // points of all tiles of one round, with large filters
constexpr int64_t AHEAD = 4;                       // tiles whose pixels are asked for before they are needed
constexpr int64_t SLICES = 8;                      // of tiles, with small sums,
constexpr int64_t SLICE_TILES = W == 16 ? 12 : 6;  // at least in each; not MR, or bits would depend on it

// Rows or columns of tiles: ``full`` of m outputs, then some of m - 1, so that few outputs stick out. (In bfloat16, where
// tiles go in pairs, all are full.)
template <int m, class Real>
struct Axis {
    int64_t count, full;

    explicit Axis(int64_t outputs) : count(ceil_div(outputs, m)), full(count) {
        if (m == 4 && NUMBERS<Real> == 1) full -= smaller(count, count * m - outputs);
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
template <int m, class Real>
struct Tiles {
    static constexpr int n = m + 2, points = n * n, shapes = 4;
    static constexpr int missing = 4;  // the point, along an axis, that a tile of m - 1 outputs does not have
    Axis<m, Real> rows, columns;
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
template <int m, class Real, class Body>
void with_shape(const typename Tiles<m, Real>::Place& place, const Body& body) {
    if constexpr (m == 4 && NUMBERS<Real> > 1) {
        body(Tile<4, 4>(), Tile<4, 4>());
    } else if constexpr (m == 4) {
        if (place.is_short)
            place.is_narrow ? body(Tile<4, 3>(), Tile<4, 3>()) : body(Tile<4, 3>(), Tile<4, 4>());
        else
            place.is_narrow ? body(Tile<4, 4>(), Tile<4, 3>()) : body(Tile<4, 4>(), Tile<4, 4>());
    } else {
        body(Tile<2, 2>(), Tile<2, 2>());
    }
}

// Not a multiple of a page apart, or all points of a tile would share few cache sets.
int64_t point_stride(int64_t tiles, int64_t width) { return tiles * width + 16; }

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

// What a tile reads: ``size`` x ``size`` pixels of an image (H, W_image, C) from (h, w) on, zeros outside it. (Half of all
// tiles lie at an edge where images are small, so those must be fast too.)
template <int size, class Real>
struct Patch {
    const Real* first;
    int64_t row, C;
    bool inside;
    const Real* pixels[size][size];  // where it is not inside

    Patch(const Real* image, int64_t H, int64_t W_image, int64_t C, int64_t h, int64_t w, const Real* zeros)
        : first(image + (h * W_image + w) * C),
          row(W_image * C),
          C(C),
          inside(h >= 0 && w >= 0 && h + size <= H && w + size <= W_image) {
        if (inside) return;
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
    constexpr int STEP = size - (What::template extent<Rows> - Rows::size);
    for (int i = 0; i < HEIGHT; ++i)
        for (int j = 0; j < STEP; ++j) __builtin_prefetch(first + i * patch.row + (AHEAD * STEP + size + j) * patch.C);
    if (c + W > patch.C)
        transform([&](int i, int j) {
            const Real* pixel = patch.inside ? first + i * patch.row + j * patch.C : patch.pixels[i][j] + c;
            return load_part(pixel, patch.C - c);
        });
    else if (patch.inside)
        transform([&](int i, int j) { return load(first + i * patch.row + j * patch.C); });
    else
        transform([&](int i, int j) { return load(patch.pixels[i][j] + c); });
}

// What the input's tiles read, and those of the outputs' gradient.
template <int m, class Real>
Patch<m + 2, Real> input_patch(const typename Tiles<m, Real>::Place& place, const Real* x, const Real* zeros,
                               const Conv& conv) {
    const Real* image = x + place.image * conv.H * conv.W * conv.C;
    return {image, conv.H, conv.W, conv.C, place.h - conv.before, place.w - conv.before, zeros};
}
template <int m, class Real>
Patch<m, Real> upstream_patch(const typename Tiles<m, Real>::Place& place, const Real* dy, const Real* zeros,
                              const Conv& conv) {
    const Real* image = dy + place.image * conv.H_out * conv.W_out * conv.O;
    return {image, conv.H_out, conv.W_out, conv.O, place.h, place.w, zeros};
}

template <int m, class Real>
void input_to_points(const Tiles<m, Real>& tiles, int64_t tile, const Real* x, const Real* zeros, const Conv& conv,
                     Real* to, int64_t stride) {
    const auto place = tiles.place(tile);
    const auto patch = input_patch<m>(place, x, zeros, conv);
    with_shape<m, Real>(place, [&](auto rows, auto columns) {
        for (int64_t c = 0; c < conv.C; c += W)
            patch_to_points<m + 2, Input, decltype(rows), decltype(columns)>(
                patch, c, [&](int p, Vec v) { store(to + p * stride + c, v); });
    });
}

// Number i of a vector of words: of a pair the first waits until the second comes.
inline void store_number(float* to, int, Vec v, HalfVec&) { store(to, v); }
inline void store_number(Pair* to, int i, Vec v, HalfVec& waiting) {
    if (i == 0)
        waiting = rounded(v);
    else
        store_words(to, waiting, rounded(v));
}

// The points of as many tiles as a word has numbers, from ``tile`` on; beyond the last one, zeros.
template <int m, class What, class Real, class PatchOf>
void tiles_to_words(const Tiles<m, Real>& tiles, int64_t tile, int64_t C, const PatchOf& patch_of, Word<Real>* to,
                    int64_t stride) {
    constexpr int n = m + 2, numbers = NUMBERS<Real>;
    const auto place = tiles.place(tile);
    with_shape<m, Real>(place, [&](auto rows, auto columns) {
        using Rows = decltype(rows);
        using Columns = decltype(columns);
        HalfVec waiting[n * n];
        const auto first = patch_of(place), second = patch_of(tiles.place(smaller(tile + 1, tiles.count - 1)));
        for (int64_t c = 0; c < C; c += W) {
            patch_to_points<n, What, Rows, Columns>(
                first, c, [&](int p, Vec v) { store_number(to + p * stride + c, 0, v, waiting[p]); });
            if (numbers > 1 && tile + 1 < tiles.count)
                patch_to_points<n, What, Rows, Columns>(
                    second, c, [&](int p, Vec v) { store_number(to + p * stride + c, 1, v, waiting[p]); });
            else if (numbers > 1)
                for (int p = 0; p < n * n; ++p) store_number(to + p * stride + c, 1, Vec{}, waiting[p]);
        }
    });
}

// Channels first .. last - 1 of a tile of outputs; ``from`` points to the first of them.
template <int m, class Real>
void points_to_output(const Tiles<m, Real>& tiles, int64_t tile, const float* from, int64_t stride, int64_t first,
                      int64_t last, const Epilogue<Real>& epilogue, const Conv& conv) {
    const auto place = tiles.place(tile);
    const auto corner = epilogue.pixel((place.image * conv.H_out + place.h) * conv.W_out + place.w);
    const int64_t high = conv.H_out - place.h, wide = conv.W_out - place.w;
    with_shape<m, Real>(place, [&](auto rows, auto columns) {
        using Rows = decltype(rows);
        using Columns = decltype(columns);
        for (int64_t o = first; o < last; o += W)
            along_both_axes<Rows::size + 2, Columns::size + 2, Rows::size, Columns::size>(
                [](const Vec(&in)[Columns::size + 2], Vec(&out)[Columns::size]) { Columns::output(in, out); },
                [](const Vec(&in)[Rows::size + 2], Vec(&out)[Rows::size]) { Rows::output(in, out); },
                [&](int i, int j) {
                    return load(from + (Rows::points[i] * (m + 2) + Columns::points[j]) * stride + o - first);
                },
                [&](int i, int j, Vec v) {
                    if (i < high && j < wide) corner.moved((i * conv.W_out + j) * conv.O).finish(o, v);
                });
    });
}

// One panel of w (3,3,C,O), the rows first .. last - 1 of words of it, as points, which lie ``stride`` apart in ``to``.
template <int m, class Real>
void filters_to_points(const Real* w, int64_t C, const Panels& panels, int64_t panel, int64_t first, int64_t last,
                       Word<Real>* to, int64_t stride) {
    constexpr int n = m + 2, numbers = NUMBERS<Real>;
    const int64_t O = panels.O;
    auto transform = [](const Vec(&g)[3], Vec(&u)[n]) { Filter<m>::points(g, u); };
    HalfVec waiting[n * n];
    for (int64_t k = first; k < last; ++k)
        for (int j = 0; j < panels.vectors(panel); ++j)
            for (int number = 0; number < numbers; ++number) {
                const int64_t o = panel * NR + j * W, c = k * numbers + number;
                along_both_axes<3, 3, n, n>(
                    transform, transform,
                    [&](int r, int s) { return c < C ? load_part(w + ((r * 3 + s) * C + c) * O + o, O - o) : Vec{}; },
                    [&](int i, int l, Vec v) {
                        const int p = i * n + l;
                        store_number(to + p * stride + k * NR + j * W, number, v, waiting[p]);
                    });
            }
}

// The same in two halves, for filters too large to be points all at once: first along their columns, into
// half (m + 2, C, 3, NR), ...
template <int m, class Real>
void filters_to_rows(const Real* w, int64_t C, const Panels& panels, int64_t panel, float* half) {
    const int64_t O = panels.O;
    for (int64_t c = 0; c < C; ++c)
        for (int s = 0; s < 3; ++s)
            for (int j = 0; j < panels.vectors(panel); ++j) {
                const int64_t o = panel * NR + j * W;
                Vec g[3], u[m + 2];
                for (int r = 0; r < 3; ++r) g[r] = load_part(w + ((r * 3 + s) * C + c) * O + o, O - o);
                Filter<m>::points(g, u);
                for (int i = 0; i < m + 2; ++i) store(half + ((i * C + c) * 3 + s) * NR + j * W, u[i]);
            }
}

// ... then along one row, (C, 3, NR), for the m + 2 points in it.
template <int m, class Real>
void row_to_points(const float* row, int64_t C, const Panels& panels, int64_t panel, Word<Real>* to, int64_t stride) {
    constexpr int numbers = NUMBERS<Real>;
    HalfVec waiting[m + 2];
    for (int64_t k = 0; k < panels.K; ++k)
        for (int j = 0; j < panels.vectors(panel); ++j)
            for (int number = 0; number < numbers; ++number) {
                const int64_t c = k * numbers + number;
                Vec g[3], u[m + 2];
                for (int s = 0; s < 3; ++s) g[s] = c < C ? load(row + (c * 3 + s) * NR + j * W) : Vec{};
                Filter<m>::points(g, u);
                for (int i = 0; i < m + 2; ++i)
                    store_number(to + i * stride + k * NR + j * W, number, u[i], waiting[i]);
            }
}

// Whether all of the filters' points are made at once: for many tiles, or one panel.
template <int m, class Real>
bool are_small(const Panels& panels, const Tiles<m, Real>& tiles) {
    return tiles.points * panels.words() <= SMALL_FILTERS && (tiles.count > FEW_TILES || panels.count() == 1);
}

// All points of small filters: point p of a panel begins at p * panels.words() + panels.start(panel).
template <int m, class Real>
void small_filters_to_points(const Real* w, int64_t C, const Panels& panels, Word<Real>* points) {
    constexpr int64_t ROWS = 16;
    const int64_t parts = ceil_div(panels.K, ROWS);
    parallel_for(panels.count() * parts, [&](int64_t task) {
        const int64_t panel = task / parts, first = task % parts * ROWS;
        filters_to_points<m>(w, C, panels, panel, first, smaller(panels.K, first + ROWS),
                             points + panels.start(panel), panels.words());
    });
}

// All points of large filters, each panel's together: point p of it begins at p * K * NR.
template <int m, class Real>
void large_filters_to_points(const Real* w, int64_t C, const Panels& panels, Word<Real>* points) {
    constexpr int n = m + 2;
    const int64_t size = panels.K * NR;
    parallel_for(panels.count(), [&](int64_t panel) {
        Scratch half(n * 3 * C * NR);
        filters_to_rows<m>(w, C, panels, panel, half);
        for (int row = 0; row < n; ++row)
            row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel,
                                   points + (panel * n * n + row * n) * size, size);
    });
}

template <int m, class Real>
void correlate(const Real* x, const Real* w, const Word<Real>* prepared, const Epilogue<Real>& epilogue,
               const Conv& conv) {
    constexpr int points = Tiles<m, Real>::points;
    const Tiles<m, Real> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, width_in = round_up(C, W), width_out = round_up(conv.O, W);
    const int64_t words_in = words<Real>(width_in);
    const Panels panels{words<Real>(C), conv.O};
    const Zeros<Real> zeros(C);
    if (are_small(panels, tiles)) {
        Scratch<Word<Real>> own(prepared ? 0 : points * panels.words());
        if (!prepared) small_filters_to_points<m>(w, C, panels, static_cast<Word<Real>*>(own));
        const Word<Real>* filters = prepared ? prepared : own;
        const int64_t floats_a_tile = points * (words_in + width_out);
        const int64_t fit = larger(MR, OWN_FLOATS / floats_a_tile / MR * MR);
        const int64_t spread = round_up(ceil_div(tiles.count, 8), MR);  // at least about eight tasks
        const int64_t tasks = round_up(ceil_div(tiles.count, smaller(fit, spread)), threads());
        const int64_t at_once = ceil_div(tiles.count, tasks);
        parallel_for(ceil_div(tiles.count, at_once), [&](int64_t task) {
            const int64_t first = task * at_once, count = smaller(at_once, tiles.count - first);
            const int64_t stride_in = point_stride(count, width_in), stride_out = point_stride(count, width_out);
            Scratch<Real> in(points * stride_in);
            Scratch out(points * stride_out);
            for (int64_t t = 0; t < count; ++t)
                input_to_points<m, Real>(tiles, first + t, x, zeros, conv, in + t * width_in, stride_in);
            for (int p = 0; p < points; ++p) {
                const Part part = tiles.with_point(p, first, count);
                const Word<Real>* rows = as_words(in + p * stride_in + part.skip * width_in);
                for (int64_t panel = 0; panel < panels.count(); ++panel)
                    multiply(part.number, panels.vectors(panel), rows, words_in, panels.K,
                             filters + p * panels.words() + panels.start(panel), NR,
                             out + p * stride_out + part.skip * width_out + panel * NR, width_out);
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * width_out, stride_out, 0, conv.O, epilogue, conv);
        });
        return;
    }
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / (points * words_in) / MR * MR));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, NR);
    Scratch<Real> in(points * stride_in);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        parallel_for(count,
                     [&](int64_t t) { input_to_points<m, Real>(tiles, first + t, x, zeros, conv, in + t * width_in, stride_in); });
        parallel_for(panels.count(), [&](int64_t panel) {
            const int64_t size = panels.K * NR, stride = prepared ? size : point_stride(panels.K, NR);
            Scratch half(prepared ? 0 : (m + 2) * 3 * C * NR);
            Scratch<Word<Real>> own(prepared ? 0 : (m + 2) * stride);
            Scratch out(points * stride_out);
            if (!prepared) filters_to_rows<m>(w, C, panels, panel, half);
            for (int row = 0; row < m + 2; ++row) {
                if (!prepared) row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel, own, stride);
                const Word<Real>* filters = prepared ? prepared + (panel * points + row * (m + 2)) * size : own;
                for (int p = row * (m + 2), j = 0; j < m + 2; ++p, ++j) {
                    const Part part = tiles.with_point(p, first, count);
                    multiply(part.number, panels.vectors(panel), as_words(in + p * stride_in + part.skip * width_in),
                             words_in, panels.K, filters + j * stride, NR, out + p * stride_out + part.skip * NR, NR);
                }
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * NR, stride_out, panel * NR,
                                 panel * NR + panels.width(panel), epilogue, conv);
        });
    }
}

// A block of channels in and out, and where its sums for every point lie: point p of row c at p * points + c * width.
struct Block {
    int64_t first_c, last_c, first_o, last_o;
    int64_t points, width;
};

// One point's part of the weight gradient for some rows of tiles: sum = or += in^T upstream, for a block of channels.
template <class Word>
void multiply_points(const Word* in, int64_t width_in, const Word* upstream, int64_t width_out, const Part& rows,
                     const Block& block, float* sum, bool accumulate) {
    multiply_transposed(block.last_c - block.first_c, round_up(block.last_o - block.first_o, W),
                        in + rows.skip * width_in + block.first_c, width_in, rows.number,
                        upstream + rows.skip * width_out + block.first_o, width_out, sum, block.width, accumulate);
}

// The weight gradient of a block from its sums; slices of them, ``slice_stride`` apart, are added in order.
template <int m>
void points_to_filters(const float* sums, const Block& block, int64_t slices, int64_t slice_stride, const Conv& conv,
                       float* dw) {
    constexpr int n = m + 2;
    auto adjoint = [](const Vec(&du)[n], Vec(&dg)[3]) { Filter<m>::adjoint(du, dg); };
    for (int64_t c = block.first_c; c < block.last_c; ++c)
        for (int64_t o = block.first_o; o < block.last_o; o += W)
            along_both_axes<n, n, 3, 3>(
                adjoint, adjoint,
                [&](int i, int j) {
                    const float* at =
                        sums + (i * n + j) * block.points + (c - block.first_c) * block.width + o - block.first_o;
                    Vec total = load(at);
                    for (int64_t slice = 1; slice < slices; ++slice) total += load(at + slice * slice_stride);
                    return total;
                },
                [&](int r, int s, Vec v) { store_part(dw + ((r * 3 + s) * conv.C + c) * conv.O + o, v, conv.O - o); });
}

template <int m, class Real>
void weight_gradient(const Real* dy, const Real* x, float* dw, const Conv& conv) {
    constexpr int points = Tiles<m, Real>::points, numbers = NUMBERS<Real>;
    const Tiles<m, Real> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, O = conv.O;
    const int64_t width_in = round_up(C, W), width_out = round_up(O, W);
    const int64_t words_a_row = points * (width_in + width_out), all_rows = ceil_div(tiles.count, numbers);
    const Zeros<Real> zeros(larger(C, O));
    using Place = typename Tiles<m, Real>::Place;
    // row ``row`` of words, which lie at ``in`` and ``upstream``
    auto row_to_points = [&](int64_t row, Word<Real>* in, int64_t stride_in, Word<Real>* upstream, int64_t stride_out) {
        tiles_to_words<m, Input, Real>(
            tiles, row * numbers, C, [&](const Place& place) { return input_patch<m, Real>(place, x, zeros, conv); },
            in, stride_in);
        tiles_to_words<m, Upstream, Real>(
            tiles, row * numbers, O, [&](const Place& place) { return upstream_patch<m, Real>(place, dy, zeros, conv); },
            upstream, stride_out);
    };
    // those of so many rows that have point p: only rows of one tile may have none
    auto with_point = [&](int p, int64_t first, int64_t count) {
        return numbers == 1 ? tiles.with_point(p, first, count) : Part{0, count};
    };

    if (points * C * width_out <= SMALL_SUMS) {
        const Block all{0, C, 0, O, C * width_out, width_out};
        const int64_t slices = smaller(SLICES, ceil_div(all_rows, SLICE_TILES)), slice_stride = points * all.points;
        const int64_t at_once = larger(MR, OWN_FLOATS / words_a_row);
        Scratch sums(slices * slice_stride);
        parallel_for(slices, [&](int64_t slice) {
            const int64_t begin = slice * all_rows / slices, end = (slice + 1) * all_rows / slices;
            const int64_t rounds = ceil_div(end - begin, at_once), most = ceil_div(end - begin, rounds);
            const int64_t stride_in = point_stride(most, width_in), stride_out = point_stride(most, width_out);
            Scratch<Word<Real>> in(points * stride_in), upstream(points * stride_out);
            for (int64_t round = 0; round < rounds; ++round) {
                const int64_t first = begin + round * (end - begin) / rounds;
                const int64_t count = begin + (round + 1) * (end - begin) / rounds - first;
                for (int64_t t = 0; t < count; ++t)
                    row_to_points(first + t, in + t * width_in, stride_in, upstream + t * width_out, stride_out);
                for (int p = 0; p < points; ++p)
                    multiply_points<Word<Real>>(in + p * stride_in, width_in, upstream + p * stride_out, width_out,
                                                with_point(p, first, count), all,
                                                sums + slice * slice_stride + p * all.points, round > 0);
            }
        });
        constexpr int64_t ROWS = 4;
        parallel_for(ceil_div(C, ROWS), [&](int64_t task) {
            const Block rows{task * ROWS, smaller(C, (task + 1) * ROWS), 0, O, all.points, width_out};
            points_to_filters<m>(sums + task * ROWS * width_out, rows, slices, slice_stride, conv, dw);
        });
        return;
    }
    constexpr int64_t ROWS = 48, COLUMNS = 64, BLOCK = points * ROWS * COLUMNS;
    const int64_t at_once = smaller(all_rows, larger(4 * MR, SHARED_FLOATS / words_a_row));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, width_out);
    const int64_t columns = ceil_div(O, COLUMNS), blocks = ceil_div(C, ROWS) * columns;
    const bool one_round = at_once == all_rows;  // then a block's sums are needed only while it is at work
    Scratch<Word<Real>> in(points * stride_in), upstream(points * stride_out);
    Scratch sums(one_round ? 0 : blocks * BLOCK);
    for (int64_t first = 0; first < all_rows; first += at_once) {
        const int64_t count = smaller(at_once, all_rows - first);
        parallel_for(count, [&](int64_t t) {
            row_to_points(first + t, in + t * width_in, stride_in, upstream + t * width_out, stride_out);
        });
        parallel_for(blocks, [&](int64_t task) {
            const int64_t c = task / columns * ROWS, o = task % columns * COLUMNS;
            const Block block{c, smaller(C, c + ROWS), o, smaller(O, o + COLUMNS), ROWS * COLUMNS, COLUMNS};
            Scratch own(one_round ? BLOCK : 0);
            float* sum = one_round ? static_cast<float*>(own) : sums + task * BLOCK;
            for (int p = 0; p < points; ++p)
                multiply_points<Word<Real>>(in + p * stride_in, width_in, upstream + p * stride_out, width_out,
                                            with_point(p, first, count), block, sum + p * block.points, first > 0);
            if (first + count == all_rows) points_to_filters<m>(sum, block, 1, 0, conv, dw);
        });
    }
}

template <int m, class Real>
void all_points(const Real* w, Word<Real>* points, const Conv& conv) {
    const Panels panels{words<Real>(conv.C), conv.O};
    if (are_small(panels, Tiles<m, Real>(conv.N, conv.H_out, conv.W_out)))
        small_filters_to_points<m>(w, conv.C, panels, points);
    else
        large_filters_to_points<m>(w, conv.C, panels, points);
}

// Multiply-adds a channel pair, of the products and, in the same unit, of making the filters' points.
template <int m, class Real>
struct Cost {
    static constexpr int64_t making = m == 4 ? 360 : 190;
    int64_t products;

    explicit Cost(const Conv& conv)
        : products(conv.N * Axis<m, Real>(conv.H_out).points() * Axis<m, Real>(conv.W_out).points()) {}
    int64_t all() const { return products + making; }
    bool is_mostly_products() const { return 20 * making < all(); }
};

}  // namespace

template <class Real>
int winograd_tile(const Conv& conv) {
    if (conv.R != 3 || conv.S != 3 || conv.stride != 1 || conv.before > 2) return 0;
    if (conv.version != Conv2dVersion::fastest)
        return conv.version == Conv2dVersion::winograd_4 ? 4 : conv.version == Conv2dVersion::winograd_2 ? 2 : 0;
    if (conv.C < 8 || conv.O < 8) return 0;  // then the transforms cost more than they save
    const int64_t direct = 9 * conv.N * conv.H_out * conv.W_out;
    const int64_t four = Cost<4, Real>(conv).all(), two = Cost<2, Real>(conv).all();
    const int64_t least = NUMBERS<Real> > 1 || two < four ? two : four;  // in bfloat16 four loses too many digits
    // where both take as long, as for one image of 7x7, tiles: they gain from filters prepared before
    if (20 * least > 21 * direct) return 0;
    return least == two ? 2 : 4;
}

template <class Real>
void winograd_correlate(int tile, const Real* x, const Real* w, const Word<Real>* points,
                        const Epilogue<Real>& epilogue, const Conv& conv) {
    tile == 4 ? correlate<4>(x, w, points, epilogue, conv) : correlate<2>(x, w, points, epilogue, conv);
}

template <class Real>
void winograd_points(int tile, const Real* w, Word<Real>* points, const Conv& conv) {
    tile == 4 ? all_points<4>(w, points, conv) : all_points<2>(w, points, conv);
}

template <class Real>
int64_t winograd_points_worth_keeping(int tile, const Conv& conv) {
    if (tile == 4 ? Cost<4, Real>(conv).is_mostly_products() : Cost<2, Real>(conv).is_mostly_products()) return 0;
    return (tile + 2) * (tile + 2) * Panels{words<Real>(conv.C), conv.O}.words();
}

template <class Real>
void winograd_weight_gradient(int tile, const Real* dy, const Real* x, float* dw, const Conv& conv) {
    tile == 4 ? weight_gradient<4>(dy, x, dw, conv) : weight_gradient<2>(dy, x, dw, conv);
}

#define WINOGRAD(Real)                                                                          \
    template decltype(winograd_tile<Real>) winograd_tile<Real>;                                 \
    template decltype(winograd_correlate<Real>) winograd_correlate<Real>;                       \
    template decltype(winograd_points<Real>) winograd_points<Real>;                             \
    template decltype(winograd_points_worth_keeping<Real>) winograd_points_worth_keeping<Real>; \
    template decltype(winograd_weight_gradient<Real>) winograd_weight_gradient<Real>;
WINOGRAD(float)
#ifndef __wasm__
WINOGRAD(bfloat16)
#endif

TINYDIFF_END
