// Reversing a block of values through shared memory: as it should be, and with faults that must be found.
#include "common.cuh"

extern "C" __global__ void right(const float* x, float* y) {
    float* values = Shared().take<float>(blockDim.x);
    values[threadIdx.x] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

// Whoever reads before the other has written reads poison.
extern "C" __global__ void missing_barrier(const float* x, float* y) {
    float* values = Shared().take<float>(blockDim.x);
    values[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

// A race without poison: the second round may write before the first was read.
extern "C" __global__ void missing_second_barrier(const float* x, float* y) {
    float* values = Shared().take<float>(blockDim.x);
    float total = 0;
    for (int round = 1; round < 3; ++round) {
        values[threadIdx.x] = round * x[threadIdx.x];
        __syncthreads();
        total += values[blockDim.x - 1 - threadIdx.x];
    }
    y[threadIdx.x] = total;
}

// Half of the threads never come.
extern "C" __global__ void divergent_barrier(const float* x, float* y) {
    if (threadIdx.x < 32) __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}

// All come to a barrier, but not to the same one.
extern "C" __global__ void two_barriers(const float* x, float* y) {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = x[threadIdx.x];
}

// The mask names 32 lanes, 16 come.
extern "C" __global__ void lanes_that_never_come(const float* x, float* y) {
    y[threadIdx.x] = 0;
    if (threadIdx.x < 16) y[threadIdx.x] = warp_sum(x[threadIdx.x]);
}

// A lane takes part that the mask does not name.
extern "C" __global__ void lane_not_named(const float* x, float* y) {
    y[threadIdx.x] = __shfl_sync(0x0000FFFF, x[threadIdx.x], 0);
}

// The first value is forgotten.
extern "C" __global__ void unwritten_output(const float* x, float* y) {
    if (threadIdx.x > 0) y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void too_much_shared_memory(const float* x, float* y) {
    float* values = Shared().take<float>(blockDim.x + 1);
    values[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void different_shared_memory(const float* x, float* y) {
    float* values = Shared().take<float>(threadIdx.x ? 2 : 1);
    y[threadIdx.x] = x[threadIdx.x] + values[0];
}

extern "C" __global__ void unaligned(const float* x, float* y) {
#ifdef TINYDIFF_EMULATOR
    tinydiff::emulator::require_aligned(x + 1, 16);
#endif
    y[threadIdx.x] = x[threadIdx.x];
}

// One value beyond the array.
extern "C" __global__ void beyond_shared_memory(const float* x, float* y) {
    float* values = Shared().take<float>(blockDim.x);
    values[threadIdx.x + (x[0] > 0)] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = values[threadIdx.x];
}

extern "C" __global__ void beyond_an_input(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x + 1]; }

extern "C" __global__ void beyond_an_output(const float* x, float* y) { y[threadIdx.x + 1] = x[threadIdx.x]; }
