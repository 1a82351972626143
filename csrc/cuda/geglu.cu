// geglu: y = a gelu(g). Derivation: tinydiff/ops/geglu.py.
//
// v1_naive     one value of y a thread
#include "gelu.cuh"

// One thread does one value of y, from one of a and one of g.
// launch: threads >= count, the values of y
// writes: y, all of it. reproducible: yes, nothing is summed.
extern "C" __global__ void geglu_forward_v1_naive(const Real* x, Real* y, int64 count, int C) {
    const int64 i = global_thread();
    if (i >= count) return;
    const int64 a = i + i / C * C;  // in a row of 2 C
    const float g = x[a + C];
    y[i] = float(x[a]) * (g * gelu_share(g, EXACT));
}

// One thread does one value of dy, and two of dx.
// launch: threads >= count, the values of dy
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void geglu_backward_v1_naive(const Real* dy, const Real* x, Real* dx, int64 count, int C) {
    const int64 i = global_thread();
    if (i >= count) return;
    const int64 a = i + i / C * C;
    const float g = x[a + C], d = dy[i];
    dx[a] = d * (g * gelu_share(g, EXACT));
    dx[a + C] = d * float(x[a]) * gelu_slope(g, EXACT);
}
