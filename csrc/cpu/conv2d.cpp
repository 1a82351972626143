// conv2d: two-dimensional cross-correlation, channels last. Derivation: tinydiff/ops/conv2d.py.
//
// Directly: an implicit matrix product. The im2col matrix, whose row m holds what lies under the filter at output
// pixel m, is never made whole: the kernel reads a block of MR of its rows through MR pointers into x, one set of
// pointers a filter tap, a row of zeros standing for what lies outside the image. Only where a tap has few channels a
// task copies its rows.
//
//     forward  y[m]  = sum over taps of x[under the tap at m] w[tap]
//     dx       dx[m] = sum over the taps that reach m of dy[where they sit] w[tap]^T        gathered, so no two
//              tasks ever add to one pixel. With stride s the pixels of one residue class modulo s are reached by
//              the same taps, so each class is a product of its own and no multiplication by zero is done.
//     dw       dw[tap] = sum_m x[under the tap at m]^T dy[m]                                in slices of pixels,
//              added in order; a round of a slice copies its rows, for their transposed product to be one
//
// 3x3 filters with stride 1 go to winograd.cpp where that is faster. The ladder, as shares of what NumPy's matrix
// product reaches, forward at (16,28,28,64) to 64 channels and (32,7,7,128) to 128, AMD EPYC with AVX-512, 2 cores,
// 2026-11 (benchmarks/bench_ops.py):
//     im2col and NumPy    55 %    85 %
//     direct              96 %   101 %
//     winograd_2         185 %   153 %
//     winograd_4         289 %   236 %    with 7 outputs cut into 4 + 3; into 4 + 4 the step is 3 to 5 % slower
#include "conv2d.h"

#include "gemm.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t BLOCK_PIXELS = 8 * MR;     // output pixels of a task
constexpr int64_t ROWS_AT_ONCE = 144;        // of a panel: with few channels all of a 3x3 filter
constexpr int64_t FEW_CHANNELS = W;          // of a pixel, too few for a loop of their own
constexpr int64_t FEW_PIXELS = 24;           // in bfloat16, to meet a matrix that is not packed
constexpr int64_t MANY_PIXELS = 512;         // for which packing a matrix is next to nothing
constexpr int64_t MAX_SLICES = 16;           // partial weight gradients ...
constexpr int64_t SLICE_FLOATS = 4 << 20;    // ... and the most memory they may take together, in floats
constexpr int64_t ROUND_NUMBERS = 64 << 10;  // of x and dy in a round of a slice, which stay in cache

// 1x1, stride 1, no padding: pixel m of y needs pixel m of x alone
bool is_flat(const Conv& conv) {
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

// The pixels of x under each tap of the filter at an output pixel.
template <class Real>
struct UnderTaps {
    const Real *rows, *zeros;
    const Conv& conv;
    int64_t C;

    UnderTaps(const Real* x, const Real* zeros, const Conv& conv) : rows(x), zeros(zeros), conv(conv), C(conv.C) {}

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
        const int64_t h = pixel.h + tap / conv.S, w = pixel.w + tap % conv.S;
        const bool inside = h >= 0 && h < conv.H && w >= 0 && w < conv.W;
        return inside ? pixel.image + (h * conv.W + w) * C : zeros;
    }
};

// One panel of w (R, S, C, O), the rows of each tap as words of their own.
template <class Real>
void pack_filters(const Real* w, const Conv& conv, int64_t panel, Word<Real>* to) {
    for (int64_t tap = 0; tap < conv.R * conv.S; ++tap)
        pack(w + tap * conv.C * conv.O, conv.O, conv.C, conv.O, panel, to + tap * words<Real>(conv.C) * NR);
}

template <class Real>
void correlate(const Real* x, const Real* w, const Word<Real>* packed, const Epilogue<Real>& epilogue,
               const Conv& conv) {
    const Zeros<Real> zeros(conv.C);
    product_of(
        conv.N * conv.H_out * conv.W_out, is_flat(conv), UnderTaps<Real>(x, zeros, conv), matrix_of(conv, w, packed),
        [&](int64_t panel, Word<Real>* to) { pack_filters(w, conv, panel, to); },
        [&](int64_t pixel, int64_t o, Vec result) { epilogue.pixel(pixel).finish(o, result); });
}

