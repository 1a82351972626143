// One matrix product on tensor cores for linear, conv2d and their gradients: c[m, n] = sum_k a[m, k] b[k, n] of
// bfloat16 operands, summed in float, one tile of c a block. As in gemm.cuh the operands are looked up where they lie.
//
// They come in steps of 32 along k and in pieces of 16 bytes, eight neighbours in memory, by asynchronous copies into a
// ring of four stages: while a step is multiplied the next three are on their way. An operand is a class with
//   ALONG_K        whether the neighbours of a piece lie along k (else along m or n)
//   outer(i)       what there is to know about row m = i (column n = i for b) of which, or at which, a piece begins;
//                  worked out once a tile
//   inner(k)       what there is to know about place k along the sum, worked out once a tile
//   next(inner)    the same one step further
//   at(outer, inner)   the piece
//
// On paper, to be confirmed by measuring. An H200 (132 multiprocessors, 4.8 TB/s, 989 TFLOP/s dense) should give
// mma.sync about 60 % of its peak, some 590 TFLOP/s. A 3x3 convolution of the reference U-Net at batch 128 is 7.4 GFLOP
// at every level (64 channels at 28x28, 128 at 14x14, 256 at 7x7): 12.5 us of products, against 5.4 us for the 26 MB of
// x and y at 28x28 and less below.
//   tile        registers, shared bytes   blocks and warps a multiprocessor   bytes copied per 1000 FLOP
//   64 x 64     72 to 94, 32 KiB          5, 20                               31
//   128 x 64    122 to 166, 48 KiB        3 or 4, 12 or 16                    23
//   128 x 128   120 to 128, 64 KiB        2, 16                               16
// The copies are what limits: 173 MB of them for 128 x 64 tiles at 28x28 would take 30 us from an L2 cache of some
// 5.5 TB/s. Of the nine readings of a pixel all but the first should come from L1 (12 KiB a block), which leaves 76 MB
// or 14 us: 15 to 20 us a convolution. At 7x7 there are 98 tiles of 128 x 128 for 132 multiprocessors: 17 us at best.
// The weight gradient adds its parts: 52 x 147 KB written and read at 28x28, 3 us.
#pragma once

#include "ptx.cuh"

constexpr int STEP = 32;   // of k
constexpr int STAGES = 4;  // steps in shared memory
constexpr int PIECE = 8;   // values in 16 bytes

// The tile of c a block does, cut into WARPS_M x WARPS_N rectangles, one a warp.
template <int ROWS, int COLUMNS, int DOWN, int ACROSS>
struct Tile {
    static constexpr int M = ROWS, N = COLUMNS;
    static constexpr int WARPS_M = DOWN, WARPS_N = ACROSS, THREADS = DOWN * ACROSS * WARP;
    static constexpr int WARP_M = M / WARPS_M, WARP_N = N / WARPS_N;
};
// A warp loads WARP_M + WARP_N values for WARP_M x WARP_N products: the larger its rectangle the less it waits for
// shared memory, and the larger the tile the less the block waits for what lies beyond it; the smaller the tile the
// more blocks there are to share the work.
using SmallTile = Tile<64, 64, 2, 2>;
using TallTile = Tile<128, 64, 2, 2>;
using SquareTile = Tile<128, 128, 2, 4>;

// Eight neighbours at `from`, of which the first `valid` exist; the others are zeros.
struct Piece {
    const Real* from;
    int valid;
};

__device__ inline int valid_of(int64 left) { return int(max(int64(0), min(int64(PIECE), left))); }

// At `channel` of the row at `offset`, which is `channels` long.
__device__ inline Piece piece_of(const Real* data, int64 offset, int channel, int channels) {
    return {data + offset + channel, max(0, min(PIECE, channels - channel))};
}

// A matrix in memory: value (i, k) at data[i stride + k] along k, else at data[k stride + i].
template <bool ALONG>
struct Rows {
    static constexpr bool ALONG_K = ALONG;
    const Real* data;
    int64 outer_size, inner_size, stride;  // stride of the other axis; k ends at inner_size

    __device__ int64 outer(int64 i) const { return i; }
    __device__ int64 inner(int64 k) const { return k; }
    __device__ void next(int64& k) const { k += STEP; }
    __device__ Piece at(int64 i, int64 k) const {
        if (i >= outer_size || k >= inner_size) return {data, 0};
        return ALONG ? Piece{data + i * stride + k, valid_of(inner_size - k)}
                     : Piece{data + k * stride + i, valid_of(outer_size - i)};
    }
};

