// class_embedding: a row of a table for each label. Derivation: tinydiff/ops/class_embedding.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

void class_embedding_forward(const float* table, const int64_t* labels, float* y, int64_t N, int64_t E) {
    for (int64_t n = 0; n < N; ++n) std::memcpy(y + n * E, table + labels[n] * E, sizeof(float) * E);
}

// A task gathers one row of the table from the samples that looked it up, in their order.
void class_embedding_backward(const float* dy, const int64_t* labels, float* dtable, int64_t N, int64_t K, int64_t E) {
    parallel_for(K, [&](int64_t k) {
        float* row = dtable + k * E;
        std::memset(row, 0, sizeof(float) * E);
        for (int64_t n = 0; n < N; ++n)
            if (labels[n] == k)
                for (int64_t e = 0; e < E; ++e) row[e] += dy[n * E + e];
    });
}

TINYDIFF_END