// Input pixels (h, w) of one residue class: h + before = h_class modulo stride, likewise w. They are reached by
// the taps r = h_class, h_class + stride, ... from the output rows (h + before - r) / stride.
template <class Real>
struct ReachedFrom {
    const Real *rows, *zeros;  // of dy
    const Conv& conv;
    int64_t C;                 // the channels of dy
    int64_t first_h, first_w;  // the class's first pixel
    int64_t high, wide;        // its pixels in one image
    const int64_t* taps;

    struct Pixel {
        const Real* image;
        int64_t h, w;  // + before
    };
    int64_t index(int64_t m) const {  // of the class's pixel m among all
        const int64_t w = m % wide, rest = m / wide;
        return (rest / high * conv.H + first_h + rest % high * conv.stride) * conv.W + first_w + w * conv.stride;
    }
    Pixel pixel(int64_t m) const {
        const int64_t w = m % wide, rest = m / wide;
        return {rows + rest / high * conv.H_out * conv.W_out * C, first_h + rest % high * conv.stride + conv.before,
                first_w + w * conv.stride + conv.before};
    }
    const Real* row(const Pixel& pixel, int64_t segment) const {
        const int64_t h = pixel.h - taps[segment] / conv.S, w = pixel.w - taps[segment] % conv.S;
        const bool inside =
            h >= 0 && w >= 0 && h / conv.stride < conv.H_out && w / conv.stride < conv.W_out;  // both divide
        return inside ? pixel.image + (h / conv.stride * conv.W_out + w / conv.stride) * C : zeros;
    }
};

template <class Real>
void input_gradient(const Real* dy, const Real* w, Real* dx, const Conv& conv) {
    const int64_t stride = conv.stride, C = conv.C, O = conv.O;
    const Zeros<Real> zeros(O);
    Scratch<int64_t> taps(conv.R * conv.S);
    for (int64_t h_class = 0; h_class < stride; ++h_class)
        for (int64_t w_class = 0; w_class < stride; ++w_class) {
            int64_t count = 0;
            for (int64_t r = h_class; r < conv.R; r += stride)
                for (int64_t s = w_class; s < conv.S; s += stride) taps[count++] = r * conv.S + s;
            // the first h >= 0 with h + before = h_class modulo stride
            const int64_t first_h = ((h_class - conv.before) % stride + stride) % stride;
            const int64_t first_w = ((w_class - conv.before) % stride + stride) % stride;
            if (first_h >= conv.H || first_w >= conv.W) continue;
            const ReachedFrom<Real> a{dy,
                                      zeros,
                                      conv,
                                      O,
                                      first_h,
                                      first_w,
                                      ceil_div(conv.H - first_h, stride),
                                      ceil_div(conv.W - first_w, stride),
                                      taps};
            auto pack_panel = [&](int64_t panel, Word<Real>* to) {  // rows (tap, o), columns c
                for (int64_t s = 0; s < count; ++s)
                    pack_transposed(w + taps[s] * C * O, O, O, C, panel, to + s * words<Real>(O) * NR);
            };
            product_of(conv.N * a.high * a.wide, is_flat(conv), a, Matrix<Real>{count, O, C, nullptr, nullptr},
                       pack_panel,
                       [&](int64_t m, int64_t c, Vec result) { store_part(dx + a.index(m) * C + c, result, C - c); });
        }
}

// So many pixels from ``first`` on as an operand of the weight gradient: words of neighbouring pixels, ``width`` apart;
// in each the C numbers of a.row(pixel, s) for every segment s.
template <class Real, class Rows>
void copy_pixels(const Rows& a, int64_t first, int64_t pixels, int64_t segments, int64_t C, Word<Real>* to,
                 int64_t width) {
    constexpr int n = NUMBERS<Real>;
    for (int64_t m = 0; m < pixels; m += n, to += width) {
        const int there = static_cast<int>(smaller(n, pixels - m));
        decltype(a.pixel(0)) pixel[n];
        for (int i = 0; i < n; ++i) pixel[i] = a.pixel(first + m + (i < there ? i : 0));
        for (int64_t s = 0; s < segments; ++s) {
            const Real* rows[n];
            for (int i = 0; i < n; ++i) rows[i] = i < there ? a.row(pixel[i], s) : nullptr;
            // beyond C the next segment's numbers follow, or the next row's
            for (int64_t c = 0; c < C; c += W) {
                copy_words(to + s * C + c, rows, C - c);
                for (int i = 0; i < there; ++i) rows[i] += W;
            }
        }
    }
}

