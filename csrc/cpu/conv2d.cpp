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
#include "conv2d_products.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t NARROW_PIXELS = 256;  // of a task that adds up what lies under taps
constexpr int64_t MANY_PIXELS = 512;    // for which packing a matrix is next to nothing

// One panel of w (R, S, C, O), the rows of each tap as words of their own.
template <class Real>
void pack_filters(const Real* w, const Conv& conv, int64_t panel, Word<Real>* to) {
    for (int64_t tap = 0; tap < conv.R * conv.S; ++tap)
        pack(w + tap * conv.C * conv.O, conv.O, conv.C, conv.O, panel, to + tap * words<Real>(conv.C) * NR);
}

template <class Real, class Result>
void correlate(const Real* x, const Real* w, const Word<Real>* packed, const Epilogue<Result>& epilogue,
               const Conv& conv) {
    const Zeros<Real> zeros(conv.C);
    product_of(
        conv.N * conv.H_out * conv.W_out, is_flat(conv), UnderTaps<Real>(x, zeros, conv), matrix_of(conv, w, packed),
        [&](int64_t panel, Word<Real>* to) { pack_filters(w, conv, panel, to); },
        [&](int64_t pixel, int64_t o, Vec result) { epilogue.pixel(pixel).finish(o, result); });
}

// products[m, (tap, o)] = x[m] w[tap, :, o], a convolution of one tap; then y[m, o] is the sum over taps of what lies
// under them.
template <class Real>
void correlate_narrow(const Real* x, const Real* w, const Epilogue<Real>& epilogue, const Conv& conv) {
    const int64_t taps = conv.R * conv.S, O = conv.O, columns = taps * O;
    Scratch<Real> side_by_side(conv.C * columns);
    for (int64_t tap = 0; tap < taps; ++tap)
        for (int64_t c = 0; c < conv.C; ++c)
            std::memcpy(side_by_side + c * columns + tap * O, w + (tap * conv.C + c) * O, O * sizeof *w);
    Scratch products(conv.N * conv.H * conv.W * columns + W);  // and what a vector reads beyond
    const Conv flat{conv.N, conv.H, conv.W, conv.C, 1, 1, columns, 1, 0, conv.H, conv.W};
    const Epilogue<float> as_they_are{products, nullptr, nullptr, Add::none, columns, conv.H * conv.W};
    correlate<Real>(x, side_by_side, nullptr, as_they_are, flat);

    const int64_t rows = conv.N * conv.H_out, at_once = larger(1, NARROW_PIXELS / conv.W_out);
    parallel_for(ceil_div(rows, at_once), [&](int64_t task) {
        for (int64_t row = task * at_once; row < smaller(rows, (task + 1) * at_once); ++row) {
            const int64_t image = row / conv.H_out, top = row % conv.H_out * conv.stride - conv.before;
            for (int64_t i = 0; i < conv.W_out; ++i) {
                const int64_t left = i * conv.stride - conv.before;
                Vec sum{};
                for (int64_t r = larger(0, -top); r < smaller(conv.R, conv.H - top); ++r)
                    for (int64_t s = larger(0, -left); s < smaller(conv.S, conv.W - left); ++s)
                        sum += load(products + ((image * conv.H + top + r) * conv.W + left + s) * columns +
                                    (r * conv.S + s) * O);
                epilogue.pixel(row * conv.W_out + i).finish(0, sum);
            }
        }
    });
}

// The number of words of a matrix that is packed before, where that is worth it: for few pixels, unless floats are as
// good as they stand, which one group of rows reads once. A second one would find little of them in first-level cache:
// rows of 256 floats share a sixteenth of its places.
template <class Real>
int64_t packed_words_worth_keeping(const Conv& conv) {
    if (is_narrow<Real>(conv)) return 0;
    const auto matrix = matrix_of<Real>(conv);
    const int64_t pixels = conv.N * conv.H_out * conv.W_out;
    const bool as_it_stands = NUMBERS<Real> == 1 && pixels <= MR && matrix.is_better_plain(pixels);
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
    else if (is_narrow<Real>(conv))
        correlate_narrow(x, w, epilogue, conv);
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

TINYDIFF_IN_BOTH(conv2d_forward)
TINYDIFF_IN_BOTH(conv2d_prepare)
TINYDIFF_IN_BOTH(conv2d_prepared_bytes)

TINYDIFF_END
