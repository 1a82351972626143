// gelu: y = x Phi(x). Derivation: tinydiff/ops/gelu.py.
//
// v1_naive     one value a thread
// v2_vectors   as many values a thread as one access of 16 bytes brings
#include "gelu.cuh"

// One thread does one value.
// launch: threads >= count
// writes: y, all of it. reproducible: yes, nothing is summed.
extern "C" __global__ void gelu_forward_v1_naive(const Real* x, Real* y, int64 count, int form) {
    const int64 i = global_thread();
    if (i < count) y[i] = float(x[i]) * gelu_share(x[i], form);
}

// One thread does one value.
// launch: threads >= count
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void gelu_backward_v1_naive(const Real* dy, const Real* x, Real* dx, int64 count, int form) {
    const int64 i = global_thread();
    if (i < count) dx[i] = float(dy[i]) * gelu_slope(x[i], form);
}

// One thread does the neighbours that 16 bytes hold, a warp 512 bytes in one go. Arrays that are not aligned to 16
// bytes cost an access a value.
// launch: threads >= count / VECTOR
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void gelu_forward_v2_vectors(const Real* x, Real* y, int64 count, int form) {
    const int64 i = VECTOR * global_thread();
    if (i >= count) return;
    Vector v = load_vector(x + i, count - i);
    for (float& each : v.v) each *= gelu_share(each, form);
    store_vector(y + i, v, count - i);
}

// One thread does the neighbours that 16 bytes hold.
// launch: threads >= count / VECTOR
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void gelu_backward_v2_vectors(const Real* dy, const Real* x, Real* dx, int64 count, int form) {
    const int64 i = VECTOR * global_thread();
    if (i >= count) return;
    const Vector v = load_vector(x + i, count - i);
    Vector d = load_vector(dy + i, count - i);
    for (int j = 0; j < VECTOR; ++j) d.v[j] *= gelu_slope(v.v[j], form);
    store_vector(dx + i, d, count - i);
}
