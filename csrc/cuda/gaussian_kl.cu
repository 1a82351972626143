// gaussian_kl: how far normal distributions are from the unit one. Derivation: tinydiff/ops/gaussian_kl.py.
//
// v1_one_pass     partial sums, as many as the size says
// v1_two_stages   the sum of the parts, by one block
// v1_naive        the gradient: one value a thread
#include "gaussian.cuh"

// One block adds up one stretch of values.
// launch: grid (parts), block of whole warps, shared: a float a warp. needs: parts x stretch >= count
// writes: sums (parts,), of twice the divergences. reproducible: yes, the stretches do not depend on the device.
extern "C" __global__ void gaussian_kl_sums_v1_one_pass(const float* moments, float* sums, int64 count, int Z,
                                                        int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const int64 first = blockIdx.x * stretch, last = min(count, first + stretch);
    float total = 0;
    for (int64 i = first + threadIdx.x; i < last; i += blockDim.x) {
        const float* mean = moments + mean_of(i, Z);
        const float v = clipped(mean[Z]);
        total += mean[0] * mean[0] + (expf(v) - 1 - v);
    }
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

// One block adds the parts.
// launch: one block of whole warps, shared: a float a warp
// writes: kl (1,). reproducible: yes.
extern "C" __global__ void gaussian_kl_forward_v1_two_stages(const float* sums, float* kl, int parts, int64 count) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    float total = 0;
    for (int part = threadIdx.x; part < parts; part += blockDim.x) total += sums[part];
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *kl = total / (2 * float(count));
}

// One thread does the mean and the logarithm of one value.
// launch: threads >= count
// writes: dmoments (2 count,), all of it. reproducible: yes.
// dkl is read from dkl_array where that is not null.
extern "C" __global__ void gaussian_kl_backward_v1_naive(const float* dkl_array, float dkl, const float* moments,
                                                         float* dmoments, int64 count, int Z) {
    const int64 i = global_thread();
    if (i >= count) return;
    const int64 at = mean_of(i, Z);
    const float half = (dkl_array ? *dkl_array : dkl) / (2 * float(count)), logvar = moments[at + Z];
    dmoments[at] = 2 * half * moments[at];
    dmoments[at + Z] = through_clip(half * (expf(clipped(logvar)) - 1), logvar);
}
