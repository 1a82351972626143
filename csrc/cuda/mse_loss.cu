// mse_loss: the mean squared error, each sample weighted. Derivation: tinydiff/ops/mse_loss.py.
//
// v1_two_stages   partial sums of squares, as many as the shape says; then one block adds them up
// v1_naive        the backward: one value a thread
#include "common.cuh"

// One block sums the squared errors of one stretch of one sample (N, M).
// launch: grid (parts, N), block of whole warps, shared: a float a warp. needs: parts x stretch >= M
// writes: squares (N, parts), all of it. reproducible: yes, the stretches do not depend on the device.
extern "C" __global__ void mse_loss_squares_v1_two_stages(const Real* prediction, const Real* target, float* squares,
                                                          int64 M, int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const int64 sample = int64(blockIdx.y) * M, first = blockIdx.x * stretch, last = min(M, first + stretch);
    float total = 0;
    for (int64 m = first + threadIdx.x; m < last; m += blockDim.x) {
        const float error = prediction[sample + m] - target[sample + m];
        total += error * error;
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) squares[int64(blockIdx.y) * gridDim.x + blockIdx.x] = total;
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

// One thread does one value of both gradients, and the first of each sample its weight's.
// launch: threads >= N M
// writes: dprediction, dtarget (N, M) and, where weight is not null, dweight (N,). reproducible: yes.
// dloss is read from dloss_array where that is not null.
extern "C" __global__ void mse_loss_backward_v1_naive(const float* dloss_array, float dloss, const Real* prediction,
                                                      const Real* target, const float* weight, const float* squares_N,
                                                      Real* dprediction, Real* dtarget, float* dweight, int N,
                                                      int64 M) {
    const int64 i = global_thread();
    if (i >= N * M) return;
    const int64 n = i / M;
    const float mean = (dloss_array ? *dloss_array : dloss) / (float(N) * float(M));
    const float slope = 2 * mean * (weight ? weight[n] : 1.0f);
    const float error = prediction[i] - target[i];
    dprediction[i] = slope * error;
    dtarget[i] = -(slope * error);
    if (weight && i % M == 0) dweight[n] = mean * squares_N[n];
}
