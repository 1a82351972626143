// global_norm: the length of all gradients taken as one vector. Contract: tinydiff/ops/global_norm.py.
//
// v1_two_stages   partial sums of squares, as many as the size says; then one block adds them up
// v2_vectors      four gradients in one access of 16 bytes
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

// The same with four neighbours a thread at a time.
// launch, needs, writes, reproducible: as above.
extern "C" __global__ void global_norm_squares_v2_vectors(const float* grads, float* squares, int64 P, int64 stretch) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const int64 first = blockIdx.x * stretch, last = min(P, first + stretch);
    float total = 0;
    for (int64 p = first + 4 * threadIdx.x; p < last; p += 4 * blockDim.x) {
        const float4 g = load4(grads + p, last - p);
        total += (g.x * g.x + g.y * g.y) + (g.z * g.z + g.w * g.w);
    }
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
