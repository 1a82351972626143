// The matrix product under every convolution, linear layer and attention: a block of c in registers.
//
// A block is up to MR rows by NV vectors. Its accumulators, one row of b and one value of a fit the registers
// of the instruction set; each step of the inner loop is one outer product, NV loads and MR broadcasts for MR NV
// multiply-adds. b comes in panels of NR = NV W columns stored one after another, zeros beyond the last column
// (``Panels``), so that its rows lie side by side and every load is whole.
#pragma once

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

// c[i, :] = or += sum_k a[i, k] b[k, :] for i < rows; the width of b and c is ``vectors`` <= NV vectors.
//     a[i, k] at a + i lda + k,  b[k] at b + k ldb,  c[i] at c + i ldc
void multiply(int64_t rows, int vectors, const float* a, int64_t lda, int64_t K, const float* b, int64_t ldb, float* c,
              int64_t ldc, bool accumulate = false);

// The same for rows <= MR that lie anywhere, in several segments of K values: a[s * MR + i] points to row i of
// segment s, which meets the K rows of b[s].
void multiply_gathered(int rows, int vectors, int64_t segments, const float* const* a, const float* const* b, int64_t K,
                       int64_t ldb, float* c, int64_t ldc, bool accumulate);

// Consecutive rows of two matrices that meet each other.
struct Run {
    const float *a, *b;
    int64_t length;
};

// c[i, :] = or += sum over runs and k < length of a[k, i] b[k, :]: a transposed. b and c are ``columns`` wide, whole
// vectors.
void multiply_transposed(int64_t rows, int64_t columns, const Run* runs, int64_t count, int64_t lda, int64_t ldb,
                         float* c, int64_t ldc, bool accumulate);

// A matrix of K rows and O columns, cut into panels of NR columns: column o of row k is
// data[(o / NR) * K * NR + k * NR + o % NR].
struct Panels {
    int64_t K, O;
    int64_t count() const { return ceil_div(O, NR); }
    int64_t floats() const { return count() * K * NR; }
    int64_t start(int64_t panel) const { return panel * K * NR; }
    int64_t width(int64_t panel) const { return smaller(O - panel * NR, NR); }  // columns in it
    int vectors(int64_t panel) const { return static_cast<int>(ceil_div(width(panel), W)); }
};

// One panel of a matrix whose rows lie ``stride`` apart.
void pack(const float* matrix, int64_t stride, const Panels& panels, int64_t panel, float* packed);

// Likewise from the transposed matrix, whose columns lie ``stride`` apart: K rows of panel number ``panel``, for
// columns that number O in all.
void pack_transposed(const float* matrix, int64_t stride, int64_t K, int64_t O, int64_t panel, float* packed);

// Rows in near-equal groups of at most MR: 49 rows as 10 + 10 + 10 + 10 + 9, not 12 + 12 + 12 + 12 + 1.
struct RowGroups {
    int64_t count, least, longer;  // the first ``longer`` groups have one row more than ``least``

    explicit RowGroups(int64_t rows)
        : count(ceil_div(rows, MR)), least(rows / larger(1, count)), longer(rows % larger(1, count)) {}
    int64_t start(int64_t group) const { return group * least + smaller(group, longer); }
    int size(int64_t group) const { return static_cast<int>(least + (group < longer)); }
};

TINYDIFF_END
