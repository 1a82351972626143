// The matrix product under a direct convolution (conv2d.cpp, conv2d_gradient.cpp), whose left operand is never made
// whole: how its rows are reached, and what lies under the taps of a filter.
#pragma once

#include "conv2d.h"
#include "gemm.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN

constexpr int64_t BLOCK_PIXELS = 8 * MR;  // output pixels of a task
constexpr int64_t ROWS_AT_ONCE = 144;     // of a panel: with few channels all of a 3x3 filter
constexpr int64_t FEW_CHANNELS = W;       // of a pixel, too few for a loop of their own
constexpr int64_t FEW_PIXELS = 24;        // in bfloat16, to meet a matrix that is not packed

// 1x1, stride 1, no padding: pixel m of y needs pixel m of x alone
inline bool is_flat(const Conv& conv) {
    return conv.R == 1 && conv.S == 1 && conv.stride == 1 && conv.before == 0 && conv.H_out == conv.H &&
           conv.W_out == conv.W;
}

// How a block's pixels are reached: as rows one after another; through pointers, a set of them a segment; or in a copy,
// all segments of a pixel in one row.
enum class Reach { dense, gathered, copied };

// The left operand where its rows lie one after another.
template <class Real>
struct Dense {
    const Real* rows;
    int64_t C;
    int64_t pixel(int64_t m) const { return m; }
    const Real* row(int64_t m, int64_t) const { return rows + m * C; }
};

// The right operand, C rows a segment and O columns: panels of words in which each segment begins anew, or where every
// row is used only once or so the matrix as it stands.
template <class Real>
struct Matrix {
    int64_t segments, C, O;
    const Real* plain;         // or null
    const Word<Real>* packed;  // where it was made before, or null

    Panels panels() const { return {segments * words<Real>(C), O}; }
    // whether, if it were there, the matrix as it stands would be better than packing it
    bool is_better_plain(int64_t pixels) const {
        return O % W == 0 && pixels <= (NUMBERS<Real> == 1 ? BLOCK_PIXELS : FEW_PIXELS);
    }
};

// Filters w (R, S, C, O) as the right operand; w and what was packed of it before may be null.
template <class Real>
Matrix<Real> matrix_of(const Conv& conv, const Real* w = nullptr, const Word<Real>* packed = nullptr) {
    return {conv.R * conv.S, conv.C, conv.O, w, packed};
}

// What is known of a product when its operands are. ``Unit`` is what it multiplies: words, or single numbers.
template <class Unit>
struct Operands {
    int64_t pixels, segments, K;  // units a segment
    Panels panels;
    const Unit* b;  // row k of a panel begins at b + panel * panel_stride + k * ldb
    int64_t panel_stride, ldb;
};

// A task is a block of pixels and some panels. It takes a panel some rows at a time, which stay in first-level cache
// while all its pixels meet them; meanwhile the pixels' sums lie in a block of memory beside them.
template <Reach reach, class Unit, class Rows, class Store>
void multiply_blocks(const Rows& a, const Operands<Unit>& of, const Store& store_vector) {
    const Panels& panels = of.panels;
    const int64_t segments = of.segments, K = of.K, all = segments * K;
    const int64_t blocks = ceil_div(of.pixels, BLOCK_PIXELS);
    // all panels in one task when there are blocks enough: then the block's pixels are found once
    const int64_t panels_per_task = blocks >= 8 ? panels.count() : 1;
    const int64_t panel_tasks = ceil_div(panels.count(), panels_per_task);
    parallel_for(blocks * panel_tasks, [&](int64_t task) {
        const int64_t first = task / panel_tasks * BLOCK_PIXELS;
        const int64_t count = smaller(BLOCK_PIXELS, of.pixels - first);
        const RowGroups groups(count);
        Scratch<const Unit*> rows(reach == Reach::gathered ? (groups.count * MR + 1) * segments : 0);
        const Unit** b = rows + groups.count * MR * segments;
        Scratch<Unit> copy(reach == Reach::copied ? count * all : 0);
        float sums[BLOCK_PIXELS * NR];

        const Unit* dense = copy;
        if constexpr (reach == Reach::dense) {
            dense = reinterpret_cast<const Unit*>(a.row(first, 0));
        } else if constexpr (reach == Reach::gathered) {
            for (int64_t g = 0; g < groups.count; ++g)
                for (int i = 0; i < groups.size(g); ++i) {
                    const auto pixel = a.pixel(first + groups.start(g) + i);
                    for (int64_t s = 0; s < segments; ++s)
                        rows[(g * segments + s) * MR + i] = reinterpret_cast<const Unit*>(a.row(pixel, s));
                }
        } else {
            for (int64_t m = 0; m < count; ++m) {
                const auto pixel = a.pixel(first + m);
                for (int64_t s = 0; s < segments; ++s) {
                    Unit* to = copy + m * all + s * K;
                    to[K - 1] = Unit{};  // of a pair maybe only half is there
                    std::memcpy(to, a.row(pixel, s), a.C * sizeof *a.rows);
                }
            }
        }
        const int64_t last = smaller((task % panel_tasks + 1) * panels_per_task, panels.count());
        for (int64_t panel = task % panel_tasks * panels_per_task; panel < last; ++panel) {
            const Unit* from = of.b + panel * of.panel_stride;
            const int vectors = panels.vectors(panel);
            if constexpr (reach == Reach::gathered) {
                const int64_t parts = larger(1, ceil_div(all, ROWS_AT_ONCE)),
                              at_once = larger(1, ceil_div(segments, parts));
                for (int64_t s = 0; s < segments; ++s) b[s] = from + s * K * of.ldb;
                for (int64_t s = 0; s < larger(1, segments); s += at_once)
                    for (int64_t g = 0; g < groups.count; ++g)
                        multiply_gathered(groups.size(g), vectors, smaller(at_once, segments - s),
                                          rows + (g * segments + s) * MR, b + s, K, of.ldb, sums + groups.start(g) * NR,
                                          NR, s > 0);
            } else {
                for (int64_t k = 0; k < larger(1, all); k += ROWS_AT_ONCE)  // of no row at all the sums are 0
                    multiply(count, vectors, dense + k, all, smaller(ROWS_AT_ONCE, all - k), from + k * of.ldb, of.ldb,
                             sums, NR, k > 0);
            }
            for (int64_t m = 0; m < count; ++m)
                for (int j = 0; j < vectors; ++j)
                    store_vector(first + m, panel * NR + j * W, load(sums + m * NR + j * W));
        }
    });
}

