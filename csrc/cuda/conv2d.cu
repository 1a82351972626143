// conv2d: cross-correlation, channels last. Derivation: tinydiff/ops/conv2d.py; H_out = H', W_out = W'.
//
// v1_naive           one value a thread, straight from memory: in float32, 4000 bytes read per 1000 FLOP
// v2_shared_tile     one tile of 16 x 16 a block, one value a thread: pixels and filter come to shared memory 16 places
//                    of the sum at a time, so that each value read, once looked up, is used 16 times: 250 bytes
// v3_implicit_gemm   one tile of 64 x 64 a block, 4 x 4 values a thread, in registers: each value read is used 64
//                    times, 63 bytes, and what a thread reads of shared memory four times
// Both have their product of gemm.cuh: the matrix of pixels under the filter, (N H' W', R S C), is never made; its
// values are looked up in x when a tile of it goes to shared memory. Both gradients likewise.
//
// On paper, to be confirmed by measuring: a 3x3 convolution of the reference U-Net at batch 128 is 7.4 GFLOP. By what
// gemm.cuh says of an H200, v1 takes 0.9 ms if L1 catches everything and 5 ms if nothing; v2 0.3 ms for its 1.9 GB from
// L2, but 0.9 ms for its reads of shared memory; v3 0.1 ms for 0.5 GB from L2 and 0.1 to 0.2 ms for shared memory.
//
// On tensor cores, in bfloat16 alone: the same with the product of tensor_cores.cuh
// v4_tensor_cores   one tile of 64 x 64 a block
// v5_tall_tiles     128 x 64
// v6_square_tiles   128 x 128
//
// The weight gradient sums over the pixels, in parts of so many that do not depend on the device; merge adds them.
#include "conv2d_operands.cuh"

// The sizes of a convolution as every kernel takes them.
#define CONV int N, int H, int W, int C, int R, int S, int O, int stride, int before, int H_out, int W_out
#define THE_CONV {N, H, W, C, R, S, O, stride, before, H_out, W_out}

// What is added to the sum of pixel m and channel o. b and add may be null; of add, one row serves `add_pixels`
// neighbouring pixels: H' W' for a time shift, 1 for a residual.
struct Epilogue {
    const float* b;
    const Real* add;
    int add_pixels, O;
    __device__ float operator()(int64 m, int64 o, float sum) const {
        if (add) sum += add[m / add_pixels * O + o];
        return b ? sum + b[o] : sum;
    }
};

// One thread does one value of y.
// launch: threads >= N H' W' O
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void conv2d_forward_v1_naive(const Real* x, const Real* w, const float* b, const Real* add,
                                                   Real* y, int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread();
    if (i >= conv.pixels_out() * O) return;
    const int64 m = i / O, o = i % O;
    const Pixel p = pixel_at(m, N, H_out, W_out);
    float sum = 0;
    for (int r = 0; r < R; ++r)
        for (int s = 0; s < S; ++s)
            for (int c = 0; c < C; ++c) sum += seen(conv, x, p, {r, s, c}) * w[((int64(r) * S + s) * C + c) * O + o];
    y[i] = Epilogue{b, add, add_pixels, O}(m, o, sum);
}

template <int SIZE>
__device__ inline void forward_in_tiles(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                        int add_pixels, const Conv& conv) {
    const int K = conv.R * conv.S * conv.C, O = conv.O;
    const Epilogue epilogue{b, add, add_pixels, O};
    multiply_tile<SIZE>(Seen{conv, x}, Dense<false>{w, O, K, O}, 0, K, [&](int64 m, int64 o, float sum) {
        if (m < conv.pixels_out() && o < O) y[m * O + o] = epilogue(m, o, sum);
    });
}

// One block does 16 pixels and 16 channels of y.
// launch: grid (ceil(N H' W' / 16), ceil(O / 16)), block 256, shared: 2304 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_forward_v2_shared_tile(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                  int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_in_tiles<16>(x, w, b, add, y, add_pixels, conv);
}

// One block does 64 pixels and 64 channels of y, one thread four by four of them.
// launch: grid (ceil(N H' W' / 64), ceil(O / 64)), block 256, shared: 8704 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_forward_v3_implicit_gemm(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                    int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_in_tiles<64>(x, w, b, add, y, add_pixels, conv);
}

// One thread does one value of dx: it gathers from every pixel of y that saw it.
// launch: threads >= N H W C
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void conv2d_input_gradient_v1_naive(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread();
    if (i >= conv.pixels() * C) return;
    const int64 c = i % C;
    const Pixel p = pixel_at(i / C, N, H, W);
    float sum = 0;
    for (int r = 0; r < R; ++r)
        for (int s = 0; s < S; ++s)
            for (int o = 0; o < O; ++o)
                sum += received(conv, dy, p, {r, s, o}) * w[((int64(r) * S + s) * C + c) * O + o];
    dx[i] = sum;
}

