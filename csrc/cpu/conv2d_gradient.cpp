// The gradients of conv2d, those of 3x3 filters with stride 1 apart (winograd_gradient.cpp); conv2d.cpp explains.
#include "conv2d_products.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t MAX_SLICES = 16;           // partial weight gradients ...
constexpr int64_t SLICE_FLOATS = 4 << 20;    // ... and the most memory they may take together, in floats
constexpr int64_t ROUND_NUMBERS = 64 << 10;  // of x and dy in a round of a slice, which stay in cache

// Input pixels (h, w) of one residue class: h + before = h_class modulo stride, likewise w. They are reached by
// the taps r = h_class, h_class + stride, ... from the output rows (h + before - r) / stride.
template <class Real>
struct ReachedFrom {
    const Real *rows, *zeros;  // of dy
    const Conv& conv;
    int64_t C;                 // the channels of dy
    int64_t first_h, first_w;  // the class's first pixel
    int64_t high, wide;        // its pixels in one image
    const Taps& taps;

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
        int64_t h = pixel.h - taps[segment].r, w = pixel.w - taps[segment].s;
        if (conv.stride > 1) h = divided(h), w = divided(w);
        const bool inside = h >= 0 && w >= 0 && h < conv.H_out && w < conv.W_out;
        return inside ? pixel.image + (h * conv.W_out + w) * C : zeros;
    }
    int64_t divided(int64_t a) const { return a < 0 ? -1 : a / conv.stride; }  // without rest where it is not negative
};

template <class Real>
void input_gradient(const Real* dy, const Real* w, Real* dx, const Conv& conv) {
    const int64_t stride = conv.stride, C = conv.C, O = conv.O;
    const Zeros<Real> zeros(O);
    for (int64_t h_class = 0; h_class < stride; ++h_class)
        for (int64_t w_class = 0; w_class < stride; ++w_class) {
            const Taps taps(conv, stride, h_class, w_class);
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
                for (int64_t i = 0; i < taps.count; ++i)
                    pack_transposed(w + (taps[i].r * conv.S + taps[i].s) * C * O, O, O, C, panel,
                                    to + i * words<Real>(O) * NR);
            };
            product_of(conv.N * a.high * a.wide, is_flat(conv), a, Matrix<Real>{taps.count, O, C, nullptr, nullptr},
                       pack_panel,
                       [&](int64_t m, int64_t c, Vec result) { store_part(dx + a.index(m) * C + c, result, C - c); });
        }
}

