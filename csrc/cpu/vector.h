// One vector of floats, as wide as the instruction set this file is compiled for.
//
// Every kernel file is compiled once per instruction set (setup.py), each time with other compiler flags. The
// code sees the difference only here and in the products of gemm.h: TINYDIFF_W floats a vector, and TINYDIFF_ISA, a
// namespace of its own, so that the linker never mistakes one set's functions for another's. For the same reason kernel
// files use no containers or algorithms of the standard library: the linker keeps one copy of those, maybe the one this
// machine cannot run.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
#include <arm_neon.h>
#endif

#include "kernels.h"

#define TINYDIFF_BEGIN   \
    namespace tinydiff { \
    namespace TINYDIFF_ISA {
#define TINYDIFF_END \
    }                \
    }

TINYDIFF_BEGIN

constexpr int W = TINYDIFF_W;

// aligned(4): loads and stores anywhere; may_alias: through pointers to float
typedef float Vec __attribute__((vector_size(4 * TINYDIFF_W), aligned(4), may_alias));
typedef int32_t IntVec __attribute__((vector_size(4 * TINYDIFF_W), aligned(4), may_alias));
typedef uint32_t WordVec __attribute__((vector_size(4 * TINYDIFF_W), aligned(4), may_alias));
typedef uint64_t LongVec __attribute__((vector_size(4 * TINYDIFF_W), aligned(8), may_alias));  // half as many

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }
inline Vec splat(float value) { return Vec{} + value; }

// The first n <= W floats at p, zeros after them; nothing beyond them is touched.
inline Vec load_part(const float* p, int64_t n) {
    if (n >= W) return load(p);
    Vec v{};
    std::memcpy(&v, p, 4 * n);
    return v;
}

inline void store_part(float* p, Vec v, int64_t n) {
    if (n >= W)
        store(p, v);
    else
        std::memcpy(p, &v, 4 * n);
}

// The same of bfloat16: widened as it is loaded, which is exact, and rounded to the nearest, to even at a tie, as it is
// stored.
typedef uint16_t HalfVec __attribute__((vector_size(2 * TINYDIFF_W), aligned(2), may_alias));

// As the lower halves of integers.
inline IntVec integers(HalfVec halves) {
#if defined(__AVX512F__)  // one instruction, of which compilers make five
    __m256i from;
    std::memcpy(&from, &halves, sizeof from);
    return reinterpret_cast<IntVec>(_mm512_cvtepu16_epi32(from));
#elif defined(__AVX2__)
    __m128i from;
    std::memcpy(&from, &halves, sizeof from);
    return reinterpret_cast<IntVec>(_mm256_cvtepu16_epi32(from));
#else
    return __builtin_convertvector(halves, IntVec);
#endif
}

inline Vec widen(HalfVec halves) {
    const IntVec bits = integers(halves) << 16;
    Vec v;
    std::memcpy(&v, &bits, sizeof v);
    return v;
}

// As NumPy's extension ml_dtypes rounds, also below the smallest normal number.
inline HalfVec rounded_as_numpy(Vec v) {
    WordVec bits;
    std::memcpy(&bits, &v, sizeof bits);
    bits += 0x7FFF + (bits >> 16 & 1);
    const HalfVec halves = __builtin_convertvector(bits >> 16, HalfVec);
    const auto is_nan = __builtin_convertvector(v != v, HalfVec);  // adding might make it infinite or negative
    return is_nan ? HalfVec{} + uint16_t{0x7FC0} : halves;
}

inline HalfVec rounded(Vec v) {
#if defined(__AVX512BF16__)  // numbers below the smallest normal one become 0
    HalfVec halves;
    const auto made = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(v));
    std::memcpy(&halves, &made, sizeof halves);
    return halves;
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    HalfVec halves;
    const auto made = vcvt_bf16_f32(reinterpret_cast<float32x4_t>(v));
    std::memcpy(&halves, &made, sizeof halves);
    return halves;
#else
    return rounded_as_numpy(v);
#endif
}

inline HalfVec load_halves(const bfloat16* p) { return *reinterpret_cast<const HalfVec*>(p); }
inline Vec load(const bfloat16* p) { return widen(load_halves(p)); }
inline void store(bfloat16* p, Vec v) { *reinterpret_cast<HalfVec*>(p) = rounded(v); }

inline Vec load_part(const bfloat16* p, int64_t n) {
    if (n >= W) return load(p);
    HalfVec halves{};
    std::memcpy(&halves, p, 2 * n);
    return widen(halves);
}

inline void store_part(bfloat16* p, Vec v, int64_t n) {
    if (n >= W) return store(p, v);
    const HalfVec halves = rounded(v);
    std::memcpy(p, &halves, 2 * n);
}

// What a program does in place of NumPy.
inline void store_as_numpy(float* p, Vec v, int64_t n) { store_part(p, v, n); }
inline void store_as_numpy(bfloat16* p, Vec v, int64_t n) {
    const HalfVec halves = rounded_as_numpy(v);
    std::memcpy(p, &halves, 2 * (n < W ? n : W));
}

