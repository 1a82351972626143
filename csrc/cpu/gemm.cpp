#include "gemm.h"

TINYDIFF_BEGIN
namespace {

// Rows of b that are asked for before they are needed. It helps with few rows of a and weights from main memory: at
// (1,7,7,256) to 256 channels the median of a convolution falls by a fifth; elsewhere nothing changes.
constexpr int64_t AHEAD = 16;

// What a product does with words: take vectors of b and single words of a apart as it needs them, and add products.
template <class Word>
struct Arithmetic;

template <>
struct Arithmetic<float> {
    using Sum = Vec;
    using Row = Vec;
    static Row row(const float* b) { return load(b); }
    static void multiply_add(Vec& sum, float a, Row b) { sum += a * b; }
};

template <>
struct Arithmetic<bfloat16> {
    using Sum = Vec;
    using Row = Vec;
    static Row row(const bfloat16* b) { return load(b); }
    static void multiply_add(Vec& sum, bfloat16 a, Row b) { sum += widen(a) * b; }
};

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
// Two products and two sums an instruction, which rounds them as it likes: AVX-512 one after the other, Arm to odd.
template <>
struct Arithmetic<Pair> {
    using Sum = Vec;
    using Row = IntVec;
    static Row row(const Pair* b) { return *reinterpret_cast<const IntVec*>(b); }
    static void multiply_add(Vec& sum, Pair a, Row b) {
        int32_t word;
        std::memcpy(&word, &a, sizeof word);
        const IntVec every = IntVec{} + word;
#ifdef __AVX512BF16__
        sum = reinterpret_cast<Vec>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(every),
                                                     reinterpret_cast<__m512bh>(b)));
#else
        using Pairs = bfloat16x8_t;
        sum = reinterpret_cast<Vec>(vbfdotq_f32(reinterpret_cast<float32x4_t>(sum), reinterpret_cast<Pairs>(every),
                                                reinterpret_cast<Pairs>(b)));
#endif
    }
};
#else
// Widened in registers: what is gained is memory.
template <>
struct Arithmetic<Pair> {
    using Sum = Vec;
    struct Row {
        Vec low, high;
    };
    static Row row(const Pair* b) {
        const IntVec bits = *reinterpret_cast<const IntVec*>(b), low = bits << 16, high = bits & -65536;
        Row made;
        std::memcpy(&made.low, &low, sizeof low);
        std::memcpy(&made.high, &high, sizeof high);
        return made;
    }
    static void multiply_add(Vec& sum, Pair a, const Row& b) {
        sum += widen(a.low) * b.low;
        sum += widen(a.high) * b.high;
    }
};
#endif

// Two products of 16-bit integers and their sum, added to one of 32 bits.
template <>
struct Arithmetic<Fixed> {
    using Sum = IntVec;
    using Row = IntVec;
    static Row row(const Fixed* b) { return *reinterpret_cast<const IntVec*>(b); }
    static void multiply_add(IntVec& sum, Fixed a, Row b) {
        int32_t word;
        std::memcpy(&word, &a, sizeof word);
        const IntVec every = IntVec{} + word;
#if defined(__AVX512VNNI__)
        using Words = __m512i;
        sum = reinterpret_cast<IntVec>(_mm512_dpwssd_epi32(reinterpret_cast<Words>(sum), reinterpret_cast<Words>(every),
                                                           reinterpret_cast<Words>(b)));
#elif defined(__AVX512BW__)
        using Words = __m512i;
        sum += reinterpret_cast<IntVec>(_mm512_madd_epi16(reinterpret_cast<Words>(every), reinterpret_cast<Words>(b)));
#elif defined(__AVX2__)
        using Words = __m256i;
        sum += reinterpret_cast<IntVec>(_mm256_madd_epi16(reinterpret_cast<Words>(every), reinterpret_cast<Words>(b)));
#elif defined(__SSE2__) && TINYDIFF_W == 4
        using Words = __m128i;
        sum += reinterpret_cast<IntVec>(_mm_madd_epi16(reinterpret_cast<Words>(every), reinterpret_cast<Words>(b)));
#else
        sum += (every << 16 >> 16) * (b << 16 >> 16) + (every >> 16) * (b >> 16);
#endif
    }
};

