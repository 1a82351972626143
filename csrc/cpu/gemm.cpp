#include "gemm.h"

TINYDIFF_BEGIN
namespace {

// Rows of b that are asked for before they are needed. It helps with few rows of a and weights from main memory: at
// (1,7,7,256) to 256 channels the median of a convolution falls by a fifth; elsewhere nothing changes.
constexpr int64_t AHEAD = 16;

// acc[i] += value(i) b for one row of b, the step that every kernel here repeats; the row at b + ahead will be needed
template <int M, int V, class Value>
inline void outer_product(Vec (&acc)[M][V], const Value& value, const float* b, int64_t ahead) {
    Vec row[V];
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) __builtin_prefetch(b + ahead + j * W);
#pragma GCC unroll 8
    for (int j = 0; j < V; ++j) row[j] = load(b + j * W);
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i)
#pragma GCC unroll 8
        for (int j = 0; j < V; ++j) acc[i][j] += value(i) * row[j];
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

struct Strided {
    template <int M, int V>
    static void run(const float* a, int64_t lda, int64_t K, const float* b, int64_t ldb, float* c, int64_t ldc,
                    bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t k = 0; k < K; ++k, ++a, b += ldb)
            outer_product(acc, [=](int i) { return a[i * lda]; }, b, AHEAD * ldb);
        write(acc, c, ldc);
    }
};

struct Gathered {
    template <int M, int V>
    static void run(int64_t segments, const float* const* a, const float* const* b, int64_t K, int64_t ldb, float* c,
                    int64_t ldc, bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t s = 0; s < segments; ++s, a += MR) {
            const float* rows[M];
#pragma GCC unroll 16
            for (int i = 0; i < M; ++i) rows[i] = a[i];
            const float* row = b[s];
            for (int64_t k = 0; k < K; ++k, row += ldb)
                outer_product(acc, [&](int i) { return rows[i][k]; }, row, AHEAD * ldb);
        }
        write(acc, c, ldc);
    }
};

struct Transposed {
    template <int M, int V>
    static void run(const Run* runs, int64_t count, int64_t first_row, int64_t first_column, int64_t lda, int64_t ldb,
                    float* c, int64_t ldc, bool accumulate) {
        Vec acc[M][V] = {};
        if (accumulate) read(acc, c, ldc);
        for (int64_t r = 0; r < count; ++r) {
            const float *a = runs[r].a + first_row, *b = runs[r].b + first_column;
            for (int64_t k = 0; k < runs[r].length; ++k, a += lda, b += ldb)
                outer_product(acc, [=](int i) { return a[i]; }, b, 0);
        }
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

void multiply(int64_t rows, int vectors, const float* a, int64_t lda, int64_t K, const float* b, int64_t ldb, float* c,
              int64_t ldc, bool accumulate) {
    const RowGroups groups(rows);
    for (int64_t g = 0; g < groups.count; ++g)
        dispatch<Strided, MR>(groups.size(g), vectors, a + groups.start(g) * lda, lda, K, b, ldb,
                              c + groups.start(g) * ldc, ldc, accumulate);
}

void multiply_gathered(int rows, int vectors, int64_t segments, const float* const* a, const float* const* b, int64_t K,
                       int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    dispatch<Gathered, MR>(rows, vectors, segments, a, b, K, ldb, c, ldc, accumulate);
}

void multiply_transposed(int64_t rows, int64_t columns, const Run* runs, int64_t count, int64_t lda, int64_t ldb,
                         float* c, int64_t ldc, bool accumulate) {
    const RowGroups groups(rows);
    for (int64_t o = 0; o < columns; o += NR)
        for (int64_t g = 0; g < groups.count; ++g)
            dispatch<Transposed, MR>(groups.size(g), static_cast<int>(smaller(NV, (columns - o) / W)), runs, count,
                                     groups.start(g), o, lda, ldb, c + groups.start(g) * ldc + o, ldc, accumulate);
}

void pack(const float* matrix, int64_t stride, const Panels& panels, int64_t panel, float* packed) {
    const int64_t width = panels.width(panel);
    for (int64_t k = 0; k < panels.K; ++k)
        for (int64_t j = 0; j < NR; j += W) {
            const float* from = matrix + k * stride + panel * NR + j;
            store(packed + k * NR + j, j < width ? load_part(from, width - j) : Vec{});
        }
}

void pack_transposed(const float* matrix, int64_t stride, int64_t K, int64_t O, int64_t panel, float* packed) {
    for (int64_t j = 0; j < NR; ++j) {
        const int64_t o = panel * NR + j;
        for (int64_t k = 0; k < K; ++k) packed[k * NR + j] = o < O ? matrix[o * stride + k] : 0.0f;
    }
}

TINYDIFF_END
