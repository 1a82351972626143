// class_embedding: one learned row per class. Derivation: tinydiff/ops/class_embedding.py.
//
// v1_naive     one value a thread; the backward gathers, so nothing is added by several threads
#include "common.cuh"

// One thread does one value of y (N, E). A label outside the table, which only the device has seen, gives NaN: the
// run then stops at its loss instead of training on another row.
// launch: threads >= N E
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void class_embedding_forward_v1_naive(const float* table, const int64* labels, Real* y, int N,
                                                            int K, int E) {
    const int64 i = global_thread();
    if (i >= int64(N) * E) return;
    const int64 label = labels[i / E];
    y[i] = label >= 0 && label < K ? table[label * E + i % E] : not_a_number();
}

// One thread does one value of dtable (K, E): it looks through all labels for its row.
// launch: threads >= K E
// writes: dtable, all of it, zeros where no label was. reproducible: yes, samples are added in their order.
extern "C" __global__ void class_embedding_backward_v1_naive(const Real* dy, const int64* labels, float* dtable, int N,
                                                             int K, int E) {
    const int64 i = global_thread();
    if (i >= int64(K) * E) return;
    const int64 k = i / E, e = i % E;
    float total = 0;
    for (int n = 0; n < N; ++n)
        if (labels[n] == k) total += dy[int64(n) * E + e];
    dtable[i] = total;
}
