// The wrappers of ptx.cuh, each alone; and asynchronous copies read too early.
#include "ptx.cuh"

// One warp: d = a b of a (16, 16) and b (16, 8), rounded to bfloat16.
extern "C" __global__ void product(const float* a, const float* b, float* d) {
    Shared shared;
    unsigned* a_rows = shared.take<unsigned>(16 * 8);  // pairs of neighbours
    unsigned* b_rows = shared.take<unsigned>(16 * 4);
    const int lane = threadIdx.x;
    for (int i = lane; i < 16 * 8; i += WARP) a_rows[i] = pack_bf16(a[2 * i], a[2 * i + 1]);
    for (int i = lane; i < 16 * 4; i += WARP) b_rows[i] = pack_bf16(b[2 * i], b[2 * i + 1]);
    __syncwarp();
    unsigned a_lane[4], b_four[4];
    load_matrices(a_rows + lane % 16 * 8 + lane / 16 * 4, a_lane);
    load_matrices_transposed(b_rows + lane % 16 * 4, b_four);
    const unsigned b_lane[2] = {b_four[0], b_four[1]};
    float sums[4] = {};
    multiply_bf16(sums, a_lane, b_lane);
    const int g = lane / 4, t = lane % 4;
    d[g * 8 + 2 * t] = sums[0];
    d[g * 8 + 2 * t + 1] = sums[1];
    d[(g + 8) * 8 + 2 * t] = sums[2];
    d[(g + 8) * 8 + 2 * t + 1] = sums[3];
}

// As long as lanes read what they wrote themselves all is well; ldmatrix gives them what others wrote.
extern "C" __global__ void product_without_barrier(const float* x, float* y) {
    unsigned* rows = Shared().take<unsigned>(16 * 8);
    const int lane = threadIdx.x;
    for (int i = 0; i < 4; ++i) rows[4 * lane + i] = __float_as_uint(x[lane]);
    unsigned values[4];
    load_matrices(rows + 4 * lane, values);
    y[lane] = __uint_as_float(values[0]);
}

extern "C" __global__ void rounded(const float* x, float* y) {
    const unsigned pair = pack_bf16(x[2 * threadIdx.x], x[2 * threadIdx.x + 1]);
    y[2 * threadIdx.x] = low_bf16(pair);
    y[2 * threadIdx.x + 1] = high_bf16(pair);
}

// Each thread copies four of the values, of which `count` exist.
extern "C" __global__ void copied(const float* x, float* y, int count) {
    float* values = Shared().take<float>(4 * blockDim.x);
    const int first = 4 * threadIdx.x, valid = max(0, min(4, count - first));
    copy_async_16(values + first, valid ? x + first : x, 4 * valid);
    commit_copies();
    wait_copies<0>();
    __syncthreads();
    for (int i = 0; i < 4; ++i) y[first + i] = values[4 * blockDim.x - 1 - first - i];
}

__device__ inline void two_groups(const float* x, float* y, float* values) {
    for (int stage = 0; stage < 2; ++stage) {
        copy_async_16(values + 4 * (2 * threadIdx.x + stage), x + 4 * (2 * threadIdx.x + stage));
        commit_copies();
    }
}

// The first group is waited for, the second is read all the same.
extern "C" __global__ void read_too_early(const float* x, float* y) {
    float* values = Shared().take<float>(8 * blockDim.x);
    two_groups(x, y, values);
    wait_copies<1>();
    for (int i = 0; i < 8; ++i) y[8 * threadIdx.x + i] = values[8 * threadIdx.x + i];
}

// Waited for, but by each thread only for its own.
extern "C" __global__ void read_without_barrier(const float* x, float* y) {
    float* values = Shared().take<float>(8 * blockDim.x);
    two_groups(x, y, values);
    wait_copies<0>();
    const int other = blockDim.x - 1 - threadIdx.x;
    for (int i = 0; i < 8; ++i) y[8 * other + i] = values[8 * other + i];
}

extern "C" __global__ void copied_from_unaligned(const float* x, float* y) {
    float* values = Shared().take<float>(4);
    copy_async_16(values, x + 1);
    y[0] = values[0];
}