// Where a piece of a row of PIECES lies in a tile: XOR puts the same piece of eight neighbouring rows, which is what
// one matrix of a load is, into eight different groups of banks.
template <int PIECES>
__device__ inline int place_of(int row, int piece) {
    static_assert(PIECES == 4 || PIECES % 8 == 0, "eight pieces fill all banks");
    return (row * PIECES + (piece ^ (PIECES == 4 ? row / 2 % 4 : row % 8))) * PIECE;
}

// To shared memory; asynchronous where the piece is aligned, which those of channels by the eight are.
__device__ inline void copy_piece(Real* to, Piece piece) {
    if (aligned_16(piece.from)) {
        copy_async_16(to, piece.from, piece.valid * int(sizeof(Real)));
        return;
    }
    UNROLL
    for (int i = 0; i < PIECE; ++i) to[i] = i < piece.valid ? piece.from[i] : Real(0);
}

// What this thread brings of one operand: COUNT pieces a step, all at the same place along k.
template <class Operand, int SIZE, int THREADS>
struct Bringer {
    static constexpr int PIECES = Operand::ALONG_K ? STEP / PIECE : SIZE / PIECE;  // of a row in shared memory
    static constexpr int ROWS = Operand::ALONG_K ? SIZE : STEP;
    static constexpr int SIDE_BY_SIDE = Operand::ALONG_K ? PIECES : THREADS / STEP;  // threads at one row
    static constexpr int COUNT = ROWS * PIECES / THREADS;
    static_assert(COUNT >= 1 && ROWS * PIECES % THREADS == 0, "every thread brings as much");

    const Operand& operand;
    decltype(operand.outer(0)) outer[COUNT];
    decltype(operand.inner(0)) inner;

    __device__ static int row(int i) {
        return int(threadIdx.x) / SIDE_BY_SIDE + (Operand::ALONG_K ? i * (THREADS / SIDE_BY_SIDE) : 0);
    }
    __device__ static int piece(int i) {
        return int(threadIdx.x) % SIDE_BY_SIDE + (Operand::ALONG_K ? 0 : i * SIDE_BY_SIDE);
    }
    __device__ Bringer(const Operand& given, int64 first_outer, int64 first_k)
        : operand(given), inner(given.inner(first_k + (Operand::ALONG_K ? piece(0) * PIECE : row(0)))) {
        UNROLL
        for (int i = 0; i < COUNT; ++i)
            outer[i] = operand.outer(first_outer + (Operand::ALONG_K ? row(i) : piece(i) * PIECE));
    }
    __device__ void bring(Real* tile) {
        UNROLL
        for (int i = 0; i < COUNT; ++i)
            copy_piece(tile + place_of<PIECES>(row(i), piece(i)), operand.at(outer[i], inner));
        operand.next(inner);
    }
};

// Two neighbours of a row that ends at `size`, 0 beyond; as one access where they are aligned to it.
__device__ inline float2 load_pair(const Real* row, int64 n, int64 size) {
    if (n + 1 < size && reinterpret_cast<unsigned long long>(row + n) % 4 == 0) {
        const unsigned pair = *reinterpret_cast<const unsigned*>(row + n);
        return make_float2(low_bf16(pair), high_bf16(pair));
    }
    return make_float2(row[n], n + 1 < size ? float(row[n + 1]) : 0.0f);
}

// Two neighbours of a row that ends at `size`, as one access where they are aligned to it.
__device__ inline void store_pair(Real* row, int64 n, int64 size, float v, float w) {
    if (n + 1 < size && reinterpret_cast<unsigned long long>(row + n) % 4 == 0)
        *reinterpret_cast<unsigned*>(row + n) = pack_bf16(v, w);
    else {
        if (n < size) row[n] = v;
        if (n + 1 < size) row[n + 1] = w;
    }
}
__device__ inline void store_pair(float* row, int64 n, int64 size, float v, float w) {
    if (n + 1 < size && reinterpret_cast<unsigned long long>(row + n) % 8 == 0)
        *reinterpret_cast<float2*>(row + n) = make_float2(v, w);
    else {
        if (n < size) row[n] = v;
        if (n + 1 < size) row[n + 1] = w;
    }
}