// So many pixels from ``first`` on as an operand of the weight gradient: words of neighbouring pixels, ``width`` apart;
// in each the C numbers of a.row(pixel, s) for every segment s.
template <class Real, class Rows>
void copy_pixels(const Rows& a, int64_t segments, int64_t C, int64_t first, int64_t pixels, Word<Real>* to,
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

// One side of a sum of products: rows of ``size`` numbers, where they are a matrix of words already at ``rows``, else
// copied a round at a time: copy(context, first row, how many, where to, words from one row to the next).
template <class Real>
struct Side {
    int64_t size;
    const Real* rows;  // or null
    void (*copy)(const void*, int64_t, int64_t, Word<Real>*, int64_t);
    const void* context;

    template <class Copy>
    Side(int64_t size, const Real* rows, const Copy& copy)
        : size(size),
          rows(rows),
          copy([](const void* context, int64_t first, int64_t count, Word<Real>* to, int64_t width) {
              (*static_cast<const Copy*>(context))(first, count, to, width);
          }),
          context(&copy) {}
    const Word<Real>* from(int64_t first, int64_t count, Word<Real>* room, int64_t width) const {
        if (rows) return reinterpret_cast<const Word<Real>*>(rows + first * size);
        copy(context, first, count, room, width);
        return room;
    }
};

// result (left.size, right.size) = the sum over pixels of left[m]^T right[m]: in slices of pixels, added in order.
template <class Real>
void sum_of_products(int64_t pixels, const Side<Real>& left, const Side<Real>& right, float* result) {
    constexpr int n = NUMBERS<Real>;
    const int64_t rows = left.size, width = round_up(right.size, W);  // of the right side's rows, whole vectors
    const int64_t size = rows * width;
    const int64_t at_once = round_up(larger(1, smaller(256, ROUND_NUMBERS / (rows + width))), n);
    const int64_t rounds = ceil_div(pixels, at_once);
    const int64_t slices = larger(1, smaller(smaller(rounds, MAX_SLICES), SLICE_FLOATS / size));
    Scratch partial(slices * size);

    parallel_for(slices, [&](int64_t slice) {
        float* sum = partial + slice * size;
        Scratch<Word<Real>> left_room(left.rows ? 0 : at_once / n * rows + W);
        Scratch<Word<Real>> right_room(right.rows ? 0 : at_once / n * width + W);
        const int64_t first_round = slice * rounds / slices, last_round = (slice + 1) * rounds / slices;
        for (int64_t round = first_round; round < last_round; ++round) {
            const int64_t first = round * at_once, count = smaller(at_once, pixels - first);
            const Word<Real>*a = left.from(first, count, left_room, rows),
                  *b = right.from(first, count, right_room, width);
            multiply_transposed(rows, width, a, rows, words<Real>(count), b, width, sum, width, round > first_round);
        }
    });
    constexpr int64_t ROWS = 32;
    parallel_for(ceil_div(rows, ROWS), [&](int64_t task) {
        for (int64_t k = task * ROWS; k < smaller(rows, (task + 1) * ROWS); ++k)
            for (int64_t o = 0; o < right.size; o += W) {
                Vec total = load(partial + k * width + o);
                for (int64_t slice = 1; slice < slices; ++slice) total += load(partial + slice * size + k * width + o);
                store_part(result + k * right.size + o, total, right.size - o);
            }
    });
}

template <class Real>
void weight_gradient(const Real* dy, const Real* x, float* dw, const Conv& conv) {
    constexpr bool as_they_are = NUMBERS<Real> == 1;
    const int64_t C = conv.C, O = conv.O, taps = conv.R * conv.S;
    const Zeros<Real> zeros(larger(C, O));
    const Dense<Real> pixels_of_x{x, C}, pixels_of_dy{dy, O};
    const auto copy_x = [&](auto... where) { copy_pixels<Real>(pixels_of_x, 1, C, where...); };
    if (is_narrow<Real>(conv) && conv.stride == 1) {  // beside a pixel of x what reaches it, by all taps
        const Taps all(conv);
        const ReachedFrom<Real> reached{dy, zeros, conv, O, 0, 0, conv.H, conv.W, all};
        const auto copy_reached = [&](auto... where) { copy_pixels<Real>(reached, taps, O, where...); };
        Scratch sums(C * taps * O);
        sum_of_products<Real>(conv.N * conv.H * conv.W, {C, as_they_are ? x : nullptr, copy_x},
                              {taps * O, nullptr, copy_reached}, sums);
        for (int64_t c = 0; c < C; ++c)
            for (int64_t tap = 0; tap < taps; ++tap)
                std::memcpy(dw + (tap * C + c) * O, sums + (c * taps + tap) * O, O * sizeof *dw);
        return;
    }
    const UnderTaps<Real> under(x, zeros, conv);
    const bool flat = is_flat(conv);
    const auto copy_under = [&](auto... where) {
        flat ? copy_x(where...) : copy_pixels<Real>(under, taps, C, where...);
    };
    const auto copy_dy = [&](auto... where) { copy_pixels<Real>(pixels_of_dy, 1, O, where...); };
    sum_of_products<Real>(conv.N * conv.H_out * conv.W_out, {taps * C, as_they_are && flat ? x : nullptr, copy_under},
                          {O, as_they_are && O % W == 0 ? dy : nullptr, copy_dy}, dw);
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

}  // namespace

// dx, dw and db may be null, where nobody wants them.
template <class Real>
void conv2d_backward(const Real* dy, const Real* x, const Real* w, Real* dx, float* dw, float* db, Real* dtime_shift,
                     const Conv& conv) {
    bias_gradient(dy, db, dtime_shift, conv);
    const int tile = winograd_tile<Real>(conv);
    if (!tile) {
        if (dw) weight_gradient(dy, x, dw, conv);
        if (dx) input_gradient(dy, w, dx, conv);
        return;
    }
    if (dw) winograd_weight_gradient(tile, dy, x, dw, conv);
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

TINYDIFF_IN_BOTH(conv2d_backward)

TINYDIFF_END
