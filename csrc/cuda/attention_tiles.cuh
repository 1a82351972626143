// What attention on tensor cores is made of: tiles of 64 tokens of one head in shared memory, heads filled up with
// zeros to D_MAX values, and products of 16 rows, a warp's, with the 64 tokens of a tile.
#pragma once

#include "tensor_cores.cuh"

constexpr int HEAD_THREADS = 128;
constexpr int ROWS_HERE = HEAD_THREADS / WARP * 16;  // tokens that stay
constexpr int COLUMNS = 64;                          // tokens of a tile that comes by
constexpr int SCORES = COLUMNS / 8;                  // tiles of 16 x 8 that a warp's part of the matrix is

// The tokens (T, A, D) of one sample, of which those of head a are meant.
struct Tokens {
    const Real* x;
    int n, a, T, A, D;
    __device__ int64 at(int t) const { return ((int64(n) * T + t) * A + a) * D; }
};

// 64 tokens from `first`, zeros beyond the last; they are there after tiles_are_here.
template <int D_MAX>
__device__ inline void bring_tokens(const Tokens& tokens, int first, Real* tile) {
    constexpr int PIECES = D_MAX / PIECE;
    for (int i = threadIdx.x; i < 64 * PIECES; i += HEAD_THREADS) {
        const int row = i / PIECES, piece = i % PIECES, t = first + row;
        const Piece from =
            t < tokens.T ? piece_of(tokens.x, tokens.at(t), piece * PIECE, tokens.D) : Piece{tokens.x, 0};
        copy_piece(tile + place_of<PIECES>(row, piece), from);
    }
}

__device__ inline void tiles_are_here() {
    commit_copies();
    wait_copies<0>();
    __syncthreads();
}

// s (16, 64) += the rows from `first` of `here` times those of `passing`, transposed.
template <int D_MAX>
__device__ inline void add_scores(const Real* here, int first, const Real* passing, float (&s)[SCORES][4]) {
    const int lane = int(threadIdx.x) % WARP;
    UNROLL
    for (int d = 0; d < D_MAX; d += 16) {
        unsigned a[4];
        load_matrices(here + place_of<D_MAX / PIECE>(first + lane % 16, d / PIECE + lane / 16), a);
        UNROLL
        for (int j = 0; j < SCORES; j += 2) {
            unsigned four[4];
            load_matrices(passing + place_of<D_MAX / PIECE>(8 * j + lane % 8 + lane / 16 * 8, d / PIECE + lane / 8 % 2),
                          four);
            const unsigned low[2] = {four[0], four[1]}, high[2] = {four[2], four[3]};
            multiply_bf16(s[j], a, low);
            multiply_bf16(s[j + 1], a, high);
        }
    }
}

// sums (16, D_MAX) += s (16, 64), rounded, times the tile `passing` (64, D_MAX).
template <int D_MAX>
__device__ inline void add_product(const float (&s)[SCORES][4], const Real* passing, float (&sums)[D_MAX / 8][4]) {
    const int lane = int(threadIdx.x) % WARP;
    UNROLL
    for (int j = 0; j < SCORES; j += 2) {
        const unsigned a[4] = {pack_bf16(s[j][0], s[j][1]), pack_bf16(s[j][2], s[j][3]),
                               pack_bf16(s[j + 1][0], s[j + 1][1]), pack_bf16(s[j + 1][2], s[j + 1][3])};
        UNROLL
        for (int i = 0; i < D_MAX / 8; i += 2) {
            unsigned four[4];
            load_matrices_transposed(passing + place_of<D_MAX / PIECE>(8 * j + lane % 16, i + lane / 16), four);
            const unsigned low[2] = {four[0], four[1]}, high[2] = {four[2], four[3]};
            multiply_bf16(sums[i], a, low);
            multiply_bf16(sums[i + 1], a, high);
        }
    }
}

// Over the four lanes that share a row.
__device__ inline float quad_sum(float v) {
    v += __shfl_xor_sync(ALL_LANES, v, 1);
    return v + __shfl_xor_sync(ALL_LANES, v, 2);
}
__device__ inline float quad_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
    return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

// The 16 rows of this warp, of which this lane has values of two: of(0) and of(1).
struct Rows16 {
    int lane, first;
    __device__ Rows16() : lane(int(threadIdx.x) % WARP), first(int(threadIdx.x) / WARP * 16) {}
    __device__ int of(int row) const { return lane / 4 + 8 * row; }

    // act(value, row 0 or 1, column)
    template <class Act>
    __device__ void each(float (&s)[SCORES][4], const Act& act) const {
        UNROLL
        for (int i = 0; i < SCORES; ++i) {
            UNROLL
            for (int j = 0; j < 4; ++j) act(s[i][j], j / 2, 8 * i + lane % 4 * 2 + j % 2);
        }
    }
    template <class Act>
    __device__ void each(float (&s)[SCORES][4], float (&t)[SCORES][4], const Act& act) const {
        UNROLL
        for (int i = 0; i < SCORES; ++i) {
            UNROLL
            for (int j = 0; j < 4; ++j) act(s[i][j], t[i][j], j / 2, 8 * i + lane % 4 * 2 + j % 2);
        }
    }

    // The rows, each times its factor, to tokens from first_token of y.
    template <int D_MAX>
    __device__ void store(Real* y, const Tokens& tokens, int first_token, const float (&sums)[D_MAX / 8][4],
                          float factor_0, float factor_1) const {
        const int t = first_token + first + of(0), u = first_token + first + of(1);
        UNROLL
        for (int i = 0; i < D_MAX / 8; ++i) {
            const int d = 8 * i + lane % 4 * 2;
            if (t < tokens.T) store_pair(y + tokens.at(t), d, tokens.D, sums[i][0] * factor_0, sums[i][1] * factor_0);
            if (u < tokens.T) store_pair(y + tokens.at(u), d, tokens.D, sums[i][2] * factor_1, sums[i][3] * factor_1);
        }
    }
};
