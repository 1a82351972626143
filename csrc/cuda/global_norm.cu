// global_norm: the length of all gradients taken as one vector. Contract: tinydiff/ops/global_norm.py.
//
// v1_two_stages   partial sums of squares, as many as the size says; then one block adds them up
#include "common.cuh"

// One block sums the squares of one stretch.
// launch: grid (parts), block of whole warps, shared: a float a warp. needs: parts x stretch >= P
// writes: squares (parts,). reproducible: yes, the stretches do not depend on the device.
extern "C" __global__ void global_norm_squares_v1_two_stages(const float* grads, float* squares, int64 P,
                                                             int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const int64 first = blockIdx.x * stretch, last = min(P, first + stretch);
    float total = 0;
    for (int64 p = first + threadIdx.x; p < last; p += blockDim.x) total += grads[p] * grads[p];
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) squares[blockIdx.x] = total;
}

// One block adds the parts.
// launch: one block of whole warps, shared: a float a warp
// writes: norm (1,). reproducible: yes.
extern "C" __global__ void global_norm_forward_v1_two_stages(const float* squares, float* norm, int parts) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    float total = 0;
    for (int part = threadIdx.x; part < parts; part += blockDim.x) total += squares[part];
    total = block_sum(total, scratch);
    if (threadIdx.x == 0) *norm = sqrtf(total);
}
