// Numbers as 16-bit integers that share a scale: what products of points have for operands where activations are
// bfloat16.
//
// A row of K numbers is scaled to the length LENGTH = 32767 and rounded. So no integer leaves 16 bits, and no sum of
// the products of two such rows 32, as by Cauchy and Schwarz it is at most LENGTH^2 < 2^30: sums are exact, and a
// product of matrices errs by the rounding of its operands alone. That moves a number by 0.29 sqrt(K) / LENGTH of the
// row's root mean square (all of this is of root mean squares): for 128 channels by 1.0e-4, where rounding to bfloat16
// moves it by 8.3e-4. And an instruction does as many products as of bfloat16 (pmaddwd, vpdpwssd).
//
// Of a row that holds infinity or no number, the scale is as well: so the sums are.
#pragma once

#include <cmath>
#include <utility>

#include "vector.h"

TINYDIFF_BEGIN

constexpr float LENGTH = 32767;

struct Fixed {
    int16_t low, high;
};

typedef int16_t ShortVec __attribute__((vector_size(2 * TINYDIFF_W), aligned(2), may_alias));

// The nearest integers, to even at a tie, of v times a factor, between -2^15 and 2^15, in the lower halves of 32 bits.
inline IntVec nearest(Vec v, Vec factor) {
    constexpr float SHIFT = 12582912.0f;  // 1.5 * 2^23: what has been added to it has no fraction bits
    v = v * factor + SHIFT;
    IntVec bits;
    std::memcpy(&bits, &v, sizeof bits);
    return bits;
}

// Their lower halves: of one row, or of two as words.
inline void store_short(int16_t* p, IntVec v) {
    *reinterpret_cast<ShortVec*>(p) = __builtin_convertvector(v, ShortVec);
}
inline void store_pairs(Fixed* p, IntVec low, IntVec high) {
    *reinterpret_cast<IntVec*>(p) = (low & 0xFFFF) | high << 16;
}

// Lanes first, first + 2, ... of a, then of b.
template <int first, int... I>
inline Vec every_other(Vec a, Vec b, std::integer_sequence<int, I...>) {
#ifdef __clang__
    return __builtin_shufflevector(a, b, (2 * I + first)...);
#else
    return __builtin_shuffle(a, b, IntVec{(2 * I + first)...});
#endif
}

// The sum of the lanes of each of W vectors, as one vector. The vectors are used up.
inline Vec sums_of_lanes(Vec* vectors) {
    constexpr std::make_integer_sequence<int, W> all{};
    for (int half = W / 2; half >= 1; half /= 2)
        for (int i = 0; i < half; ++i) {
            const Vec a = vectors[2 * i], b = vectors[2 * i + 1];
            vectors[i] = every_other<0>(a, b, all) + every_other<1>(a, b, all);
        }
    return vectors[0];
}

inline Vec square_root(Vec v) {
#ifdef __AVX512F__
    return reinterpret_cast<Vec>(_mm512_sqrt_ps(reinterpret_cast<__m512>(v)));
#else
    for (int i = 0; i < W; ++i) v[i] = std::sqrt(v[i]);
    return v;
#endif
}

// From the sums of squares of W rows: what brings each to LENGTH, and what undoes it.
struct Scales {
    Vec there, back;

    explicit Scales(Vec squares) {
        const Vec length = square_root(squares);
        there = length > 0 ? LENGTH / length : Vec{};
        back = length * (1 / LENGTH);
    }
};

TINYDIFF_END
