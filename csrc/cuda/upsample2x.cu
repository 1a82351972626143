// upsample2x: every pixel becomes a 2x2 block of itself. Derivation: tinydiff/ops/upsample2x.py.
//
// v1_naive     one value a thread
#include "common.cuh"

// One thread does one value of y; neighbouring threads, neighbouring channels.
// launch: threads >= N 2H 2W C
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void upsample2x_forward_v1_naive(const Real* x, Real* y, int N, int H, int W, int C) {
    const int64 i = global_thread();
    if (i >= int64(N) * 4 * H * W * C) return;
    const int c = int(i % C);
    const int64 pixel = i / C;
    const int w = int(pixel % (2 * W)), h = int(pixel / (2 * W) % (2 * H));
    const int64 n = pixel / (2 * W) / (2 * H);
    y[i] = x[((n * H + h / 2) * W + w / 2) * C + c];
}

// One thread does one value of dx: it gathers the four gradients of its copies.
// launch: threads >= N H W C
// writes: dx, all of it. reproducible: yes, four terms in one order.
extern "C" __global__ void upsample2x_backward_v1_naive(const Real* dy, Real* dx, int N, int H, int W, int C) {
    const int64 i = global_thread();
    if (i >= int64(N) * H * W * C) return;
    const int c = int(i % C);
    const int64 pixel = i / C, row = pixel / W;  // row = n H + h
    const int w = int(pixel % W);
    const Real* top = dy + ((2 * row) * 2 * W + 2 * w) * C + c;
    const Real* bottom = top + int64(2) * W * C;
    dx[i] = top[0] + top[C] + bottom[0] + bottom[C];
}
