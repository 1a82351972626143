// A loss that is the mean of something of each error, each sample weighted: mse_loss.cu and l1_loss.cu.
//
// What that is, a `Loss` says: the size of an error, and its derivative, the slope. Every function here is what a
// kernel of both files does; the contracts are theirs.
#pragma once

#include "common.cuh"

// What a block does: one stretch of one sample (N, M). They lie along x, where a grid has enough.
struct Stretch {
    int64 n, N, first, last;
    __device__ Stretch(int64 M, int64 stretch) {
        const int64 parts = ceil_div(M, stretch);
        n = blockIdx.x / parts, N = gridDim.x / parts;
        first = blockIdx.x % parts * stretch, last = min(M, first + stretch);
    }
};

// The gradient of the loss for the size of an error: weight / (N M).
__device__ inline float factor_of(const float* weight, int64 n, int64 N, int64 M) {
    return 1 / (float(N) * float(M)) * (weight ? weight[n] : 1.0f);
}

// The sum of one stretch, and its part of the gradient for a dloss of 1, one value a thread at a time.
template <class Loss>
__device__ inline void sum_one_by_one(const float* prediction, const float* target, const float* weight, float* sums,
                                      float* dprediction, int64 M, int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const Stretch here(M, stretch);
    const int64 sample = here.n * M;
    const float factor = factor_of(weight, here.n, here.N, M);
    float total = 0;
    for (int64 m = here.first + threadIdx.x; m < here.last; m += blockDim.x) {
        const float error = prediction[sample + m] - target[sample + m];
        total += Loss::size(error);
        dprediction[sample + m] = factor * Loss::slope(error);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// The same with four neighbours a thread at a time.
template <class Loss>
__device__ inline void sum_vectors(const float* prediction, const float* target, const float* weight, float* sums,
                                   float* dprediction, int64 M, int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const Stretch here(M, stretch);
    const int64 sample = here.n * M;
    const float factor = factor_of(weight, here.n, here.N, M);
    float total = 0;
    for (int64 m = here.first + 4 * threadIdx.x; m < here.last; m += 4 * blockDim.x) {
        const float4 p = load4(prediction + sample + m, here.last - m), y = load4(target + sample + m, here.last - m);
        const float4 error = make_float4(p.x - y.x, p.y - y.y, p.z - y.z, p.w - y.w);
        total += (Loss::size(error.x) + Loss::size(error.y)) + (Loss::size(error.z) + Loss::size(error.w));
        store4(dprediction + sample + m,
               make_float4(factor * Loss::slope(error.x), factor * Loss::slope(error.y), factor * Loss::slope(error.z),
                           factor * Loss::slope(error.w)),
               here.last - m);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// The loss of all sums; one thread adds the parts of every so-manieth sample.
__device__ inline void loss_of_sums(const float* sums, const float* weight, float* loss, float* sums_N, int N,
                                    int parts, int64 M) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    float total = 0;
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        float sample = 0;
        for (int part = 0; part < parts; ++part) sample += sums[int64(n) * parts + part];
        sums_N[n] = sample;
        total += weight ? weight[n] * sample : sample;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *loss = total / (float(N) * float(M));
}

// One value of the gradient of the prediction, whose negative is that of the target; the first of each sample does its
// weight's.
__device__ inline void scale_gradient(const float* dloss_array, float dloss, const float* for_one, const float* sums_N,
                                      float* dprediction, float* dtarget, float* dweight, int N, int64 M) {
    const int64 i = global_thread();
    if (i >= N * M) return;
    const float factor = dloss_array ? *dloss_array : dloss;
    const float d = factor * for_one[i];
    dprediction[i] = d;
    if (dtarget) dtarget[i] = -d;
    if (dweight && i % M == 0) dweight[i / M] = factor / (float(N) * float(M)) * sums_N[i / M];
}
