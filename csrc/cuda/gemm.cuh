// One matrix product for linear, conv2d and their gradients: c[m, n] = sum_k a[m, k] b[k, n] in float, one tile of c a
// block. What the operands are is theirs to say, so a convolution needs no matrix of copied pixels in memory.
//
// An operand is a class with
//   ALONG_K        whether its neighbours in memory lie along k (else along m or n): loads follow them
//   outer(i)       what there is to know about row m = i (column n = i for b), worked out once a tile
//   inner(k)       what there is to know about place k, worked out once a step
//   at(outer, inner)   the value, 0 outside the matrix
//
// On paper, to be confirmed by measuring, in float32 (in bfloat16 half as much comes from memory). A multiply-add is
// two FLOP and wants two values of 4 bytes; in a tile a value read from memory serves a whole row or column. An H200
// (132 multiprocessors, 67 TFLOP/s) should read 5.5 TB/s from its L2 cache. A multiprocessor does the multiply-adds of
// four warps a clock, but for one warp alone a read of 4 bytes a thread from shared memory, or from L1.
//             values     bytes a thread reads per 1000 FLOP     TFLOP/s at most, by what gives
//   tile      a thread   of memory   of shared memory           L2    L1 or shared memory
//   none      1          4000                                   1.4   8
//   16 x 16   1          250         4000                       22    8
//   64 x 64   4 x 4      63          1000                       88    33 or more
// So the small tile makes sure of what without one hangs on L1, but no more: for every multiply-add a thread still
// reads two values. With 4 x 4 sums in registers it reads eight, as two times 16 bytes, for sixteen.
#pragma once

#include "common.cuh"

constexpr int SIDE = 16;    // threads along each side of a tile
constexpr int TILE_K = 16;  // of k a step
constexpr int GEMM_THREADS = SIDE * SIDE;

// A matrix in memory: value (i, k) at data[i outer_stride + k inner_stride], one of the strides 1.
template <bool ALONG>
struct Dense {
    static constexpr bool ALONG_K = ALONG;
    const Real* data;
    int64 outer_size, inner_size, stride;  // stride of the other axis

    __device__ int64 outer(int64 i) const { return i < outer_size ? i : -1; }
    __device__ int64 inner(int64 k) const { return k < inner_size ? k : -1; }
    __device__ float at(int64 i, int64 k) const {
        if (i < 0 || k < 0) return 0;
        return data[ALONG ? i * stride + k : k * stride + i];
    }
};

// The rows or columns of a tile that a thread does, read as one.
template <int EACH>
struct alignas(EACH * sizeof(float)) Few {
    float v[EACH];
};

// An operand's part of a tile of SIZE x SIZE: (TILE_K, SIZE) values by all threads, along memory.
template <class Operand, int SIZE>
struct Loader {
    static constexpr int EACH = SIZE / SIDE;
    // of a row in shared memory: loads along k go to different banks, as far as the alignment of Few lets them
    static constexpr int PITCH = SIZE + (EACH > 1 ? EACH : 2);
    static constexpr int COUNT = SIZE * TILE_K / GEMM_THREADS;
    const Operand& operand;
    decltype(operand.outer(0)) outer[COUNT];

    __device__ static int outer_of(int i) {
        const int at = int(threadIdx.x) + i * GEMM_THREADS;
        return Operand::ALONG_K ? at / TILE_K : at % SIZE;
    }
    __device__ static int inner_of(int i) {
        const int at = int(threadIdx.x) + i * GEMM_THREADS;
        return Operand::ALONG_K ? at % TILE_K : at / SIZE;
    }

    __device__ Loader(const Operand& given, int64 first) : operand(given) {
        for (int i = 0; i < COUNT; ++i) outer[i] = operand.outer(first + outer_of(i));
    }
    // to (TILE_K, PITCH): the values of k in [first, last), zeros beyond
    __device__ void load(float* to, int64 first, int64 last) const {
        for (int i = 0; i < COUNT; ++i) {
            const int64 k = first + inner_of(i);
            to[inner_of(i) * PITCH + outer_of(i)] = k < last ? operand.at(outer[i], operand.inner(k)) : 0.0f;
        }
    }
};

// The block's tile of c, SIZE x SIZE, summed over k in [first, last), is given to write(m, n, value) by the thread that
// has it, in whichever rows and columns: write looks whether they exist.
template <int SIZE, class A, class B, class Write>
__device__ inline void multiply_tile(const A& a, const B& b, int64 first, int64 last, const Write& write) {
    constexpr int EACH = Loader<A, SIZE>::EACH, PITCH = Loader<A, SIZE>::PITCH;
    Shared shared;
    float* a_tile = shared.take<float>(TILE_K * PITCH);
    float* b_tile = shared.take<float>(TILE_K * PITCH);
    const int64 first_m = int64(blockIdx.x) * SIZE, first_n = int64(blockIdx.y) * SIZE;
    const Loader<A, SIZE> a_loader(a, first_m);
    const Loader<B, SIZE> b_loader(b, first_n);
    const int row = int(threadIdx.x) / SIDE * EACH, column = int(threadIdx.x) % SIDE * EACH;

    float sums[EACH][EACH] = {};
    for (int64 k = first; k < last; k += TILE_K) {
        a_loader.load(a_tile, k, last);
        b_loader.load(b_tile, k, last);
        __syncthreads();
        for (int step = 0; step < TILE_K; ++step) {
            const auto a_few = *reinterpret_cast<const Few<EACH>*>(a_tile + step * PITCH + row);
            const auto b_few = *reinterpret_cast<const Few<EACH>*>(b_tile + step * PITCH + column);
            for (int i = 0; i < EACH; ++i)
                for (int j = 0; j < EACH; ++j) sums[i][j] += a_few.v[i] * b_few.v[j];
        }
        __syncthreads();
    }
    for (int i = 0; i < EACH; ++i)
        for (int j = 0; j < EACH; ++j) write(first_m + row + i, first_n + column + j, sums[i][j]);
}

// sums[part, o] = sum over the part's rows of dy (rows, O), each part `stretch` rows. A block does 32 columns of one
// part: eight warps take the rows in turn, the first adds what they have. The blocks lie along x, where a grid has
// enough for a part a sample.
// launch: ceil(O / 32) parts blocks of 256, shared: 256 floats
__device__ inline void column_sums(const Real* dy, float* sums, int64 rows, int O, int64 stretch) {
    float* warps = Shared().take<float>(GEMM_THREADS);
    const int lane = int(threadIdx.x) % WARP, warp = int(threadIdx.x) / WARP;
    const int across = ceil_div(O, WARP);
    const int64 o = int64(blockIdx.x % across) * WARP + lane, part = blockIdx.x / across;
    const int64 first = part * stretch, last = min(rows, first + stretch);
    float total = 0;
    if (o < O)
        for (int64 row = first + warp; row < last; row += GEMM_THREADS / WARP) total += dy[row * O + o];
    warps[threadIdx.x] = total;
    __syncthreads();
    if (warp > 0 || o >= O) return;
    for (int other = 1; other < GEMM_THREADS / WARP; ++other) total += warps[other * WARP + lane];
    sums[part * O + o] = total;
}
