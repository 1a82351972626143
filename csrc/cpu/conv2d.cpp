// conv2d: two-dimensional cross-correlation, channels last. Derivation: tinydiff/ops/conv2d.py.
//
// Directly: an implicit matrix product. The im2col matrix, whose row m holds what lies under the filter at output
// pixel m, is never made: the kernel reads a block of MR of its rows through MR pointers into x, one set of
// pointers a filter tap, a row of zeros standing for what lies outside the image.
//
//     forward  y[m]  = sum over taps of x[under the tap at m] w[tap]
//     dx       dx[m] = sum over the taps that reach m of dy[where they sit] w[tap]^T        gathered, so no two
//              tasks ever add to one pixel. With stride s the pixels of one residue class modulo s are reached by
//              the same taps, so each class is a product of its own and no multiplication by zero is done.
//     dw       dw[tap] = sum_m x[under the tap at m]^T dy[m]                                in slices of pixels,
//              added in order
//
// 3x3 filters with stride 1 go to winograd.cpp where that is faster. The ladder, as shares of what NumPy's matrix
// product reaches, forward at (16,28,28,64) to 64 channels and (32,7,7,128) to 128, AMD EPYC with AVX-512, 2 cores,
// 2026-11 (benchmarks/bench_ops.py):
//     im2col and NumPy    55 %    85 %
//     direct              96 %   101 %
//     winograd_2         185 %   153 %
//     winograd_4         289 %   236 %    with 7 outputs cut into 4 + 3; into 4 + 4 the step is 3 to 5 % slower
#include "conv2d.h"

#include <type_traits>

#include "gemm.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t BLOCK_PIXELS = 8 * MR;   // output pixels of a task
constexpr int64_t ROWS_AT_ONCE = 128;      // of a panel
constexpr int64_t MAX_SLICES = 16;         // partial weight gradients ...
constexpr int64_t SLICE_FLOATS = 4 << 20;  // ... and the most memory they may take together, in floats

// 1x1, stride 1, no padding: pixel m of y needs pixel m of x alone
bool is_flat(const Conv& conv) {
    return conv.R == 1 && conv.S == 1 && conv.stride == 1 && conv.before == 0 && conv.H_out == conv.H &&
           conv.W_out == conv.W;
}

// The left operand where its rows lie one after another.
struct Dense {
    const float* rows;
};

// The right operand: panels made beforehand or, where every row is used only once or so, the matrix as it stands.
struct Matrix {
    Panels panels;
    const float* plain;  // (K, O) or null; its rows must be whole vectors
};

