// linear: y = x w + b. Derivation: tinydiff/ops/linear.py. M is the product of x's leading axes.
//
// v1_naive           one value a thread, straight from memory: in float32, 4000 bytes read per 1000 FLOP
// v2_shared_tile     one tile of 16 x 16 a block, one value a thread: its operands come to shared memory 16 of C at a
//                    time, so that each value read is used 16 times: 250 bytes
// v3_register_tile   one tile of 64 x 64 a block, 4 x 4 values a thread, in registers: each value read is used 64
//                    times, 63 bytes, and what a thread reads of shared memory four times; see gemm.cuh
//
// On tensor cores, in bfloat16 alone (see tensor_cores.cuh):
// v4_tensor_cores   one tile of 64 x 64 a block
// v5_tall_tiles     128 x 64
// v6_square_tiles   128 x 128
//
// The weight gradient sums over M, in parts of so many rows that do not depend on the device; merge adds them.
#include "gemm.cuh"
#ifdef TINYDIFF_BF16
#include "tensor_cores.cuh"
#endif

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

template <int SIZE>
__device__ inline void forward_in_tiles(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    multiply_tile<SIZE>(Dense<true>{x, M, C, C}, Dense<false>{w, O, C, O}, 0, C, [&](int64 m, int64 o, float sum) {
        if (m < M && o < O) y[m * O + o] = b ? sum + b[o] : sum;
    });
}

// One block does 16 rows and 16 columns of y.
// launch: grid (ceil(M / 16), ceil(O / 16)), block 256, shared: 2304 bytes.
// writes: y, all of it. reproducible: yes, C in its order.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_forward_v2_shared_tile(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    forward_in_tiles<16>(x, w, b, y, M, C, O);
}

// One block does 64 rows and 64 columns of y, one thread four by four of them.
// launch: grid (ceil(M / 64), ceil(O / 64)), block 256, shared: 8704 bytes.
// writes: y, all of it. reproducible: yes, C in its order.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_forward_v3_register_tile(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    forward_in_tiles<64>(x, w, b, y, M, C, O);
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

template <int SIZE>
__device__ inline void input_gradient_in_tiles(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    multiply_tile<SIZE>(Dense<true>{dy, M, O, O}, Dense<true>{w, C, O, O}, 0, O, [&](int64 m, int64 c, float sum) {
        if (m < M && c < C) dx[m * C + c] = sum;
    });
}

// One block does 16 rows and 16 columns of dx.
// launch: grid (ceil(M / 16), ceil(C / 16)), block 256, shared: 2304 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_input_gradient_v2_shared_tile(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    input_gradient_in_tiles<16>(dy, w, dx, M, C, O);
}

// One block does 64 rows and 64 columns of dx, one thread four by four of them.
// launch: grid (ceil(M / 64), ceil(C / 64)), block 256, shared: 8704 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_input_gradient_v3_register_tile(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    input_gradient_in_tiles<64>(dy, w, dx, M, C, O);
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

template <int SIZE>
__device__ inline void weight_gradient_in_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M,
                                                int C, int O) {
    const int64 first = blockIdx.z * stretch, last = min(M, first + stretch);
    multiply_tile<SIZE>(Dense<false>{x, C, M, C}, Dense<false>{dy, O, M, O}, first, last,
                        [&](int64 c, int64 o, float sum) {
                            if (c < C && o < O) dw_parts[(int64(blockIdx.z) * C + c) * O + o] = sum;
                        });
}

// One block does 16 rows and 16 columns of one part of dw.
// launch: grid (ceil(C / 16), ceil(O / 16), parts), block 256, shared: 2304 bytes. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_weight_gradient_v2_shared_tile(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M, int C,
                                          int O) {
    weight_gradient_in_tiles<16>(x, dy, dw_parts, stretch, M, C, O);
}

// One block does 64 rows and 64 columns of one part of dw, one thread four by four of them.
// launch: grid (ceil(C / 64), ceil(O / 64), parts), block 256, shared: 8704 bytes. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    linear_weight_gradient_v3_register_tile(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M,
                                            int C, int O) {
    weight_gradient_in_tiles<64>(x, dy, dw_parts, stretch, M, C, O);
}

#ifdef TINYDIFF_BF16
template <class T>
__device__ inline void forward_on_tensor_cores(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C,
                                               int O) {
    multiply_on_tensor_cores<T>(Rows<true>{x, M, C, C}, Rows<false>{w, O, C, O}, 0, ceil_div(C, STEP),
                                [&](int64 m, int64 o, float u, float v) {
                                    if (m >= M || o >= O) return;
                                    if (b) u += b[o], v += o + 1 < O ? b[o + 1] : 0.0f;
                                    store_pair(y + m * O, o, O, u, v);
                                });
}