// acc[i] += value(i) b for one row of b, the step that every kernel here repeats; the row at ``ahead`` will be needed.
// M and V are named where it is called: a type that a template works out for itself forgets that Vec is aligned to a
// float.
template <int M, int V, class Word, class Value>
inline void outer_product(typename Arithmetic<Word>::Sum (&acc)[M][V], const Value& value, const Word* b,
                          const Word* ahead) {
    using Of = Arithmetic<Word>;
    typename Of::Row row[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) __builtin_prefetch(ahead + j * W);
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) row[j] = Of::row(b + j * W);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) Of::multiply_add(acc[i][j], value(i), row[j]);
}

template <int M, int V>
inline void write(const Vec (&acc)[M][V], float* c, int64_t ldc) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) store(c + i * ldc + j * W, acc[i][j]);
}

template <int M, int V>
inline void read(Vec (&acc)[M][V], const float* c, int64_t ldc) {
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) acc[i][j] = load(c + i * ldc + j * W);
}

// Where what is asked for before it is needed lies, from row to row.
template <class Word>
struct Ahead {
    const Word* next;
    int64_t step;
};

// That of a group of rows which meets b. Of a panel each of two groups asks for half of what lies behind, which comes
// next: so memory works as long as they do.
template <class Word>
Ahead<Word> ahead_of(const Word* b, int64_t ldb, int64_t K, int64_t group, const RowGroups& groups) {
    if (ldb == NR && groups.count > 1 && group >= groups.count - 2)
        return {b + K * ldb + (group - (groups.count - 2)) * K * W, W};
    return {b + AHEAD * ldb, ldb};
}

struct Strided {
    template <int M, int V, class Word>
    static void run(const Word* a, int64_t lda, int64_t K, const Word* b, int64_t ldb, Ahead<Word> ahead, float* c,
                    int64_t ldc, bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t k = 0; k < K; ++k, ++a, b += ldb, ahead.next += ahead.step)
            outer_product<M, V>(acc, [=](int i) { return a[i * lda]; }, b, ahead.next);
        write(acc, c, ldc);
    }
};

struct Scaled {
    template <int M, int V>
    static void run(const Fixed* a, int64_t lda, const float* a_scale, int64_t K, const Fixed* b, int64_t ldb,
                    Ahead<Fixed> ahead, const float* b_scale, float* c, int64_t ldc) {
        IntVec sums[M][V] = {};
        for (int64_t k = 0; k < K; ++k, ++a, b += ldb, ahead.next += ahead.step)
            outer_product<M, V>(sums, [=](int i) { return a[i * lda]; }, b, ahead.next);
        Vec acc[M][V];
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
            for (int j = 0; j < V; ++j)
                acc[i][j] = __builtin_convertvector(sums[i][j], Vec) * (a_scale[i] * load(b_scale + j * W));
        write(acc, c, ldc);
    }
};

struct Gathered {
    template <int M, int V, class Word>
    static void run(int64_t segments, const Word* const* a, const Word* const* b, int64_t K, int64_t ldb, float* c,
                    int64_t ldc, bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t s = 0; s < segments; ++s, a += MR) {
            const Word* rows[M];
#pragma GCC unroll 16
            for (int i = 0; i < M; ++i) rows[i] = a[i];
            const Word* row = b[s];
            for (int64_t k = 0; k < K; ++k, row += ldb)
                outer_product<M, V>(acc, [&](int i) { return rows[i][k]; }, row, row + AHEAD * ldb);
        }
        write(acc, c, ldc);
    }
};

struct Transposed {
    template <int M, int V, class Word>
    static void run(const Word* a, int64_t lda, int64_t K, const Word* b, int64_t ldb, float* c, int64_t ldc,
                    bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t k = 0; k < K; ++k, a += lda, b += ldb) outer_product<M, V>(acc, [=](int i) { return a[i]; }, b, b);
        write(acc, c, ldc);
    }
};

// Kind::run<rows, vectors>, for numbers known at run time
template <class Kind, int M, class... Arguments>
inline void dispatch(int rows, int vectors, Arguments... arguments) {
    if (rows < M) {
        if constexpr (M > 1) dispatch<Kind, M - 1>(rows, vectors, arguments...);
    } else if (vectors == 1) {
        Kind::template run<M, 1>(arguments...);
    } else {
        Kind::template run<M, 2>(arguments...);
    }
}

}  // namespace

