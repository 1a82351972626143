// A running maximum in shared memory, one warp a row: as it should be, and with races that show in no order of threads.
#include "common.cuh"

// One warp: y is the largest of 64 values, which pass 32 at a time. `sync` stands between reading and writing.
template <class Sync>
__device__ inline void running_maximum(const float* x, float* y, const Sync& sync) {
    float* largest = Shared().take<float>(1);
    const int lane = int(threadIdx.x) % WARP;
    if (lane == 0) *largest = -infinity();
    __syncwarp();
    for (int i = 0; i < 64; i += WARP) {
        const float now = fmaxf(*largest, warp_max(x[i + lane]));
        sync();
        if (lane == 0) *largest = now;
        y[lane] = now;
        __syncwarp();
    }
}

extern "C" __global__ void maximum(const float* x, float* y) {
    running_maximum(x, y, [] { __syncwarp(); });
}

// The shuffles of warp_max come after the reading and before the writing; but they order no memory.
extern "C" __global__ void maximum_by_shuffles(const float* x, float* y) {
    running_maximum(x, y, [] {});
}

// Nor does a vote.
extern "C" __global__ void maximum_by_votes(const float* x, float* y) {
    running_maximum(x, y, [] { __any_sync(ALL_LANES, true); });
}

// Every lane but one waits for the writer, which does not wait for that one.
extern "C" __global__ void maximum_without_a_lane(const float* x, float* y) {
    running_maximum(x, y, [] {
        if (threadIdx.x != 7) __syncwarp(ALL_LANES ^ 1u << 7);
    });
}

// The halves of a warp write and wait each for itself, then the lower reads of the upper.
extern "C" __global__ void halves(const float* x, float* y) {
    float* values = Shared().take<float>(WARP);
    const int lane = threadIdx.x;
    values[lane] = x[lane];
    lane < 16 ? __syncwarp(0x0000FFFF) : __syncwarp(0xFFFF0000);
    y[lane] = lane < 16 ? values[lane + 16] : values[lane];
}

// Three lanes pass a value on, two at a time: the third knows what the first has done.
extern "C" __global__ void passed_on(const float* x, float* y) {
    float* value = Shared().take<float>(1);
    const int lane = threadIdx.x;
    y[lane] = x[lane];
    if (lane == 0) *value = x[0];
    if (lane < 2) __syncwarp(0b011);
    if (lane == 1 || lane == 2) __syncwarp(0b110);
    if (lane == 2) y[2] = *value;
}

// Both warps write the same value.
extern "C" __global__ void written_twice(const float* x, float* y) {
    float* value = Shared().take<float>(1);
    if (threadIdx.x % WARP == 0) *value = x[0];
    __syncthreads();
    y[threadIdx.x] = *value;
}

// Neighbours that share a word: no race.
extern "C" __global__ void halves_of_words(const float* x, float* y) {
    unsigned short* values = Shared().take<unsigned short>(blockDim.x);
    values[threadIdx.x] = static_cast<unsigned short>(threadIdx.x);
    __syncthreads();
    y[threadIdx.x] = x[values[threadIdx.x]];
}