template <class Real>
void weight_gradient(const Real* dy, const Real* x, float* dw, const Conv& conv) {
    constexpr int n = NUMBERS<Real>;
    const int64_t C = conv.C, O = conv.O, taps = conv.R * conv.S, pixels = conv.N * conv.H_out * conv.W_out;
    const int64_t rows = taps * C, width = round_up(O, W);  // of dy's rows, whole vectors
    const int64_t size = rows * width;
    const bool x_as_it_is = n == 1 && is_flat(conv), dy_as_it_is = n == 1 && width == O;
    const int64_t at_once = round_up(larger(1, smaller(256, ROUND_NUMBERS / (rows + width))), n);
    const int64_t rounds = ceil_div(pixels, at_once);
    const int64_t slices = larger(1, smaller(smaller(rounds, MAX_SLICES), SLICE_FLOATS / size));
    const Zeros<Real> zeros(C);
    const UnderTaps<Real> under(x, zeros, conv);
    Scratch partial(slices * size);

    parallel_for(slices, [&](int64_t slice) {
        float* sum = partial + slice * size;
        Scratch<Word<Real>> columns(x_as_it_is ? 0 : at_once / n * rows + W);
        Scratch<Word<Real>> upstream(dy_as_it_is ? 0 : at_once / n * width + W);
        const int64_t first_round = slice * rounds / slices, last_round = (slice + 1) * rounds / slices;
        for (int64_t round = first_round; round < last_round; ++round) {
            const int64_t first = round * at_once, count = smaller(at_once, pixels - first);
            const Word<Real>*a = columns, *b = upstream;
            if (x_as_it_is)
                a = reinterpret_cast<const Word<Real>*>(x + first * C);
            else if (is_flat(conv))
                copy_pixels<Real>(Dense<Real>{x, C}, first, count, 1, C, columns, rows);
            else
                copy_pixels<Real>(under, first, count, taps, C, columns, rows);
            if (dy_as_it_is)
                b = reinterpret_cast<const Word<Real>*>(dy + first * O);
            else
                copy_pixels<Real>(Dense<Real>{dy, O}, first, count, 1, O, upstream, width);
            multiply_transposed(rows, width, a, rows, words<Real>(count), b, width, sum, width, round > first_round);
        }
    });
    constexpr int64_t ROWS = 32;
    parallel_for(ceil_div(rows, ROWS), [&](int64_t task) {
        for (int64_t k = task * ROWS; k < smaller(rows, (task + 1) * ROWS); ++k)
            for (int64_t o = 0; o < O; o += W) {
                Vec total = load(partial + k * width + o);
                for (int64_t slice = 1; slice < slices; ++slice) total += load(partial + slice * size + k * width + o);
                store_part(dw + k * O + o, total, O - o);
            }
    });
}

// Sums of consecutive rows: group g holds the rows g * rows .. (g + 1) * rows - 1, the last maybe fewer.
template <class Real>
void group_sums(const Real* dy, int64_t all_rows, int64_t rows, int64_t O, float* sums) {
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

template <class Real>
void bias_gradient(const Real* dy, float* db, Real* dtime_shift, const Conv& conv) {
    if (!db && !dtime_shift) return;
    const int64_t pixels = conv.N * conv.H_out * conv.W_out, O = conv.O;
    const int64_t rows = dtime_shift ? conv.H_out * conv.W_out : 128;
    const int64_t groups = ceil_div(pixels, rows);
    Scratch sums(groups * O);
    group_sums(dy, pixels, rows, O, sums);
    if (db) group_sums(static_cast<const float*>(sums), groups, groups, O, db);
    if (dtime_shift)
        for (int64_t i = 0; i < groups * O; i += W)
            store_part(dtime_shift + i, load_part(sums + i, groups * O - i), groups * O - i);
}

// The number of words of a matrix that is packed before, where that is worth it: for few pixels, unless floats are as
// good as they stand.
template <class Real>
int64_t packed_words_worth_keeping(const Conv& conv) {
    const auto matrix = matrix_of<Real>(conv);
    const int64_t pixels = conv.N * conv.H_out * conv.W_out;
    const bool as_it_stands = NUMBERS<Real> == 1 && matrix.is_better_plain(pixels);
    return pixels < MANY_PIXELS && !as_it_stands ? matrix.panels().words() : 0;
}

}  // namespace