template <class T>
__device__ inline void input_gradient_on_tensor_cores(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    multiply_on_tensor_cores<T>(Rows<true>{dy, M, O, O}, Rows<true>{w, C, O, O}, 0, ceil_div(O, STEP),
                                [&](int64 m, int64 c, float u, float v) {
                                    if (m < M) store_pair(dx + m * C, c, C, u, v);
                                });
}

template <class T>
__device__ inline void weight_gradient_on_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch,
                                                       int64 M, int C, int O) {
    const int64 first = blockIdx.z * stretch, last = min(M, first + stretch);
    multiply_on_tensor_cores<T>(Rows<false>{x, C, last, C}, Rows<false>{dy, O, last, O}, first,
                                int(ceil_div(last - first, int64(STEP))), [&](int64 c, int64 o, float u, float v) {
                                    if (c < C) store_pair(dw_parts + (int64(blockIdx.z) * C + c) * O, o, O, u, v);
                                });
}

// One block does 64 rows and 64 columns of y.
// launch: grid (ceil(M / 64), ceil(O / 64)), block 128, shared: 32768 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    linear_forward_v4_tensor_cores(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    forward_on_tensor_cores<SmallTile>(x, w, b, y, M, C, O);
}

// One block does 128 rows and 64 columns of y.
// launch: grid (ceil(M / 128), ceil(O / 64)), block 128, shared: 49152 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    linear_forward_v5_tall_tiles(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    forward_on_tensor_cores<TallTile>(x, w, b, y, M, C, O);
}

// One block does 128 rows and 128 columns of y.
// launch: grid (ceil(M / 128), ceil(O / 128)), block 256, shared: 65536 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    linear_forward_v6_square_tiles(const Real* x, const Real* w, const float* b, Real* y, int64 M, int C, int O) {
    forward_on_tensor_cores<SquareTile>(x, w, b, y, M, C, O);
}

// One block does 64 rows and 64 columns of dx.
// launch: grid (ceil(M / 64), ceil(C / 64)), block 128, shared: 32768 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    linear_input_gradient_v4_tensor_cores(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    input_gradient_on_tensor_cores<SmallTile>(dy, w, dx, M, C, O);
}

// One block does 128 rows and 64 columns of dx.
// launch: grid (ceil(M / 128), ceil(C / 64)), block 128, shared: 49152 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    linear_input_gradient_v5_tall_tiles(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    input_gradient_on_tensor_cores<TallTile>(dy, w, dx, M, C, O);
}

// One block does 128 rows and 128 columns of dx.
// launch: grid (ceil(M / 128), ceil(C / 128)), block 256, shared: 65536 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    linear_input_gradient_v6_square_tiles(const Real* dy, const Real* w, Real* dx, int64 M, int C, int O) {
    input_gradient_on_tensor_cores<SquareTile>(dy, w, dx, M, C, O);
}

// One block does 64 rows and 64 columns of one part of dw.
// launch: grid (ceil(C / 64), ceil(O / 64), parts), block 128, shared: 32768 bytes. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    linear_weight_gradient_v4_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M,
                                           int C, int O) {
    weight_gradient_on_tensor_cores<SmallTile>(x, dy, dw_parts, stretch, M, C, O);
}

// One block does 128 rows and 64 columns of one part of dw.
// launch: grid (ceil(C / 128), ceil(O / 64), parts), block 128, shared: 49152 bytes. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    linear_weight_gradient_v5_tall_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M, int C,
                                         int O) {
    weight_gradient_on_tensor_cores<TallTile>(x, dy, dw_parts, stretch, M, C, O);
}

// One block does 128 rows and 128 columns of one part of dw.
// launch: grid (ceil(C / 128), ceil(O / 128), parts), block 256, shared: 65536 bytes. needs: parts x stretch >= M
// writes: dw_parts (parts, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    linear_weight_gradient_v6_square_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, int64 M,
                                           int C, int O) {
    weight_gradient_on_tensor_cores<SquareTile>(x, dy, dw_parts, stretch, M, C, O);
}
#endif

// One thread adds the parts of one value. launch: threads >= size. writes: dw, all of it. reproducible: yes.
extern "C" __global__ void linear_merge_v1_naive(const float* parts, float* merged, int count, int64 size) {
    merge_parts(parts, merged, count, size);
}

// One block sums 32 columns of one part of dy.
// launch: ceil(O / 32) parts blocks of 256, shared: 256 floats. needs: parts x stretch >= M
// writes: sums (parts, O), all of it. reproducible: yes.
extern "C" __global__ void linear_column_sums_v1_naive(const Real* dy, float* sums, int64 M, int O, int64 stretch) {
    column_sums(dy, sums, M, O, stretch);
}