// result[pixel] = sum over segments s of  a.row(pixel, s) (K values)  times  K rows of the matrix from row
// ``first_row[s]`` on; store(pixel, column, vector) takes it. ``pack_panel(panel, to)`` makes a panel.
//
// A task is a block of pixels and some panels. It takes a panel some rows at a time, which stay in first-level cache
// while all its pixels meet them; meanwhile the pixels' sums lie in a block of memory beside them.
template <class Rows, class Pack, class Store>
void product(int64_t pixels, const Rows& a, int64_t segments, const int64_t* first_row, int64_t K, const Matrix& matrix,
             const Pack& pack_panel, const Store& store_vector) {
    constexpr bool dense = std::is_same<Rows, Dense>::value;
    const Panels& panels = matrix.panels;
    const int64_t blocks = ceil_div(pixels, BLOCK_PIXELS);
    const bool plain = blocks == 1 && matrix.plain && panels.O % W == 0;
    const int64_t ldb = plain ? panels.O : NR;
    Scratch packed(plain ? 0 : panels.floats());
    if (!plain) parallel_for(panels.count(), [&](int64_t panel) { pack_panel(panel, packed + panels.start(panel)); });

    // all panels in one task when there are blocks enough: then the block's pointers are found once
    const int64_t panels_per_task = blocks >= 8 ? panels.count() : 1;
    const int64_t panel_tasks = ceil_div(panels.count(), panels_per_task);
    parallel_for(blocks * panel_tasks, [&](int64_t task) {
        const int64_t first = task / panel_tasks * BLOCK_PIXELS;
        const int64_t count = smaller(BLOCK_PIXELS, pixels - first);
        const RowGroups groups(count);
        Scratch pointers(dense ? 0 : (groups.count * MR + 1) * segments * 2);  // a pointer is two floats
        const float** rows = reinterpret_cast<const float**>(static_cast<float*>(pointers));
        const float** b = rows + groups.count * segments * MR;
        float sums[BLOCK_PIXELS * NR];

        if constexpr (!dense)
            for (int64_t g = 0; g < groups.count; ++g)
                for (int i = 0; i < groups.size(g); ++i) {
                    const auto pixel = a.pixel(first + groups.start(g) + i);
                    for (int64_t s = 0; s < segments; ++s) rows[(g * segments + s) * MR + i] = a.row(pixel, s);
                }
        const int64_t last = smaller((task % panel_tasks + 1) * panels_per_task, panels.count());
        for (int64_t panel = task % panel_tasks * panels_per_task; panel < last; ++panel) {
            const float* from = plain ? matrix.plain + panel * NR : packed + panels.start(panel);
            const int vectors = panels.vectors(panel);
            if constexpr (dense) {
                for (int64_t k = 0; k < K; k += ROWS_AT_ONCE)
                    multiply(count, vectors, a.rows + first * K + k, K, smaller(ROWS_AT_ONCE, K - k), from + k * ldb,
                             ldb, sums, NR, k > 0);
            } else {
                const int64_t at_once = larger(1, ROWS_AT_ONCE / K);
                for (int64_t s = 0; s < segments; ++s) b[s] = from + first_row[s] * ldb;
                for (int64_t s = 0; s < larger(1, segments); s += at_once)
                    for (int64_t g = 0; g < groups.count; ++g)
                        multiply_gathered(groups.size(g), vectors, smaller(at_once, segments - s),
                                          rows + (g * segments + s) * MR, b + s, K, ldb, sums + groups.start(g) * NR,
                                          NR, s > 0);
            }
            for (int64_t m = 0; m < count; ++m)
                for (int j = 0; j < vectors; ++j)
                    store_vector(first + m, panel * NR + j * W, load(sums + m * NR + j * W));
        }
    });
}

// The pixels of x under each tap of the filter at an output pixel.
struct UnderTaps {
    const float *x, *zeros;
    const Conv& conv;

    struct Pixel {
        const float* image;
        int64_t h, w;
    };
    Pixel pixel(int64_t m) const {
        const int64_t w = m % conv.W_out, rest = m / conv.W_out;
        return {x + rest / conv.H_out * conv.H * conv.W * conv.C, rest % conv.H_out * conv.stride - conv.before,
                w * conv.stride - conv.before};
    }
    const float* row(const Pixel& pixel, int64_t tap) const {
        const int64_t h = pixel.h + tap / conv.S, w = pixel.w + tap % conv.S;
        const bool inside = h >= 0 && h < conv.H && w >= 0 && w < conv.W;
        return inside ? pixel.image + (h * conv.W + w) * conv.C : zeros;
    }
};

void correlate(const float* x, const float* w, const Epilogue& epilogue, const Conv& conv) {
    const int64_t taps = conv.R * conv.S, pixels = conv.N * conv.H_out * conv.W_out;
    const Panels panels{taps * conv.C, conv.O};
    auto pack_panel = [&](int64_t panel, float* to) { pack(w, conv.O, panels, panel, to); };
    auto finish = [&](int64_t pixel, int64_t o, Vec result) { epilogue.pixel(pixel).finish(o, result); };
    if (is_flat(conv)) {
        product(pixels, Dense{x}, 1, nullptr, conv.C, Matrix{panels, w}, pack_panel, finish);
        return;
    }
    Scratch zeros(conv.C), first_row(taps * 2);
    std::memset(zeros, 0, sizeof(float) * conv.C);
    int64_t* rows = reinterpret_cast<int64_t*>(static_cast<float*>(first_row));
    for (int64_t tap = 0; tap < taps; ++tap) rows[tap] = tap * conv.C;

    product(pixels, UnderTaps{x, zeros, conv}, taps, rows, conv.C, Matrix{panels, w}, pack_panel, finish);
}

