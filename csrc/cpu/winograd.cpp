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
constexpr int64_t SLICES = 8;                      // of tiles, with small sums,
constexpr int64_t SLICE_TILES = W == 16 ? 12 : 6;  // at least in each; not MR, or bits would depend on it

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
        const int64_t index = tile - begin[shape];
        return {index / (high * wide), rows.start(index / wide % high + (is_short ? rows.full : 0)),
                columns.start(index % wide + (is_narrow ? columns.full : 0)), is_short, is_narrow};
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

// One image (H, W_image, C), and the pixel where a tile begins to read; outside the image there are zeros.
struct Corner {
    const float* image;
    int64_t H, W_image, C, h, w;
};

template <int n, class What, class Rows, class Columns>
void rectangle_to_points(const Corner& corner, float* to, int64_t stride) {
    constexpr int HEIGHT = What::template extent<Rows>, WIDTH = What::template extent<Columns>;
    const int64_t C = corner.C, h0 = corner.h, w0 = corner.w, row = corner.W_image * C;
    const bool inside = h0 >= 0 && w0 >= 0 && h0 + HEIGHT <= corner.H && w0 + WIDTH <= corner.W_image;
    const float* first = corner.image + h0 * row + w0 * C;
    auto transform = [&](int64_t c, const auto& read) {
        along_both_axes<HEIGHT, WIDTH, Rows::size + 2, Columns::size + 2>(
            [](const Vec(&in)[WIDTH], Vec(&out)[Columns::size + 2]) { What::template transform<Columns>(in, out); },
            [](const Vec(&in)[HEIGHT], Vec(&out)[Rows::size + 2]) { What::template transform<Rows>(in, out); }, read,
            [&](int i, int j, Vec v) { store(to + (Rows::points[i] * n + Columns::points[j]) * stride + c, v); });
    };
    int64_t c = 0;
    if (inside)
        for (; c + W <= C; c += W) transform(c, [&](int i, int j) { return load(first + i * row + j * C + c); });
    for (; c < C; c += W)
        transform(c, [&](int i, int j) {
            const bool there = h0 + i >= 0 && h0 + i < corner.H && w0 + j >= 0 && w0 + j < corner.W_image;
            return there ? load_part(first + i * row + j * C + c, C - c) : Vec{};
        });
}

template <int m>
void input_to_points(const Tiles<m>& tiles, int64_t tile, const float* x, const Conv& conv, float* to, int64_t stride) {
    const auto place = tiles.place(tile);
    const Corner corner{x + place.image * conv.H * conv.W * conv.C,
                        conv.H,
                        conv.W,
                        conv.C,
                        place.h - conv.before,
                        place.w - conv.before};
    with_shape<m>(place, [&](auto rows, auto columns) {
        rectangle_to_points<m + 2, Input, decltype(rows), decltype(columns)>(corner, to, stride);
    });
}

template <int m>
void upstream_to_points(const Tiles<m>& tiles, int64_t tile, const float* dy, const Conv& conv, float* to,
                        int64_t stride) {
    const auto place = tiles.place(tile);
    const Corner corner{
        dy + place.image * conv.H_out * conv.W_out * conv.O, conv.H_out, conv.W_out, conv.O, place.h, place.w};
    with_shape<m>(place, [&](auto rows, auto columns) {
        rectangle_to_points<m + 2, Upstream, decltype(rows), decltype(columns)>(corner, to, stride);
    });
}

// Channels first .. last - 1 of a tile of outputs; ``from`` points to the first of them.
template <int m>
void points_to_output(const Tiles<m>& tiles, int64_t tile, const float* from, int64_t stride, int64_t first,
                      int64_t last, const Epilogue& epilogue, const Conv& conv) {
    const auto place = tiles.place(tile);
    const int64_t corner = (place.image * conv.H_out + place.h) * conv.W_out + place.w;
    Epilogue::Pixel pixels[m][m];
    bool there[m][m];
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j) {
            there[i][j] = place.h + i < conv.H_out && place.w + j < conv.W_out;
            if (there[i][j]) pixels[i][j] = epilogue.pixel(corner + i * conv.W_out + j);
        }
    with_shape<m>(place, [&](auto rows, auto columns) {
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
                    if (there[i][j]) pixels[i][j].finish(o, v);
                });
    });
}

