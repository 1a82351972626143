// class_embedding: a row of a table for each label. Derivation: tinydiff/ops/class_embedding.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

template <class Real>
void class_embedding_forward(const float* table, const int64_t* labels, Real* y, int64_t N, int64_t E) {
    for (int64_t n = 0; n < N; ++n)
        for (int64_t e = 0; e < E; e += W)
            store_part(y + n * E + e, load_part(table + labels[n] * E + e, E - e), E - e);
}

// A task gathers one row of the table from the samples that looked it up, in their order.
template <class Real>
void class_embedding_backward(const Real* dy, const int64_t* labels, float* dtable, int64_t N, int64_t K, int64_t E) {
    parallel_for(K, [&](int64_t k) {
        float* row = dtable + k * E;
        std::memset(row, 0, sizeof(float) * E);
        for (int64_t n = 0; n < N; ++n)
            if (labels[n] == k)
                for (int64_t e = 0; e < E; ++e) row[e] += widen(dy[n * E + e]);
    });
}

TINYDIFF_IN_BOTH(class_embedding_forward)
TINYDIFF_IN_BOTH(class_embedding_backward)

TINYDIFF_END
