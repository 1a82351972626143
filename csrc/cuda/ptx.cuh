// The instructions CUDA C++ has no words for: asynchronous copies and tensor cores. Each has a portable body for
// csrc/emulator that does what the PTX manual says it does, lane by lane.
#pragma once

#include "common.cuh"

// 16 bytes from global to shared memory, both aligned to 16, without passing through registers. Of them `valid` are
// copied (0 for none: then `from` is not touched) and the others are zeros. They have arrived for this thread after a
// wait, and for the block after a barrier that follows it. They pass through the L1 cache, where a convolution finds a
// pixel again for the next place in its filter.
__device__ inline void copy_async_16(void* to_shared, const void* from, int valid = 16) {
#ifdef TINYDIFF_EMULATOR
    tinydiff::emulator::copy_async(to_shared, from, valid);
#else
    const unsigned to = unsigned(__cvta_generic_to_shared(to_shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid) : "memory");
#endif
}

// The copies of this thread since the last commit become one group.
__device__ inline void commit_copies() {
#ifdef TINYDIFF_EMULATOR
    tinydiff::emulator::commit_copies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Wait for all groups of this thread but the latest few.
template <int ALL_BUT_LATEST>
__device__ inline void wait_copies() {
#ifdef TINYDIFF_EMULATOR
    tinydiff::emulator::wait_copies(ALL_BUT_LATEST);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(ALL_BUT_LATEST) : "memory");
#endif
}

// Four 8x8 matrices of 16-bit values from shared memory into the registers of a warp. Lane l gives the address,
// aligned to 16, of row l % 8 of matrix l / 8, and receives in r[i] the values 2 (l % 4) and 2 (l % 4) + 1 of row
// l / 4 of matrix i; transposed: of column l / 4.
#ifdef TINYDIFF_EMULATOR
// The row a lane names, and where what it receives lies.
struct LoadedMatrices {
    const unsigned short* row;
    const unsigned short* values[4][2];
};

template <bool TRANSPOSED>
void load_by_warp(void* const brought[WARP], unsigned) {
    for (int lane = 0; lane < WARP; ++lane)
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 2; ++j) {
                const int first = lane / 4, second = 2 * (lane % 4) + j;
                const auto& from = *static_cast<LoadedMatrices*>(brought[8 * i + (TRANSPOSED ? second : first)]);
                static_cast<LoadedMatrices*>(brought[lane])->values[i][j] = from.row + (TRANSPOSED ? first : second);
            }
}

// Each lane reads for itself, when it goes on: ldmatrix orders no memory.
template <bool TRANSPOSED>
void load_matrices(const void* row, unsigned (&r)[4], const char* what, tinydiff::emulator::Site site) {
    tinydiff::emulator::require_aligned(row, 16);
    LoadedMatrices mine{static_cast<const unsigned short*>(row), {}};
    tinydiff::emulator::meet(ALL_LANES, what, site, &mine, load_by_warp<TRANSPOSED>);
    for (int i = 0; i < 4; ++i) r[i] = *mine.values[i][0] | unsigned{*mine.values[i][1]} << 16;
}
#define TINYDIFF_CALLED_FROM , const char *file = __builtin_FILE(), int line = __builtin_LINE()
#else
#define TINYDIFF_CALLED_FROM
#endif

__device__ inline void load_matrices(const void* row, unsigned (&r)[4] TINYDIFF_CALLED_FROM) {
#ifdef TINYDIFF_EMULATOR
    load_matrices<false>(row, r, "ldmatrix", {file, line});
#else
    const unsigned from = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
#endif
}

__device__ inline void load_matrices_transposed(const void* row, unsigned (&r)[4] TINYDIFF_CALLED_FROM) {
#ifdef TINYDIFF_EMULATOR
    load_matrices<true>(row, r, "ldmatrix.trans", {file, line});
#else
    const unsigned from = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from)
                 : "memory");
#endif
}

// d (16 x 8, float) += a (16 x 16, bfloat16) b (16 x 8, bfloat16) by one warp. With g = lane / 4 and t = lane % 4,
// a lane holds
//   a[0] (g, 2t..2t+1)   a[1] (g+8, 2t..2t+1)   a[2] (g, 2t+8..2t+9)   a[3] (g+8, 2t+8..2t+9)
//   b[0] (2t..2t+1, g)   b[1] (2t+8..2t+9, g)
//   d[0], d[1] (g, 2t..2t+1)   d[2], d[3] (g+8, 2t..2t+1)
#ifdef TINYDIFF_EMULATOR
struct Product {
    float* d;
    const unsigned *a, *b;
};

inline void multiply_warp(void* const brought[WARP], unsigned) {
    float a[16][16], b[16][8];
    for (int lane = 0; lane < WARP; ++lane) {
        const Product& of = *static_cast<Product*>(brought[lane]);
        const int g = lane / 4, t = lane % 4 * 2;
        for (int i = 0; i < 4; ++i) {
            float* to = &a[g + i % 2 * 8][t + i / 2 * 8];
            to[0] = low_bf16(of.a[i]), to[1] = high_bf16(of.a[i]);
        }
        for (int i = 0; i < 2; ++i) b[t + 8 * i][g] = low_bf16(of.b[i]), b[t + 8 * i + 1][g] = high_bf16(of.b[i]);
    }
    for (int row = 0; row < 16; ++row) {
        float sums[8] = {};
        for (int k = 0; k < 16; ++k)
            for (int column = 0; column < 8; ++column) sums[column] += a[row][k] * b[k][column];
        for (int column = 0; column < 8; ++column)
            static_cast<Product*>(brought[row % 8 * 4 + column / 2])->d[row / 8 * 2 + column % 2] += sums[column];
    }
}
#endif

__device__ inline void multiply_bf16(float (&d)[4], const unsigned (&a)[4],
                                     const unsigned (&b)[2] TINYDIFF_CALLED_FROM) {
#ifdef TINYDIFF_EMULATOR
    Product mine{d, a, b};
    tinydiff::emulator::meet(ALL_LANES, "mma.m16n8k16", {file, line}, &mine, multiply_warp);
#else
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