// One number.
inline float widen(float x) { return x; }
inline float widen(bfloat16 x) {
    const uint32_t bits = uint32_t{x.bits} << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}

template <class Real>
inline Real rounded_to(float x) {
    if constexpr (std::is_same<Real, float>::value) {
        return x;
    } else {
        bfloat16 made[W];
        store(made, splat(x));
        return made[0];
    }
}

// The products, of 64 bits, of the lower halves of the lanes and a number.
inline LongVec multiply_lower_halves(LongVec a, uint32_t b) {
    const LongVec all_b = LongVec{} + b;
#if defined(__AVX512F__)  // one instruction, where compilers multiply all 64 bits
    return reinterpret_cast<LongVec>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(all_b)));
#elif defined(__AVX2__)
    return reinterpret_cast<LongVec>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(all_b)));
#elif defined(__SSE2__) && TINYDIFF_W == 4
    return reinterpret_cast<LongVec>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(all_b)));
#else
    return (a & 0xFFFFFFFF) * all_b;
#endif
}

// The sum of the lanes, by halves.
inline float sum(Vec v) {
    float lanes[W];
    store(lanes, v);
    for (int half = W / 2; half >= 1; half /= 2)
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

// e^x to about one unit in the last place: x = n ln 2 + r with |r| <= ln 2 / 2, e^r by its series to r^7,
// 2^n by the exponent bits. Arguments are clamped to where the result is a normal number; NaN stays NaN. Where nothing
// but its rounding to bfloat16 is kept, whose half unit is 2e-3, the series ends at r^4: 4e-5.
template <class Kept = float>
inline Vec exp(Vec x) {
    const float low = -87.33654f, high = 88.37626f;
#ifdef __AVX512F__  // of two numbers of which one is NaN these give the second
    x = static_cast<Vec>(_mm512_min_ps(splat(high), _mm512_max_ps(splat(low), x)));
#else
    x = x < low ? splat(low) : x;
    x = x > high ? splat(high) : x;
#endif
    const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction bits
    Vec n = (x * 1.44269504f + round) - round;
    Vec r = x - n * 0.693145752f - n * 1.42860677e-6f;  // ln 2 in two parts, the first short
    Vec p = splat(1.0f / 24);
    if constexpr (std::is_same<Kept, float>::value) {
        p = splat(1.0f / 5040);
        p = p * r + 1.0f / 720;
        p = p * r + 1.0f / 120;
        p = p * r + 1.0f / 24;
    }
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
#ifdef __AVX512F__
    return static_cast<Vec>(_mm512_scalef_ps(p, n));
#else
    IntVec bits = (__builtin_convertvector(n, IntVec) + 127) << 23;
    Vec power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
#endif
}

// 1 / x for x in [1, 2^127], to about one unit in the last place, or enough for bfloat16.
template <class Kept = float>
inline Vec reciprocal(Vec x) {
#ifdef __AVX512F__  // a third of a division's time: 14 bits, and Newton's step doubles them
    const Vec y = static_cast<Vec>(_mm512_rcp14_ps(x));
    return std::is_same<Kept, float>::value ? y * (2.0f - x * y) : y;
#else
    return 1.0f / x;
#endif
}

template <class Kept = float>
inline Vec sigmoid(Vec x) {
    return reciprocal<Kept>(1.0f + exp<Kept>(-x));
}

// d/dx of x sigmoid(x), given s = sigmoid(x)
inline Vec silu_slope(Vec x, Vec s) { return s * (1.0f + x * (1.0f - s)); }

// Several vectors of neighbouring channels, of which ``channels`` are there, of one vector alone maybe not all: how the
// memory-bound kernels take a pixel.
constexpr int COLUMNS = 4;

template <int V, class Real>
inline void load_columns(Vec (&to)[V], const Real* p, int64_t channels) {
    for (int j = 0; j < V; ++j) to[j] = V > 1 ? load(p + j * W) : load_part(p, channels);
}

template <int V, class Real>
inline void store_columns(Real* p, const Vec (&from)[V], int64_t channels) {
    for (int j = 0; j < V; ++j) V > 1 ? store(p + j * W, from[j]) : store_part(p, from[j], channels);
}

// body(c, channels, vectors) from c = 0 on for all C channels, COLUMNS vectors at a time, then two, then one
template <class Body>
inline void over_channels(int64_t C, const Body& body) {
    int64_t c = 0;
    for (; c + COLUMNS * W <= C; c += COLUMNS * W) body(c, COLUMNS * W, std::integral_constant<int, COLUMNS>());
    for (; c + 2 * W <= C; c += 2 * W) body(c, 2 * W, std::integral_constant<int, 2>());
    for (; c < C; c += W) body(c, C - c, std::integral_constant<int, 1>());
}

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t multiple) { return ceil_div(a, multiple) * multiple; }

TINYDIFF_END
