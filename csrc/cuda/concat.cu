// concat: two activations side by side along their channels. Derivation: tinydiff/ops/concat.py.
//
// v1_naive     one value a thread
#include "common.cuh"

// One thread does one value of y (pixels, A + B).
// launch: threads >= pixels (A + B)
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void concat_forward_v1_naive(const Real* a, const Real* b, Real* y, int64 pixels, int A, int B) {
    const int64 i = global_thread();
    if (i >= pixels * (A + B)) return;
    const int64 pixel = i / (A + B);
    const int c = int(i % (A + B));
    y[i] = c < A ? a[pixel * A + c] : b[pixel * B + c - A];
}

// One thread moves one value of dy (pixels, A + B).
// launch: threads >= pixels (A + B)
// writes: da and db, all of them. reproducible: yes.
extern "C" __global__ void concat_backward_v1_naive(const Real* dy, Real* da, Real* db, int64 pixels, int A, int B) {
    const int64 i = global_thread();
    if (i >= pixels * (A + B)) return;
    const int64 pixel = i / (A + B);
    const int c = int(i % (A + B));
    if (c < A)
        da[pixel * A + c] = dy[i];
    else
        db[pixel * B + c - A] = dy[i];
}