// Input pixels (h, w) of one residue class: h + before = h_class modulo stride, likewise w. They are reached by
// the taps r = h_class, h_class + stride, ... from the output rows (h + before - r) / stride.
struct ReachedFrom {
    const float *dy, *zeros;
    const Conv& conv;
    int64_t first_h, first_w;  // the class's first pixel
    int64_t rows, columns;     // its pixels in one image
    const int64_t* taps;

    struct Pixel {
        const float* image;
        int64_t h, w;  // + before
    };
    int64_t index(int64_t m) const {  // of the class's pixel m among all
        const int64_t w = m % columns, rest = m / columns;
        return (rest / rows * conv.H + first_h + rest % rows * conv.stride) * conv.W + first_w + w * conv.stride;
    }
    Pixel pixel(int64_t m) const {
        const int64_t w = m % columns, rest = m / columns;
        return {dy + rest / rows * conv.H_out * conv.W_out * conv.O, first_h + rest % rows * conv.stride + conv.before,
                first_w + w * conv.stride + conv.before};
    }
    const float* row(const Pixel& pixel, int64_t segment) const {
        const int64_t h = pixel.h - taps[segment] / conv.S, w = pixel.w - taps[segment] % conv.S;
        const bool inside =
            h >= 0 && w >= 0 && h / conv.stride < conv.H_out && w / conv.stride < conv.W_out;  // both divide
        return inside ? pixel.image + (h / conv.stride * conv.W_out + w / conv.stride) * conv.O : zeros;
    }
};

void input_gradient(const float* dy, const float* w, float* dx, const Conv& conv) {
    const int64_t all_taps = conv.R * conv.S, stride = conv.stride;
    const Panels panels{all_taps * conv.O, conv.C};
    auto pack_panel = [&](int64_t panel, float* to) {  // rows (r, s, o), columns c
        for (int64_t tap = 0; tap < all_taps; ++tap)
            pack_transposed(w + tap * conv.C * conv.O, conv.O, conv.O, conv.C, panel, to + tap * conv.O * NR);
    };
    if (is_flat(conv)) {
        product(conv.N * conv.H * conv.W, Dense{dy}, 1, nullptr, conv.O, Matrix{panels, nullptr}, pack_panel,
                [&](int64_t m, int64_t c, Vec result) { store_part(dx + m * conv.C + c, result, conv.C - c); });
        return;
    }
    Scratch zeros(conv.O), integers(all_taps * 4);
    std::memset(zeros, 0, sizeof(float) * conv.O);
    int64_t* taps = reinterpret_cast<int64_t*>(static_cast<float*>(integers));
    int64_t* first_row = taps + all_taps;

    for (int64_t h_class = 0; h_class < stride; ++h_class)
        for (int64_t w_class = 0; w_class < stride; ++w_class) {
            int64_t count = 0;
            for (int64_t r = h_class; r < conv.R; r += stride)
                for (int64_t s = w_class; s < conv.S; s += stride) {
                    taps[count] = r * conv.S + s;
                    first_row[count] = taps[count] * conv.O;
                    ++count;
                }
            // the first h >= 0 with h + before = h_class modulo stride
            const int64_t first_h = ((h_class - conv.before) % stride + stride) % stride;
            const int64_t first_w = ((w_class - conv.before) % stride + stride) % stride;
            if (first_h >= conv.H || first_w >= conv.W) continue;
            const ReachedFrom a{dy,
                                zeros,
                                conv,
                                first_h,
                                first_w,
                                ceil_div(conv.H - first_h, stride),
                                ceil_div(conv.W - first_w, stride),
                                taps};
            product(conv.N * a.rows * a.columns, a, count, first_row, conv.O, Matrix{panels, nullptr}, pack_panel,
                    [&](int64_t m, int64_t c, Vec result) {
                        store_part(dx + a.index(m) * conv.C + c, result, conv.C - c);
                    });
        }
}