// ``prepared`` is what conv2d_prepare made of w, or null.
template <class Real>
void conv2d_forward(const Real* x, const Real* w, const Real* prepared, const float* b, const Real* add, Add kind,
                    Real* y, const Conv& conv) {
    const Epilogue<Real> epilogue{y, b, add, kind, conv.O, conv.H_out * conv.W_out};
    if (const int tile = winograd_tile<Real>(conv))
        winograd_correlate(tile, x, w, reinterpret_cast<const PointWord<Real>*>(prepared), epilogue, conv);
    else
        correlate(x, w, as_words(prepared), epilogue, conv);
}

// The same values that a forward makes of w each time, so the result has the same bits.
template <class Real>
void conv2d_prepare(const Real* w, Real* prepared, const Conv& conv) {
    if (const int tile = winograd_tile<Real>(conv))
        return winograd_points(tile, w, reinterpret_cast<PointWord<Real>*>(prepared), conv);
    const Panels panels = matrix_of<Real>(conv).panels();
    parallel_for(panels.count(),
                 [&](int64_t panel) { pack_filters(w, conv, panel, as_words(prepared) + panels.start(panel)); });
}

// 0 where preparing saves next to nothing.
template <class Real>
void conv2d_prepared_bytes(int64_t* bytes, const Conv& conv) {
    const int tile = winograd_tile<Real>(conv);
    const int64_t kept =
        tile ? winograd_points_worth_keeping<Real>(tile, conv) : packed_words_worth_keeping<Real>(conv);
    *bytes = kept * static_cast<int64_t>(sizeof(Word<Real>));
}

// dx may be null, where nobody wants it.
template <class Real>
void conv2d_backward(const Real* dy, const Real* x, const Real* w, Real* dx, float* dw, float* db, Real* dtime_shift,
                     const Conv& conv) {
    bias_gradient(dy, db, dtime_shift, conv);
    const int tile = winograd_tile<Real>(conv);
    if (!tile) {
        weight_gradient(dy, x, dw, conv);
        if (dx) input_gradient(dy, w, dx, conv);
        return;
    }
    winograd_weight_gradient(tile, dy, x, dw, conv);
    if (!dx) return;
    // dx is dy correlated with the filter turned by half a turn, its inputs and outputs exchanged
    const int64_t C = conv.C, O = conv.O;
    Scratch<Real> turned(9 * C * O);
    parallel_for(9 * ceil_div(O, W), [&](int64_t task) {
        const int64_t tap = task % 9, first = task / 9 * W;
        for (int64_t o = first; o < smaller(O, first + W); ++o)
            for (int64_t c = 0; c < C; ++c) turned[((8 - tap) * O + o) * C + c] = w[(tap * C + c) * O + o];
    });
    const Conv back{conv.N, conv.H_out, conv.W_out, O, 3, 3, C, 1, 2 - conv.before, conv.H, conv.W, conv.version};
    const Epilogue<Real> epilogue{dx, nullptr, nullptr, Add::none, C, conv.H * conv.W};
    winograd_correlate<Real>(tile, dy, turned, nullptr, epilogue, back);
}

TINYDIFF_IN_BOTH(conv2d_forward)
TINYDIFF_IN_BOTH(conv2d_prepare)
TINYDIFF_IN_BOTH(conv2d_prepared_bytes)
TINYDIFF_IN_BOTH(conv2d_backward)

TINYDIFF_END
