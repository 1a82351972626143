// The matrix product under every convolution, linear layer and attention: a block of c in registers.
//
// A block is up to MR rows by NV vectors. Its accumulators, one row of b and one value of a fit the registers
// of the instruction set; each step of the inner loop is one outer product, NV loads and MR broadcasts for MR NV
// multiply-adds. b comes in panels of NR = NV W columns stored one after another, zeros beyond the last column
// (``Panels``), so that its rows lie side by side and every load is whole.
//
// Operands come in words: floats or, of what is stored in bfloat16, pairs of neighbours, of which a multiply-add takes
// both. So a matrix of K rows of floats has as many rows of words, one in bfloat16 half as many: its rows are paired, 0
// and 1, 2 and 3, ..., the last with zeros where K is odd. Few rows of a can meet a matrix in bfloat16 as it stands,
// word by single word. Sums are float32.
#pragma once

#include "fixed_point.h"
#include "vector.h"

TINYDIFF_BEGIN

#if TINYDIFF_W == 16 || defined(__aarch64__)
constexpr int MR = 12;  // 32 registers: 24 accumulators
#elif defined(__wasm__)
constexpr int MR = 4;  // of the 16 there V8 keeps some for itself: with 5 rows a step takes 1.3 times as long
#else
constexpr int MR = 6;  // 16 registers: 12 accumulators
#endif
constexpr int NV = 2;
constexpr int NR = NV * W;

struct Pair {
    bfloat16 low, high;
};

template <class Real>
struct OperandOf;
template <>
struct OperandOf<float> {
    using Word = float;
};
template <>
struct OperandOf<bfloat16> {
    using Word = Pair;
};
template <class Real>
using Word = typename OperandOf<Real>::Word;

// How many numbers a word has, and how many words so many numbers take.
template <class Real>
constexpr int NUMBERS = sizeof(Word<Real>) / sizeof(Real);
template <class Real>
constexpr int64_t words(int64_t numbers) {
    return ceil_div(numbers, NUMBERS<Real>);
}

// Numbers as words, and back: for bfloat16 there is an even number of them in a row.
inline const float* as_words(const float* p) { return p; }
inline float* as_words(float* p) { return p; }
inline const Pair* as_words(const bfloat16* p) { return reinterpret_cast<const Pair*>(p); }
inline Pair* as_words(bfloat16* p) { return reinterpret_cast<Pair*>(p); }

// A vector of words from W columns of the rows that they pair, of one row where they pair none.
inline void store_words(float* to, const Vec (&rows)[1]) { store(to, rows[0]); }
inline void store_words(Pair* to, HalfVec low, HalfVec high) {
    *reinterpret_cast<IntVec*>(to) = integers(low) | integers(high) << 16;
}
inline void store_words(Pair* to, const Vec (&rows)[2]) { store_words(to, rounded(rows[0]), rounded(rows[1])); }

// The same from memory, of which there are n <= W numbers in a row; where a row is null, zeros.
inline void copy_words(float* to, const float* const (&rows)[1], int64_t n) {
    store(to, rows[0] ? load_part(rows[0], n) : Vec{});
}
inline void copy_words(Pair* to, const bfloat16* const (&rows)[2], int64_t n) {
    if (n >= W && rows[1]) return store_words(to, load_halves(rows[0]), load_halves(rows[1]));
    HalfVec halves[2] = {};
    for (int i = 0; i < 2; ++i)
        if (rows[i]) std::memcpy(&halves[i], rows[i], 2 * smaller(n, W));
    store_words(to, halves[0], halves[1]);
}

// c[i, :] = or += sum_k a[i, k] b[k, :] for i < rows, over K words; the width of b and c is ``vectors`` <= NV vectors.
//     a[i, k] at a + i lda + k,  b[k] at b + k ldb,  c[i] at c + i ldc
template <class Word>
void multiply(int64_t rows, int vectors, const Word* a, int64_t lda, int64_t K, const Word* b, int64_t ldb, float* c,
              int64_t ldc, bool accumulate = false);

// c[i, :] = sum_k a[i, k] b[k, :] times a_scale[i] b_scale[:], of integers (fixed_point.h).
void multiply_fixed(int64_t rows, int vectors, const Fixed* a, int64_t lda, const float* a_scale, int64_t K,
                    const Fixed* b, int64_t ldb, const float* b_scale, float* c, int64_t ldc);

// The same as the first for rows <= MR that lie anywhere, in several segments of K words: a[s * MR + i] points to row i
// of segment s, which meets the K rows of b[s].
template <class Word>
void multiply_gathered(int rows, int vectors, int64_t segments, const Word* const* a, const Word* const* b, int64_t K,
                       int64_t ldb, float* c, int64_t ldc, bool accumulate);

// c[i, :] = or += sum_k a[k, i] b[k, :], over K rows of words: a transposed. b and c are ``columns`` wide, whole
// vectors.
template <class Word>
void multiply_transposed(int64_t rows, int64_t columns, const Word* a, int64_t lda, int64_t K, const Word* b,
                         int64_t ldb, float* c, int64_t ldc, bool accumulate);

#ifdef __AMX_BF16__  // tiles.cpp
template <>
void multiply(int64_t, int, const Pair*, int64_t, int64_t, const Pair*, int64_t, float*, int64_t, bool);
template <>
void multiply_gathered(int, int, int64_t, const Pair* const*, const Pair* const*, int64_t, int64_t, float*, int64_t,
                       bool);
template <>
void multiply_transposed(int64_t, int64_t, const Pair*, int64_t, int64_t, const Pair*, int64_t, float*, int64_t, bool);
#endif

// A matrix of K rows of words and O columns, cut into panels of NR columns: column o of row k is
// data[(o / NR) * K * NR + k * NR + o % NR].
struct Panels {
    int64_t K, O;
    int64_t count() const { return ceil_div(O, NR); }
    int64_t words() const { return count() * K * NR; }
    int64_t start(int64_t panel) const { return panel * K * NR; }
    int64_t width(int64_t panel) const { return smaller(O - panel * NR, NR); }  // columns in it
    int vectors(int64_t panel) const { return static_cast<int>(ceil_div(width(panel), W)); }
};

// One panel of a matrix of so many rows, which lie ``stride`` apart, of O columns in all.
template <class Real>
void pack(const Real* matrix, int64_t stride, int64_t rows, int64_t O, int64_t panel, Word<Real>* packed);

// Likewise from the transposed matrix, whose columns lie ``stride`` apart.
template <class Real>
void pack_transposed(const Real* matrix, int64_t stride, int64_t rows, int64_t O, int64_t panel, Word<Real>* packed);

// Rows in near-equal groups of at most MR: 49 rows as 10 + 10 + 10 + 10 + 9, not 12 + 12 + 12 + 12 + 1.
struct RowGroups {
    int64_t count, least, longer;  // the first ``longer`` groups have one row more than ``least``

    explicit RowGroups(int64_t rows, int64_t most = MR)
        : count(ceil_div(rows, most)), least(rows / larger(1, count)), longer(rows % larger(1, count)) {}
    int64_t start(int64_t group) const { return group * least + smaller(group, longer); }
    int size(int64_t group) const { return static_cast<int>(least + (group < longer)); }
};

TINYDIFF_END