// A stretch of output pixels, contiguous in dy: a row of the image, or of a 1x1 filter's whole batch a part.
struct Stretches {
    const Conv& conv;
    bool flat;
    static constexpr int64_t FLAT = 256;

    int64_t pixels() const { return conv.N * conv.H_out * conv.W_out; }
    int64_t length() const { return flat ? FLAT : conv.W_out; }
    int64_t count() const { return ceil_div(pixels(), length()); }

    // The pixels of one stretch under one tap: which of x meet which of dy (``dy_padded`` begins at the stretch
    // ``first`` and has ldy values a pixel).
    Run run(int64_t stretch, int64_t r, int64_t s, const float* x, const float* dy, int64_t ldy) const {
        if (flat) {
            const int64_t m = stretch * FLAT;
            return {x + m * conv.C, dy, smaller(FLAT, pixels() - m)};
        }
        const int64_t stride = conv.stride, h = stretch % conv.H_out * stride + r - conv.before;
        const int64_t offset = s - conv.before;                             // w = w' stride + offset
        const int64_t first = offset >= 0 ? 0 : ceil_div(-offset, stride);  // smallest w' with w >= 0
        const int64_t beyond = conv.W - 1 - offset < 0 ? 0 : smaller(conv.W_out, (conv.W - 1 - offset) / stride + 1);
        if (h < 0 || h >= conv.H || beyond <= first) return {x, dy, 0};
        const int64_t image = stretch / conv.H_out;
        return {x + ((image * conv.H + h) * conv.W + first * stride + offset) * conv.C, dy + first * ldy,
                beyond - first};
    }
};

void weight_gradient(const float* dy, const float* x, float* dw, const Conv& conv) {
    const Stretches stretches{conv, is_flat(conv)};
    const int64_t C = conv.C, O = conv.O, taps = conv.R * conv.S;
    const int64_t ldy = round_up(O, W);  // rows of dy are padded to whole vectors, in a copy, where they are not
    const int64_t size = taps * C * ldy;
    const int64_t pixels_at_once = larger(1, smaller(256, (64 << 10) / (C + ldy)));  // x and dy of them stay in cache
    const int64_t at_once = larger(1, pixels_at_once / stretches.length());
    const int64_t rounds = ceil_div(stretches.count(), at_once);
    const int64_t slices = larger(1, smaller(smaller(rounds, MAX_SLICES), SLICE_FLOATS / size));
    Scratch partial(slices * size);

    parallel_for(slices, [&](int64_t slice) {
        float* sum = partial + slice * size;
        Scratch padded(ldy == O ? 0 : at_once * stretches.length() * ldy);
        Scratch memory(at_once * sizeof(Run) / sizeof(float));
        Run* runs = reinterpret_cast<Run*>(static_cast<float*>(memory));
        const int64_t first_round = slice * rounds / slices, last_round = (slice + 1) * rounds / slices;
        for (int64_t round = first_round; round < last_round; ++round) {
            const int64_t first = round * at_once, last = smaller(first + at_once, stretches.count());
            const int64_t first_pixel = first * stretches.length();
            const float* rows = dy + first_pixel * O;
            if (ldy != O) {
                const int64_t count = smaller(last * stretches.length(), stretches.pixels()) - first_pixel;
                for (int64_t m = 0; m < count; ++m)
                    for (int64_t o = 0; o < ldy; o += W)
                        store(padded + m * ldy + o, load_part(rows + m * O + o, O - o));
                rows = padded;
            }
            for (int64_t tap = 0; tap < taps; ++tap) {
                int64_t count = 0;
                for (int64_t each = first; each < last; ++each) {
                    const float* stretch_dy = rows + (each - first) * stretches.length() * ldy;
                    const Run run = stretches.run(each, tap / conv.S, tap % conv.S, x, stretch_dy, ldy);
                    if (run.length > 0) runs[count++] = run;
                }
                multiply_transposed(C, ldy, runs, count, conv.stride * C, ldy, sum + tap * C * ldy, ldy,
                                    round > first_round);
            }
        }
    });
    constexpr int64_t ROWS = 32;
    parallel_for(ceil_div(taps * C, ROWS), [&](int64_t task) {
        for (int64_t k = task * ROWS; k < smaller(taps * C, (task + 1) * ROWS); ++k)
            for (int64_t o = 0; o < O; o += W) {
                Vec total = load(partial + k * ldy + o);
                for (int64_t slice = 1; slice < slices; ++slice) total += load(partial + slice * size + k * ldy + o);
                store_part(dw + k * O + o, total, O - o);
            }
    });
}

