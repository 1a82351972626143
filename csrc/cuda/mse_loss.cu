// mse_loss: the mean squared error, each sample weighted. Derivation: tinydiff/ops/mse_loss.py.
//
// v1_one_pass     partial sums of squares and the gradient of the prediction, in one reading of both arrays
// v2_vectors      the same, four neighbours a thread at a time
// v1_two_stages   the sums of the parts, by one block
// v1_naive        the other gradients: one value a thread
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

// The gradient of the loss for the prediction, for each unit of error: 2 weight / (N M).
__device__ inline float slope_of(const float* weight, int64 n, int64 N, int64 M) {
    return 2 / (float(N) * float(M)) * (weight ? weight[n] : 1.0f);
}

// One block does one stretch of one sample (N, M): its sum of squared errors, and its part of the gradient where the
// loss has the gradient 1, as it has in training: then nothing is left for a backward to do.
// launch: N parts blocks of whole warps, parts = ceil(M / stretch), shared: a float a warp
// writes: squares (N, parts) and dprediction (N, M), all of them. reproducible: yes, the stretches do not depend on the
// device. weight may be null: ones.
extern "C" __global__ void mse_loss_squares_v1_one_pass(const float* prediction, const float* target,
                                                        const float* weight, float* squares, float* dprediction,
                                                        int64 M, int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const Stretch here(M, stretch);
    const int64 sample = here.n * M;
    const float slope = slope_of(weight, here.n, here.N, M);
    float total = 0;
    for (int64 m = here.first + threadIdx.x; m < here.last; m += blockDim.x) {
        const float error = prediction[sample + m] - target[sample + m];
        total += error * error;
        dprediction[sample + m] = slope * error;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

// The same with four neighbours a thread at a time.
// launch, writes, reproducible: as above.
extern "C" __global__ void mse_loss_squares_v2_vectors(const float* prediction, const float* target,
                                                       const float* weight, float* squares, float* dprediction, int64 M,
                                                       int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const Stretch here(M, stretch);
    const int64 sample = here.n * M;
    const float slope = slope_of(weight, here.n, here.N, M);
    float total = 0;
    for (int64 m = here.first + 4 * threadIdx.x; m < here.last; m += 4 * blockDim.x) {
        const float4 p = load4(prediction + sample + m, here.last - m), y = load4(target + sample + m, here.last - m);
        const float4 error = make_float4(p.x - y.x, p.y - y.y, p.z - y.z, p.w - y.w);
        total += (error.x * error.x + error.y * error.y) + (error.z * error.z + error.w * error.w);
        store4(dprediction + sample + m,
               make_float4(slope * error.x, slope * error.y, slope * error.z, slope * error.w), here.last - m);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

// One block does it all; one thread adds the parts of every so-manieth sample.
// launch: one block of whole warps, shared: a float a warp
// writes: loss (1,) and squares_N (N,), which the gradient of the weights needs. reproducible: yes.
// weight may be null: ones.
extern "C" __global__ void mse_loss_forward_v1_two_stages(const float* squares, const float* weight, float* loss,
                                                          float* squares_N, int N, int parts, int64 M) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    float total = 0;
    for (int n = threadIdx.x; n < N; n += blockDim.x) {
        float sample = 0;
        for (int part = 0; part < parts; ++part) sample += squares[int64(n) * parts + part];
        squares_N[n] = sample;
        total += weight ? weight[n] * sample : sample;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *loss = total / (float(N) * float(M));
}

// One thread scales one value of the gradient of the prediction, whose negative is that of the target; the first of
// each sample does its weight's.
// launch: threads >= N M
// writes: dprediction, dtarget (N, M) and, where it is not null, dweight (N,), all of them. reproducible: yes.
// dloss is read from dloss_array where that is not null; for_one is the gradient for a dloss of 1.
extern "C" __global__ void mse_loss_backward_v1_naive(const float* dloss_array, float dloss, const float* for_one,
                                                      const float* squares_N, float* dprediction, float* dtarget,
                                                      float* dweight, int N, int64 M) {
    const int64 i = global_thread();
    if (i >= N * M) return;
    const float factor = dloss_array ? *dloss_array : dloss;
    const float d = factor * for_one[i];
    dprediction[i] = d;
    if (dtarget) dtarget[i] = -d;
    if (dweight && i % M == 0) dweight[i / M] = factor / (float(N) * float(M)) * squares_N[i / M];
}
