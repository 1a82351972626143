// mse_loss: the mean squared error, each sample weighted. Derivation: tinydiff/ops/mse_loss.py.
//
// v1_one_pass     partial sums of squared errors and the gradient of the prediction, in one reading of both arrays
// v2_vectors      the same, four neighbours a thread at a time
// v1_two_stages   the sums of the parts, by one block
// v1_naive        the other gradients: one value a thread
#include "loss.cuh"

struct Square {
    static __device__ float size(float error) { return error * error; }
    static __device__ float slope(float error) { return 2 * error; }
};

// One block does one stretch of one sample (N, M): its sum of squared errors, and its part of the gradient where the
// loss has the gradient 1, as it has in training: then nothing is left for a backward to do.
// launch: N parts blocks of whole warps, parts = ceil(M / stretch), shared: a float a warp
// writes: sums (N, parts) and dprediction (N, M), all of them. reproducible: yes, the stretches do not depend on the
// device. weight may be null: ones.
extern "C" __global__ void mse_loss_sums_v1_one_pass(const float* prediction, const float* target, const float* weight,
                                                     float* sums, float* dprediction, int64 M, int64 stretch) {
    sum_one_by_one<Square>(prediction, target, weight, sums, dprediction, M, stretch);
}

// The same with four neighbours a thread at a time.
// launch, writes, reproducible: as above.
extern "C" __global__ void mse_loss_sums_v2_vectors(const float* prediction, const float* target, const float* weight,
                                                    float* sums, float* dprediction, int64 M, int64 stretch) {
    sum_vectors<Square>(prediction, target, weight, sums, dprediction, M, stretch);
}

// One block does it all; one thread adds the parts of every so-manieth sample.
// launch: one block of whole warps, shared: a float a warp
// writes: loss (1,) and sums_N (N,), which the gradient of the weights needs. reproducible: yes.
// weight may be null: ones.
extern "C" __global__ void mse_loss_forward_v1_two_stages(const float* sums, const float* weight, float* loss,
                                                          float* sums_N, int N, int parts, int64 M) {
    loss_of_sums(sums, weight, loss, sums_N, N, parts, M);
}

// One thread scales one value of the gradient of the prediction, whose negative is that of the target; the first of
// each sample does its weight's.
// launch: threads >= N M
// writes: dprediction, dtarget (N, M) and, where it is not null, dweight (N,), all of them. reproducible: yes.
// dloss is read from dloss_array where that is not null; for_one is the gradient for a dloss of 1.
extern "C" __global__ void mse_loss_backward_v1_naive(const float* dloss_array, float dloss, const float* for_one,
                                                      const float* sums_N, float* dprediction, float* dtarget,
                                                      float* dweight, int N, int64 M) {
    scale_gradient(dloss_array, dloss, for_one, sums_N, dprediction, dtarget, dweight, N, M);
}
