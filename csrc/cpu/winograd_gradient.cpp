// The weight gradient of 3x3 convolutions with stride 1 by minimal filtering; winograd.h has the mathematics.
//
// Points of inputs and of the outputs' gradient, one transposed matrix product a point (channels in x tiles times tiles
// x channels out), points to filters: a few tiles of a slice at a time where the sums are small, else many tiles by all
// threads and then a block of channels a task. Slices are added in their order.
//
// Where activations are bfloat16, points are too, by F(2x2, 3x3). Tried with integers and F(4x4, 3x3), the scales found by
// transforming all tiles of a round once more: a backward took 0.75 of the time at (16,7,7,256) to 256 channels, but 1.1
// at (16,28,28,64) to 64 (AMD EPYC with AVX512-BF16, one thread, 2026-11).
#include "memory.h"
#include "parallel.h"
#include "winograd_tiles.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SMALL_SUMS = 160 << 10;          // floats of a small weight gradient's points,
constexpr int64_t SLICES = 8;                      // of tiles, with small sums,
constexpr int64_t SLICE_TILES = W == 16 ? 12 : 6;  // at least in each; not MR, or bits would depend on it

// The points of as many tiles as a word has numbers, from ``tile`` on; beyond the last one, zeros.
template <int m, class What, class Real, class PatchOf>
void tiles_to_words(const Tiles<m>& tiles, int64_t tile, int64_t C, const PatchOf& patch_of, Word<Real>* to,
                    int64_t stride) {
    constexpr int n = m + 2;
    const auto place = tiles.place(tile);
    const auto first = patch_of(place);
    if constexpr (NUMBERS<Real> == 1) {
        tile_to_points<m, What>(place, first, C, [&](int p, int64_t c, Vec v) { store(to + p * stride + c, v); });
    } else {
        const bool paired = tile + 1 < tiles.count;
        const auto second = paired ? patch_of(tiles.place(tile + 1)) : first;
        with_shape<m>(place, [&](auto rows, auto columns) {
            using Rows = decltype(rows);
            using Columns = decltype(columns);
            HalfVec waiting[n * n];
            for (int64_t c = 0; c < C; c += W) {
                patch_to_points<n, What, Rows, Columns>(first, c, [&](int p, Vec v) { waiting[p] = rounded(v); });
                if (paired)
                    patch_to_points<n, What, Rows, Columns>(
                        second, c, [&](int p, Vec v) { store_words(to + p * stride + c, waiting[p], rounded(v)); });
                else
                    for (int p = 0; p < n * n; ++p) store_words(to + p * stride + c, waiting[p], HalfVec{});
            }
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
    constexpr int points = Tiles<m>::points, numbers = NUMBERS<Real>;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, O = conv.O;
    const int64_t width_in = round_up(C, W), width_out = round_up(O, W);
    const int64_t words_a_row = points * (width_in + width_out), all_rows = ceil_div(tiles.count, numbers);
    const Zeros<Real> zeros(larger(C, O));
    using Place = typename Tiles<m>::Place;
    // row ``row`` of words, which lie at ``in`` and ``upstream``
    auto row_to_points = [&](int64_t row, Word<Real>* in, int64_t stride_in, Word<Real>* upstream, int64_t stride_out) {
        tiles_to_words<m, Input, Real>(
            tiles, row * numbers, C, [&](const Place& place) { return input_patch<m, Real>(place, x, zeros, conv); },
            in, stride_in);
        tiles_to_words<m, Upstream, Real>(
            tiles, row * numbers, O,
            [&](const Place& place) { return upstream_patch<m, Real>(place, dy, zeros, conv); }, upstream, stride_out);
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

}  // namespace

template <class Real>
void winograd_weight_gradient(int tile, const Real* dy, const Real* x, float* dw, const Conv& conv) {
    if constexpr (NUMBERS<Real> == 1)
        tile == 4 ? weight_gradient<4>(dy, x, dw, conv) : weight_gradient<2>(dy, x, dw, conv);
    else  // by four, with points in bfloat16, it would lose too many digits
        weight_gradient<2>(dy, x, dw, conv);
}

TINYDIFF_IN_BOTH(winograd_weight_gradient)

TINYDIFF_END
