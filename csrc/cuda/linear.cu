// linear: y = x w + b. Derivation: tinydiff/ops/linear.py. M is the product of x's leading axes.
//
// v1_naive     one value a thread, straight from memory
// v2_tile      one tile of 64 x 64 a block, its operands staged in shared memory: each value read is used 64 times
//
// The weight gradient sums over M, in parts of so many rows that do not depend on the device; merge adds them.
#include "gemm.cuh"

// One thread does one value of y (M, O). b may be null.
// launch: threads >= M O
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void linear_forward_v1_naive(const Real* x, const Real* w, const float* b, Real* y, int64 M,
                                                   int C, int O) {
    const int64 i = global_thread();
    if (i >= M * O) return;
    const int64 m = i / O, o = i % O;
    float sum = 0;
    for (int c = 0; c < C; ++c) sum += x[m * C + c] * w[int64(c) * O + o];
    y[i] = b ? sum + b[o] : sum;
}

// One block does 64 rows and 64 columns of y.
// launch: grid (ceil(M / 64), ceil(O / 64)), block 256, shared: GEMM_SHARED_BYTES
// writes: y, all of it. reproducible: yes, C in its order.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_forward_v2_tile(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    multiply_tile(Dense<true>{x, M, C, C}, Dense<false>{w, O, C, O}, 0, C, [&](int64 m, int64 o, float sum) {
        if (m < M && o < O) y[m * O + o] = b ? sum + b[o] : sum;
    });
}

// One thread does one value of dx (M, C).
// launch: threads >= M C
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void linear_input_gradient_v1_naive(const Real* dy, const Real* w, Real* dx, int64 M, int C,
                                                          int O) {
    const int64 i = global_thread();
    if (i >= M * C) return;
    const int64 m = i / C, c = i % C;
    float sum = 0;
    for (int o = 0; o < O; ++o) sum += dy[m * O + o] * w[c * O + o];
    dx[i] = sum;
}

// One block does 64 rows and 64 columns of dx.
// launch: grid (ceil(M / 64), ceil(C / 64)), block 256, shared: GEMM_SHARED_BYTES
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_input_gradient_v2_tile(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    multiply_tile(Dense<true>{dy, M, O, O}, Dense<true>{w, C, O, O}, 0, O, [&](int64 m, int64 c, float sum) {
        if (m < M && c < C) dx[m * C + c] = sum;
    });
}

// One thread does one value of one part of dw.
// launch: grid (ceil(C O / block), parts). needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void linear_weight_gradient_v1_naive(const Real* x, const Real* dy, float* dw_parts,
                                                           int64 stretch, int64 M, int C, int O) {
    const int64 i = global_thread(), size = int64(C) * O;
    if (i >= size) return;
    const int64 c = i / O, o = i % O, first = blockIdx.y * stretch;
    float sum = 0;
    for (int64 m = first; m < min(M, first + stretch); ++m) sum += x[m * C + c] * dy[m * O + o];
    dw_parts[blockIdx.y * size + i] = sum;
}

// One block does 64 rows and 64 columns of one part of dw.
// launch: grid (ceil(C / 64), ceil(O / 64), parts), block 256, shared: GEMM_SHARED_BYTES. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_weight_gradient_v2_tile(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M, int C,
                                   int O) {
    const int64 first = blockIdx.z * stretch, last = min(M, first + stretch);
    multiply_tile(Dense<false>{x, C, M, C}, Dense<false>{dy, O, M, O}, first, last, [&](int64 c, int64 o, float sum) {
        if (c < C && o < O) dw_parts[(int64(blockIdx.z) * C + c) * O + o] = sum;
    });
}

// One thread adds the parts of one value. launch: threads >= size. writes: dw, all of it. reproducible: yes.
extern "C" __global__ void linear_merge_v1_naive(const float* parts, float* merged, int count, int64 size) {
    merge_parts(parts, merged, count, size);
}

// One block sums 32 columns of one part of dy.
// launch: grid (ceil(O / 32), parts), block 256, shared: 256 floats. needs: parts x stretch >= M
// writes: sums (parts, O), all of it. reproducible: yes.
extern "C" __global__ void linear_column_sums_v1_naive(const Real* dy, float* sums, int64 M, int O, int64 stretch) {
    column_sums(dy, sums, M, O, stretch);
}