template <class Word>
void multiply(int64_t rows, int vectors, const Word* a, int64_t lda, int64_t K, const Word* b, int64_t ldb, float* c,
              int64_t ldc, bool accumulate) {
    const RowGroups groups(rows);
    for (int64_t g = 0; g < groups.count; ++g)
        dispatch<Strided, MR>(groups.size(g), vectors, a + groups.start(g) * lda, lda, K, b, ldb,
                              ahead_of(b, ldb, K, g, groups), c + groups.start(g) * ldc, ldc, accumulate);
}

#ifndef __wasm__
void multiply_fixed(int64_t rows, int vectors, const Fixed* a, int64_t lda, const float* a_scale, int64_t K,
                    const Fixed* b, int64_t ldb, const float* b_scale, float* c, int64_t ldc) {
    const RowGroups groups(rows);
    for (int64_t g = 0; g < groups.count; ++g) {
        const int64_t first = groups.start(g);
        dispatch<Scaled, MR>(groups.size(g), vectors, a + first * lda, lda, a_scale + first, K, b, ldb,
                             ahead_of(b, ldb, K, g, groups), b_scale, c + first * ldc, ldc);
    }
}
#endif

template <class Word>
void multiply_gathered(int rows, int vectors, int64_t segments, const Word* const* a, const Word* const* b, int64_t K,
                       int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    dispatch<Gathered, MR>(rows, vectors, segments, a, b, K, ldb, c, ldc, accumulate);
}

template <class Word>
void multiply_transposed(int64_t rows, int64_t columns, const Word* a, int64_t lda, int64_t K, const Word* b,
                         int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    const RowGroups groups(rows);
    for (int64_t o = 0; o < columns; o += NR)
        for (int64_t g = 0; g < groups.count; ++g)
            dispatch<Transposed, MR>(groups.size(g), static_cast<int>(smaller(NV, (columns - o) / W)),
                                     a + groups.start(g), lda, K, b + o, ldb, c + groups.start(g) * ldc + o, ldc,
                                     accumulate);
}

template <class Real>
void pack(const Real* matrix, int64_t stride, int64_t rows, int64_t O, int64_t panel, Word<Real>* packed) {
    for (int64_t k = 0; k < rows; k += NUMBERS<Real>, packed += NR)
        for (int64_t j = 0; j < NR; j += W) {
            const int64_t o = panel * NR + j;
            const Real* word[NUMBERS<Real>] = {};
            for (int64_t i = 0; i < NUMBERS<Real> && k + i < rows && o < O; ++i)
                word[i] = matrix + (k + i) * stride + o;
            copy_words(packed + j, word, O - o);
        }
}

template <class Real>
void pack_transposed(const Real* matrix, int64_t stride, int64_t rows, int64_t O, int64_t panel, Word<Real>* packed) {
    constexpr int n = NUMBERS<Real>;
    const int64_t whole = rows / n;
    for (int64_t j = 0; j < NR; ++j) {
        const int64_t o = panel * NR + j;
        const Real* column = matrix + o * stride;
        for (int64_t k = 0; k < whole; ++k) packed[k * NR + j] = o < O ? as_words(column)[k] : Word<Real>{};
        if (whole * n < rows) {  // half a pair
            Word<Real> word{};
            if (o < O) std::memcpy(&word, column + whole * n, sizeof(Real));
            packed[whole * NR + j] = word;
        }
    }
}

#define PACKING(Real)                         \
    template decltype(pack<Real>) pack<Real>; \
    template decltype(pack_transposed<Real>) pack_transposed<Real>;
#define PRODUCTS(Word)                                \
    template decltype(multiply<Word>) multiply<Word>; \
    template decltype(multiply_gathered<Word>) multiply_gathered<Word>;
#define TRANSPOSED_PRODUCTS(Word) template decltype(multiply_transposed<Word>) multiply_transposed<Word>;
PACKING(float)
PRODUCTS(float)
TRANSPOSED_PRODUCTS(float)
#ifndef __wasm__
PACKING(bfloat16)
PRODUCTS(bfloat16)
#ifndef __AMX_BF16__  // they are in tiles.cpp
PRODUCTS(Pair)
TRANSPOSED_PRODUCTS(Pair)
#endif
#endif

TINYDIFF_END