template <int SIZE>
__device__ inline void input_gradient_in_tiles(const Real* dy, const Real* w, Real* dx, const Conv& conv) {
    const int64 K = int64(conv.R) * conv.S * conv.O;
    multiply_tile<SIZE>(Received{conv, dy}, FilterTurned{conv, w}, 0, K, [&](int64 m, int64 c, float sum) {
        if (m < conv.pixels() && c < conv.C) dx[m * conv.C + c] = sum;
    });
}

// One block does 16 pixels and 16 channels of dx.
// launch: grid (ceil(N H W / 16), ceil(C / 16)), block 256, shared: 2304 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_input_gradient_v2_shared_tile(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_in_tiles<16>(dy, w, dx, conv);
}

// One block does 64 pixels and 64 channels of dx, one thread four by four of them.
// launch: grid (ceil(N H W / 64), ceil(C / 64)), block 256, shared: 8704 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_input_gradient_v3_implicit_gemm(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_in_tiles<64>(dy, w, dx, conv);
}

// One thread does one value of one part of dw.
// launch: grid (ceil(R S C O / block), parts). needs: parts x stretch >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void conv2d_weight_gradient_v1_naive(const Real* x, const Real* dy, float* dw_parts,
                                                           int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    const int64 i = global_thread(), size = int64(R) * S * C * O;
    if (i >= size) return;
    const Tap tap = tap_at(i / O, R, S, C);
    const int64 o = i % O, first = blockIdx.y * stretch;
    float sum = 0;
    for (int64 m = first; m < min(conv.pixels_out(), first + stretch); ++m)
        sum += seen(conv, x, pixel_at(m, N, H_out, W_out), tap) * dy[m * O + o];
    dw_parts[blockIdx.y * size + i] = sum;
}

template <int SIZE>
__device__ inline void weight_gradient_in_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch,
                                                const Conv& conv) {
    const int64 taps = int64(conv.R) * conv.S * conv.C, pixels = conv.pixels_out(), O = conv.O;
    const int64 first = blockIdx.z * stretch, last = min(pixels, first + stretch);
    multiply_tile<SIZE>(SeenTurned{conv, x}, Dense<false>{dy, O, pixels, O}, first, last,
                        [&](int64 tap, int64 o, float sum) {
                            if (tap < taps && o < O) dw_parts[(blockIdx.z * taps + tap) * O + o] = sum;
                        });
}

// One block does 16 taps and 16 channels of one part of dw.
// launch: grid (ceil(R S C / 16), ceil(O / 16), parts), block 256, shared: 2304 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_weight_gradient_v2_shared_tile(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_in_tiles<16>(x, dy, dw_parts, stretch, conv);
}

// One block does 64 taps and 64 channels of one part of dw, one thread four by four of them.
// launch: grid (ceil(R S C / 64), ceil(O / 64), parts), block 256, shared: 8704 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(GEMM_THREADS)
    conv2d_weight_gradient_v3_implicit_gemm(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_in_tiles<64>(x, dy, dw_parts, stretch, conv);
}

#ifdef TINYDIFF_BF16
template <class T>
__device__ inline void forward_on_tensor_cores(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                               int add_pixels, const Conv& conv) {
    const int O = conv.O;
    multiply_on_tensor_cores<T>(SeenPieces{conv, x}, FilterPieces{conv, w}, 0, steps_of_taps(conv.R, conv.S, conv.C),
                                [&](int64 m, int64 o, float u, float v) {
                                    if (m >= conv.pixels_out() || o >= O) return;
                                    if (add) {
                                        const float2 pair =
                                            load_pair(add + (add_pixels == 1 ? m : m / add_pixels) * O, o, O);
                                        u += pair.x, v += pair.y;
                                    }
                                    if (b) u += b[o], v += o + 1 < O ? b[o + 1] : 0.0f;
                                    store_pair(y + m * O, o, O, u, v);
                                });
}

template <class T>
__device__ inline void input_gradient_on_tensor_cores(const Real* dy, const Real* w, Real* dx, const Conv& conv) {
    multiply_on_tensor_cores<T>(ReceivedPieces{conv, dy}, FilterPiecesTurned{conv, w}, 0,
                                steps_of_taps(conv.R, conv.S, conv.O), [&](int64 m, int64 c, float u, float v) {
                                    if (m < conv.pixels()) store_pair(dx + m * conv.C, c, conv.C, u, v);
                                });
}