// result[pixel] = sum over segments s of  a.row(pixel, s) (C numbers)  times  the C rows of the matrix that belong to
// it; store(pixel, column, vector) takes it. ``pack_panel(panel, to)`` makes a panel.
template <Reach reach, class Real, class Rows, class Pack, class Store>
void product(int64_t pixels, const Rows& a, const Matrix<Real>& matrix, const Pack& pack_panel,
             const Store& store_vector) {
    const Panels panels = matrix.panels();
    const int64_t segments = matrix.segments;
    if (matrix.plain && !matrix.packed && matrix.is_better_plain(pixels)) {
        multiply_blocks<reach>(a, Operands<Real>{pixels, segments, matrix.C, panels, matrix.plain, NR, matrix.O},
                               store_vector);
        return;
    }
    Scratch<Word<Real>> own(matrix.packed ? 0 : panels.words());
    if (!matrix.packed)
        parallel_for(panels.count(), [&](int64_t panel) { pack_panel(panel, own + panels.start(panel)); });
    const Word<Real>* packed = matrix.packed ? matrix.packed : own;
    multiply_blocks<reach>(
        a, Operands<Word<Real>>{pixels, segments, words<Real>(matrix.C), panels, packed, panels.start(1), NR},
        store_vector);
}

// Whether rows of so many channels cannot be multiplied well, or not at all, where they lie: of few, or in half a pair.
template <class Real>
bool is_better_copied(int64_t channels, int64_t segments) {
    return channels % NUMBERS<Real> || (segments > 1 && channels < FEW_CHANNELS);
}

// The same product, the rows of ``a`` reached as is best. ``flat`` says that they lie one after another.
template <class Real, class Rows, class Pack, class Store>
void product_of(int64_t pixels, bool flat, const Rows& a, const Matrix<Real>& matrix, const Pack& pack_panel,
                const Store& store_vector) {
    if (is_better_copied<Real>(matrix.C, matrix.segments))
        product<Reach::copied>(pixels, a, matrix, pack_panel, store_vector);
    else if (flat)
        product<Reach::dense>(pixels, Dense<Real>{a.rows, matrix.C}, matrix, pack_panel, store_vector);
    else
        product<Reach::gathered>(pixels, a, matrix, pack_panel, store_vector);
}

// Where in a filter its taps are: every ``step``th along both axes, from (first_r, first_s) on.
struct Taps {
    struct Tap {
        int64_t r, s;
    };
    Scratch<Tap> all;
    int64_t count = 0;

    explicit Taps(const Conv& conv, int64_t step = 1, int64_t first_r = 0, int64_t first_s = 0) : all(conv.R * conv.S) {
        for (int64_t r = first_r; r < conv.R; r += step)
            for (int64_t s = first_s; s < conv.S; s += step) all[count++] = {r, s};
    }
    const Tap& operator[](int64_t i) const { return all[i]; }
};

// The pixels of x under each tap of the filter at an output pixel.
template <class Real>
struct UnderTaps {
    const Real *rows, *zeros;
    const Conv& conv;
    int64_t C;
    Taps taps;

    UnderTaps(const Real* x, const Real* zeros, const Conv& conv)
        : rows(x), zeros(zeros), conv(conv), C(conv.C), taps(conv) {}

    struct Pixel {
        const Real* image;
        int64_t h, w;
    };
    Pixel pixel(int64_t m) const {
        const int64_t w = m % conv.W_out, rest = m / conv.W_out;
        return {rows + rest / conv.H_out * conv.H * conv.W * C, rest % conv.H_out * conv.stride - conv.before,
                w * conv.stride - conv.before};
    }
    const Real* row(const Pixel& pixel, int64_t tap) const {
        const int64_t h = pixel.h + taps[tap].r, w = pixel.w + taps[tap].s;
        const bool inside = h >= 0 && h < conv.H && w >= 0 && w < conv.W;
        return inside ? pixel.image + (h * conv.W + w) * C : zeros;
    }
};

// Whether a convolution has so few outputs that vectors of them would be nearly empty: then its taps' outputs go side
// by side, and each pixel of x is multiplied once by all of them.
template <class Real>
bool is_narrow(const Conv& conv) {
    const int64_t taps = conv.R * conv.S;
    const int64_t side_by_side = conv.N * conv.H * conv.W * ceil_div(taps * conv.O, W);
    const int64_t one_by_one = conv.N * conv.H_out * conv.W_out * taps;
    return W > 4 && taps > 1 && conv.O <= W && conv.C >= FEW_CHANNELS && conv.C % NUMBERS<Real> == 0 &&
           2 * side_by_side <= one_by_one;
}

TINYDIFF_END