// The block's tile of c, summed over so many steps of k from `first`, is given to write(m, n, c[m, n], c[m, n + 1]), n
// even, in whichever rows and columns: write looks whether they exist.
template <class T, class A, class B, class Write>
__device__ inline void multiply_on_tensor_cores(const A& a, const B& b, int64 first, int steps, const Write& write) {
    constexpr int TILES_M = T::WARP_M / 16, TILES_N = T::WARP_N / 8;  // of the instruction
    Shared shared;
    Real* a_stages = shared.take<Real>(STAGES * T::M * STEP);
    Real* b_stages = shared.take<Real>(STAGES * T::N * STEP);
    const int64 first_m = int64(blockIdx.x) * T::M, first_n = int64(blockIdx.y) * T::N;
    Bringer<A, T::M, T::THREADS> a_bringer(a, first_m, first);
    Bringer<B, T::N, T::THREADS> b_bringer(b, first_n, first);
    auto bring = [&](int step) {
        if (step < steps) {
            a_bringer.bring(a_stages + step % STAGES * (T::M * STEP));
            b_bringer.bring(b_stages + step % STAGES * (T::N * STEP));
        }
        commit_copies();  // an empty group, too, so that the number of groups says which step has arrived
    };

    const int lane = int(threadIdx.x) % WARP, warp = int(threadIdx.x) / WARP;
    const int warp_m = warp % T::WARPS_M * T::WARP_M, warp_n = warp / T::WARPS_M * T::WARP_N;
    float sums[TILES_M][TILES_N][4] = {};

    for (int step = 0; step < STAGES - 1; ++step) bring(step);
    for (int step = 0; step < steps; ++step) {
        wait_copies<STAGES - 2>();  // this thread's part of the step has arrived
        __syncthreads();            // everyone's has, and everyone is done with the step before
        bring(step + STAGES - 1);   // into the place of the step before
        const Real* a_tile = a_stages + step % STAGES * (T::M * STEP);
        const Real* b_tile = b_stages + step % STAGES * (T::N * STEP);
        UNROLL
        for (int k = 0; k < STEP; k += 16) {
            // lane l names row l % 8 of matrix l / 8: for a the matrices are (m, k), (m + 8, k), (m, k + 8),
            // (m + 8, k + 8), for b (k, n), (k + 8, n), (k, n + 8), (k + 8, n + 8)
            unsigned a_lanes[TILES_M][4], b_lanes[TILES_N][2];
            const int low = lane % 8 + lane / 8 % 2 * 8, high = lane % 8 + lane / 16 * 8;
            UNROLL
            for (int i = 0; i < TILES_M; ++i) {
                const int m = warp_m + 16 * i;
                if constexpr (A::ALONG_K)
                    load_matrices(a_tile + place_of<STEP / PIECE>(m + low, k / PIECE + lane / 16), a_lanes[i]);
                else
                    load_matrices_transposed(a_tile + place_of<T::M / PIECE>(k + high, m / PIECE + lane / 8 % 2),
                                             a_lanes[i]);
            }
            UNROLL
            for (int j = 0; j < TILES_N; j += 2) {
                const int n = warp_n + 8 * j;
                unsigned four[4];
                if constexpr (B::ALONG_K)
                    load_matrices(b_tile + place_of<STEP / PIECE>(n + high, k / PIECE + lane / 8 % 2), four);
                else
                    load_matrices_transposed(b_tile + place_of<T::N / PIECE>(k + low, n / PIECE + lane / 16), four);
                b_lanes[j][0] = four[0], b_lanes[j][1] = four[1];
                b_lanes[j + 1][0] = four[2], b_lanes[j + 1][1] = four[3];
            }
            UNROLL
            for (int i = 0; i < TILES_M; ++i) {
                UNROLL
                for (int j = 0; j < TILES_N; ++j) multiply_bf16(sums[i][j], a_lanes[i], b_lanes[j]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < TILES_M; ++i) {
        UNROLL
        for (int j = 0; j < TILES_N; ++j) {
            const int64 m = first_m + warp_m + 16 * i + lane / 4, n = first_n + warp_n + 8 * j + lane % 4 * 2;
            write(m, n, sums[i][j][0], sums[i][j][1]);
            write(m + 8, n, sums[i][j][2], sums[i][j][3]);
        }
    }
}