// Sums of consecutive rows of dy: group g holds the rows g * rows .. (g + 1) * rows - 1, the last maybe fewer.
void group_sums(const float* dy, int64_t all_rows, int64_t rows, int64_t O, float* sums) {
    parallel_for(ceil_div(all_rows, rows), [&](int64_t group) {
        const int64_t last = smaller(all_rows, (group + 1) * rows);
        over_channels(O, [&](int64_t o, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec total[V] = {}, row[V];
            for (int64_t m = group * rows; m < last; ++m) {
                load_columns(row, dy + m * O + o, channels);
                for (int j = 0; j < V; ++j) total[j] += row[j];
            }
            store_columns(sums + group * O + o, total, channels);
        });
    });
}

void bias_gradient(const float* dy, float* db, float* dtime_shift, const Conv& conv) {
    if (!db && !dtime_shift) return;
    const int64_t pixels = conv.N * conv.H_out * conv.W_out, O = conv.O;
    const int64_t rows = dtime_shift ? conv.H_out * conv.W_out : 128;
    const int64_t groups = ceil_div(pixels, rows);
    Scratch own(dtime_shift ? 0 : groups * O);
    float* sums = dtime_shift ? dtime_shift : own;
    group_sums(dy, pixels, rows, O, sums);
    if (db) group_sums(sums, groups, groups, O, db);
}

}  // namespace

// ``prepared`` is what conv2d_prepare made of w, or null.
void conv2d_forward(const float* x, const float* w, const float* prepared, const float* b, const float* add, Add kind,
                    float* y, const Conv& conv) {
    const Epilogue epilogue{y, b, add, kind, conv.O, conv.H_out * conv.W_out};
    if (const int tile = winograd_tile(conv))
        winograd_correlate(tile, x, w, prepared, epilogue, conv);
    else
        correlate(x, w, epilogue, conv);
}

// The same values that a forward makes of w each time, so the result has the same bits.
void conv2d_prepare(const float* w, float* prepared, const Conv& conv) {
    winograd_points(winograd_tile(conv), w, prepared, conv);
}

// 0 where preparing saves next to nothing.
void conv2d_prepared_floats(int64_t* floats, const Conv& conv) {
    const int tile = winograd_tile(conv);
    *floats = tile ? winograd_points_worth_keeping(tile, conv) : 0;
}

void conv2d_backward(const float* dy, const float* x, const float* w, float* dx, float* dw, float* db,
                     float* dtime_shift, const Conv& conv) {
    bias_gradient(dy, db, dtime_shift, conv);
    const int tile = winograd_tile(conv);
    if (!tile) {
        weight_gradient(dy, x, dw, conv);
        input_gradient(dy, w, dx, conv);
        return;
    }
    winograd_weight_gradient(tile, dy, x, dw, conv);
    // dx is dy correlated with the filter turned by half a turn, its inputs and outputs exchanged
    const int64_t C = conv.C, O = conv.O;
    Scratch turned(9 * C * O);
    parallel_for(9 * ceil_div(O, W), [&](int64_t task) {
        const int64_t tap = task % 9, first = task / 9 * W;
        for (int64_t o = first; o < smaller(O, first + W); ++o)
            for (int64_t c = 0; c < C; ++c) turned[((8 - tap) * O + o) * C + c] = w[(tap * C + c) * O + o];
    });
    const Conv back{conv.N, conv.H_out, conv.W_out, O, 3, 3, C, 1, 2 - conv.before, conv.H, conv.W, conv.version};
    winograd_correlate(tile, dy, turned, nullptr, Epilogue{dx, nullptr, nullptr, Add::none, C, conv.H * conv.W}, back);
}

TINYDIFF_END
