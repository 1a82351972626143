// silu: y = x sigmoid(x). Derivation: tinydiff/ops/silu.py.
//
// v1_naive     one value a thread
// v2_vectors   four values a thread, in one access of 16 bytes
#include "common.cuh"

// One thread does one value.
// launch: threads >= count
// writes: y, all of it. reproducible: yes, nothing is summed.
extern "C" __global__ void silu_forward_v1_naive(const Real* x, Real* y, int64 count) {
    const int64 i = global_thread();
    if (i < count) y[i] = x[i] * sigmoid(x[i]);
}

// One thread does one value.
// launch: threads >= count
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void silu_backward_v1_naive(const Real* dy, const Real* x, Real* dx, int64 count) {
    const int64 i = global_thread();
    if (i < count) dx[i] = dy[i] * silu_slope(x[i]);
}

// One thread does four neighbours, a warp 512 bytes in one go. Arrays that are not aligned to 16 bytes cost four
// accesses instead of one.
// launch: threads >= count / 4
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void silu_forward_v2_vectors(const Real* x, Real* y, int64 count) {
    const int64 i = 4 * global_thread();
    if (i >= count) return;
    const float4 v = load4(x + i, count - i);
    store4(y + i, make_float4(v.x * sigmoid(v.x), v.y * sigmoid(v.y), v.z * sigmoid(v.z), v.w * sigmoid(v.w)),
           count - i);
}

// One thread does four neighbours.
// launch: threads >= count / 4
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void silu_backward_v2_vectors(const Real* dy, const Real* x, Real* dx, int64 count) {
    const int64 i = 4 * global_thread();
    if (i >= count) return;
    const float4 v = load4(x + i, count - i), d = load4(dy + i, count - i);
    store4(dx + i,
           make_float4(d.x * silu_slope(v.x), d.y * silu_slope(v.y), d.z * silu_slope(v.z), d.w * silu_slope(v.w)),
           count - i);
}