template <class T>
__device__ inline void weight_gradient_on_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch,
                                                       const Conv& conv) {
    const int64 pixels = conv.pixels_out(), first = blockIdx.z * stretch, last = min(pixels, first + stretch);
    const int C8 = filled_up(conv.C), taps = conv.R * conv.S, O = conv.O;
    multiply_on_tensor_cores<T>(SeenPiecesTurned(conv, x, last), Rows<false>{dy, O, last, O}, first,
                                int(ceil_div(last - first, int64(STEP))), [&](int64 m, int64 o, float u, float v) {
                                    const int tap = int(m) / C8, c = int(m) % C8;
                                    if (tap >= taps || c >= conv.C) return;
                                    const int64 row = (int64(blockIdx.z) * taps + tap) * conv.C + c;
                                    store_pair(dw_parts + row * O, o, O, u, v);
                                });
}

// One block does 64 pixels and 64 channels of y.
// launch: grid (ceil(N H' W' / 64), ceil(O / 64)), block 128, shared: 32768 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_forward_v4_tensor_cores(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                   int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<SmallTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 128 pixels and 64 channels of y.
// launch: grid (ceil(N H' W' / 128), ceil(O / 64)), block 128, shared: 49152 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_forward_v5_tall_tiles(const Real* x, const Real* w, const float* b, const Real* add, Real* y, int add_pixels,
                                 CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<TallTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 128 pixels and 128 channels of y.
// launch: grid (ceil(N H' W' / 128), ceil(O / 128)), block 256, shared: 65536 bytes.
// writes: y, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_forward_v6_square_tiles(const Real* x, const Real* w, const float* b, const Real* add, Real* y,
                                   int add_pixels, CONV) {
    const Conv conv = THE_CONV;
    forward_on_tensor_cores<SquareTile>(x, w, b, add, y, add_pixels, conv);
}

// One block does 64 pixels and 64 channels of dx.
// launch: grid (ceil(N H W / 64), ceil(C / 64)), block 128, shared: 32768 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_input_gradient_v4_tensor_cores(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<SmallTile>(dy, w, dx, conv);
}

// One block does 128 pixels and 64 channels of dx.
// launch: grid (ceil(N H W / 128), ceil(C / 64)), block 128, shared: 49152 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_input_gradient_v5_tall_tiles(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<TallTile>(dy, w, dx, conv);
}

// One block does 128 pixels and 128 channels of dx.
// launch: grid (ceil(N H W / 128), ceil(C / 128)), block 256, shared: 65536 bytes.
// writes: dx, all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_input_gradient_v6_square_tiles(const Real* dy, const Real* w, Real* dx, CONV) {
    const Conv conv = THE_CONV;
    input_gradient_on_tensor_cores<SquareTile>(dy, w, dx, conv);
}

// One block does 64 taps and 64 channels of one part of dw.
// launch: grid (ceil(R S C8 / 64), ceil(O / 64), parts), block 128, shared: 32768 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SmallTile::THREADS)
    conv2d_weight_gradient_v4_tensor_cores(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<SmallTile>(x, dy, dw_parts, stretch, conv);
}

// One block does 128 taps and 64 channels of one part of dw.
// launch: grid (ceil(R S C8 / 128), ceil(O / 64), parts), block 128, shared: 49152 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(TallTile::THREADS)
    conv2d_weight_gradient_v5_tall_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<TallTile>(x, dy, dw_parts, stretch, conv);
}

// One block does 128 taps and 128 channels of one part of dw.
// launch: grid (ceil(R S C8 / 128), ceil(O / 128), parts), block 256, shared: 65536 bytes. needs: parts x stretch
// >= N H' W'
// writes: dw_parts (parts, R, S, C, O), all of it. reproducible: yes.
extern "C" __global__ void __launch_bounds__(SquareTile::THREADS, 2)
    conv2d_weight_gradient_v6_square_tiles(const Real* x, const Real* dy, float* dw_parts, int64 stretch, CONV) {
    const Conv conv = THE_CONV;
    weight_gradient_on_tensor_cores<SquareTile>(x, dy, dw_parts, stretch, conv);
}
#endif

// One thread adds the parts of one value. launch: threads >= size. writes: merged, all of it. reproducible: yes.
extern "C" __global__ void conv2d_merge_v1_naive(const float* parts, float* merged, int count, int64 size) {
    merge_parts(parts, merged, count, size);
}

// One block sums 32 channels of dy over the pixels of one sample: the gradient of a time shift. Added up over the
// samples it is that of the bias.
// launch: ceil(O / 32) N blocks of 256, shared: 256 floats
// writes: sums (N, O), all of it. reproducible: yes.
extern "C" __global__ void conv2d_column_sums_v1_naive(const Real* dy, float* sums, int64 rows, int O, int64 stretch) {
    column_sums(dy, sums, rows, O, stretch);
}