// One panel of w (3,3,C,O), the rows first .. last - 1 of it, as points, which lie ``stride`` apart in ``to``.
template <int m>
void filters_to_points(const float* w, const Panels& panels, int64_t panel, int64_t first, int64_t last, float* to,
                       int64_t stride) {
    constexpr int n = m + 2;
    const int64_t C = panels.K, O = panels.O;
    auto transform = [](const Vec(&g)[3], Vec(&u)[n]) { Filter<m>::points(g, u); };
    for (int64_t c = first; c < last; ++c)
        for (int j = 0; j < panels.vectors(panel); ++j) {
            const int64_t o = panel * NR + j * W;
            along_both_axes<3, 3, n, n>(
                transform, transform, [&](int r, int s) { return load_part(w + ((r * 3 + s) * C + c) * O + o, O - o); },
                [&](int i, int k, Vec v) { store(to + (i * n + k) * stride + c * NR + j * W, v); });
        }
}

// The same in two halves, for filters too large to be points all at once: first along their columns, into
// half (m + 2, C, 3, NR), ...
template <int m>
void filters_to_rows(const float* w, const Panels& panels, int64_t panel, float* half) {
    const int64_t C = panels.K, O = panels.O;
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
template <int m>
void row_to_points(const float* row, const Panels& panels, int64_t panel, float* to, int64_t stride) {
    for (int64_t c = 0; c < panels.K; ++c)
        for (int j = 0; j < panels.vectors(panel); ++j) {
            Vec g[3], u[m + 2];
            for (int s = 0; s < 3; ++s) g[s] = load(row + (c * 3 + s) * NR + j * W);
            Filter<m>::points(g, u);
            for (int i = 0; i < m + 2; ++i) store(to + i * stride + c * NR + j * W, u[i]);
        }
}

// Whether all of the filters' points are made at once: for many tiles, or one panel.
template <int m>
bool are_small(const Panels& panels, const Tiles<m>& tiles) {
    return Tiles<m>::points * panels.floats() <= SMALL_FILTERS && (tiles.count > FEW_TILES || panels.count() == 1);
}

// All points of small filters: point p of a panel begins at p * panels.floats() + panels.start(panel).
template <int m>
void small_filters_to_points(const float* w, const Panels& panels, float* points) {
    constexpr int64_t ROWS = 16;
    const int64_t parts = ceil_div(panels.K, ROWS);
    parallel_for(panels.count() * parts, [&](int64_t task) {
        const int64_t panel = task / parts, first = task % parts * ROWS;
        filters_to_points<m>(w, panels, panel, first, smaller(panels.K, first + ROWS), points + panels.start(panel),
                             panels.floats());
    });
}

// All points of large filters, each panel's together: point p of it begins at p * K * NR.
template <int m>
void large_filters_to_points(const float* w, const Panels& panels, float* points) {
    const int64_t size = panels.K * NR;
    parallel_for(panels.count(), [&](int64_t panel) {
        Scratch half((m + 2) * 3 * size);
        filters_to_rows<m>(w, panels, panel, half);
        for (int row = 0; row < m + 2; ++row)
            row_to_points<m>(half + row * 3 * size, panels, panel,
                             points + (panel * Tiles<m>::points + row * (m + 2)) * size, size);
    });
}

template <int m>
void correlate(const float* x, const float* w, const float* prepared, const Epilogue& epilogue, const Conv& conv) {
    constexpr int points = Tiles<m>::points;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t width_in = round_up(conv.C, W), width_out = round_up(conv.O, W);
    const Panels panels{conv.C, conv.O};
    if (are_small(panels, tiles)) {
        Scratch own(prepared ? 0 : points * panels.floats());
        if (!prepared) small_filters_to_points<m>(w, panels, own);
        const float* filters = prepared ? prepared : own;
        const int64_t floats_a_tile = points * (width_in + width_out);
        const int64_t fit = larger(MR, OWN_FLOATS / floats_a_tile / MR * MR);
        const int64_t spread = round_up(ceil_div(tiles.count, 8), MR);  // at least about eight tasks
        const int64_t tasks = round_up(ceil_div(tiles.count, smaller(fit, spread)), threads());
        const int64_t at_once = ceil_div(tiles.count, tasks);
        parallel_for(ceil_div(tiles.count, at_once), [&](int64_t task) {
            const int64_t first = task * at_once, count = smaller(at_once, tiles.count - first);
            const int64_t stride_in = point_stride(count, width_in), stride_out = point_stride(count, width_out);
            Scratch in(points * stride_in), out(points * stride_out);
            for (int64_t t = 0; t < count; ++t)
                input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
            for (int p = 0; p < points; ++p) {
                const Part part = tiles.with_point(p, first, count);
                for (int64_t panel = 0; panel < panels.count(); ++panel)
                    multiply(part.number, panels.vectors(panel), in + p * stride_in + part.skip * width_in, width_in,
                             conv.C, filters + p * panels.floats() + panels.start(panel), NR,
                             out + p * stride_out + part.skip * width_out + panel * NR, width_out);
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * width_out, stride_out, 0, conv.O, epilogue, conv);
        });
        return;
    }
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / (points * width_in) / MR * MR));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, NR);
    Scratch in(points * stride_in);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        parallel_for(count,
                     [&](int64_t t) { input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in); });
        parallel_for(panels.count(), [&](int64_t panel) {
            const int64_t size = conv.C * NR, stride = prepared ? size : point_stride(conv.C, NR);
            Scratch half(prepared ? 0 : (m + 2) * 3 * size), own(prepared ? 0 : (m + 2) * stride);
            Scratch out(points * stride_out);
            if (!prepared) filters_to_rows<m>(w, panels, panel, half);
            for (int row = 0; row < m + 2; ++row) {
                if (!prepared) row_to_points<m>(half + row * 3 * size, panels, panel, own, stride);
                const float* filters = prepared ? prepared + (panel * points + row * (m + 2)) * size : own;
                for (int p = row * (m + 2), j = 0; j < m + 2; ++p, ++j) {
                    const Part part = tiles.with_point(p, first, count);
                    multiply(part.number, panels.vectors(panel), in + p * stride_in + part.skip * width_in, width_in,
                             conv.C, filters + j * stride, NR, out + p * stride_out + part.skip * NR, NR);
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

// One point's part of the weight gradient for some tiles: sum = or += in^T upstream, for a block of channels.
void multiply_points(const float* in, int64_t width_in, const float* upstream, int64_t width_out, const Part& tiles,
                     const Block& block, float* sum, bool accumulate) {
    const Run run{in + tiles.skip * width_in + block.first_c, upstream + tiles.skip * width_out + block.first_o,
                  tiles.number};
    multiply_transposed(block.last_c - block.first_c, round_up(block.last_o - block.first_o, W), &run, 1, width_in,
                        width_out, sum, block.width, accumulate);
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

template <int m>
void weight_gradient(const float* dy, const float* x, float* dw, const Conv& conv) {
    constexpr int points = Tiles<m>::points;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, O = conv.O;
    const int64_t width_in = round_up(C, W), width_out = round_up(O, W);
    const int64_t floats_a_tile = points * (width_in + width_out);

    if (points * C * width_out <= SMALL_SUMS) {
        const Block all{0, C, 0, O, C * width_out, width_out};
        const int64_t slices = smaller(SLICES, ceil_div(tiles.count, SLICE_TILES)), slice_stride = points * all.points;
        const int64_t at_once = larger(MR, OWN_FLOATS / floats_a_tile);
        Scratch sums(slices * slice_stride);
        parallel_for(slices, [&](int64_t slice) {
            const int64_t begin = slice * tiles.count / slices, end = (slice + 1) * tiles.count / slices;
            const int64_t rounds = ceil_div(end - begin, at_once), most = ceil_div(end - begin, rounds);
            const int64_t stride_in = point_stride(most, width_in), stride_out = point_stride(most, width_out);
            Scratch in(points * stride_in), upstream(points * stride_out);
            for (int64_t round = 0; round < rounds; ++round) {
                const int64_t first = begin + round * (end - begin) / rounds;
                const int64_t count = begin + (round + 1) * (end - begin) / rounds - first;
                for (int64_t t = 0; t < count; ++t) {
                    input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
                    upstream_to_points(tiles, first + t, dy, conv, upstream + t * width_out, stride_out);
                }
                for (int p = 0; p < points; ++p)
                    multiply_points(in + p * stride_in, width_in, upstream + p * stride_out, width_out,
                                    tiles.with_point(p, first, count), all,
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
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / floats_a_tile));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, width_out);
    const int64_t columns = ceil_div(O, COLUMNS), blocks = ceil_div(C, ROWS) * columns;
    const bool one_round = at_once == tiles.count;  // then a block's sums are needed only while it is at work
    Scratch in(points * stride_in), upstream(points * stride_out), sums(one_round ? 0 : blocks * BLOCK);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        parallel_for(count, [&](int64_t t) {
            input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
            upstream_to_points(tiles, first + t, dy, conv, upstream + t * width_out, stride_out);
        });
        parallel_for(blocks, [&](int64_t task) {
            const int64_t c = task / columns * ROWS, o = task % columns * COLUMNS;
            const Block block{c, smaller(C, c + ROWS), o, smaller(O, o + COLUMNS), ROWS * COLUMNS, COLUMNS};
            Scratch own(one_round ? BLOCK : 0);
            float* sum = one_round ? static_cast<float*>(own) : sums + task * BLOCK;
            for (int p = 0; p < points; ++p)
                multiply_points(in + p * stride_in, width_in, upstream + p * stride_out, width_out,
                                tiles.with_point(p, first, count), block, sum + p * block.points, first > 0);
            if (first + count == tiles.count) points_to_filters<m>(sum, block, 1, 0, conv, dw);
        });
    }
}

template <int m>
void all_points(const float* w, float* points, const Conv& conv) {
    const Panels panels{conv.C, conv.O};
    if (are_small(panels, Tiles<m>(conv.N, conv.H_out, conv.W_out)))
        small_filters_to_points<m>(w, panels, points);
    else
        large_filters_to_points<m>(w, panels, points);
}

// Multiply-adds a channel pair, of the products and, in the same unit, of making the filters' points.
template <int m>
struct Cost {
    static constexpr int64_t making = m == 4 ? 360 : 190;
    int64_t products;

    explicit Cost(const Conv& conv)
        : products(conv.N * Axis<m>(conv.H_out).points() * Axis<m>(conv.W_out).points()) {}
    int64_t all() const { return products + making; }
    bool is_mostly_products() const { return 20 * making < all(); }
};

}  // namespace

int winograd_tile(const Conv& conv) {
    if (conv.R != 3 || conv.S != 3 || conv.stride != 1 || conv.before > 2) return 0;
    if (conv.version != Conv2dVersion::fastest)
        return conv.version == Conv2dVersion::winograd_4 ? 4 : conv.version == Conv2dVersion::winograd_2 ? 2 : 0;
    if (conv.C < 8 || conv.O < 8) return 0;  // then the transforms cost more than they save
    const int64_t direct = 9 * conv.N * conv.H_out * conv.W_out;
    const int64_t four = Cost<4>(conv).all(), two = Cost<2>(conv).all();
    // where both take as long, as for one image of 7x7, tiles: they gain from filters prepared before
    if (20 * smaller(four, two) > 21 * direct) return 0;
    return four <= two ? 4 : 2;
}

void winograd_correlate(int tile, const float* x, const float* w, const float* points, const Epilogue& epilogue,
                        const Conv& conv) {
    tile == 4 ? correlate<4>(x, w, points, epilogue, conv) : correlate<2>(x, w, points, epilogue, conv);
}

void winograd_points(int tile, const float* w, float* points, const Conv& conv) {
    tile == 4 ? all_points<4>(w, points, conv) : all_points<2>(w, points, conv);
}

int64_t winograd_points_worth_keeping(int tile, const Conv& conv) {
    if (tile == 4 ? Cost<4>(conv).is_mostly_products() : Cost<2>(conv).is_mostly_products()) return 0;
    return (tile + 2) * (tile + 2) * Panels{conv.C, conv.O}.floats();
}

void winograd_weight_gradient(int tile, const float* dy, const float* x, float* dw, const Conv& conv) {
    tile == 4 ? weight_gradient<4>(dy, x, dw, conv) : weight_gradient<2>(dy, x, dw, conv);
}

TINYDIFF_END
