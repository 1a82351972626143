// What every kernel shares: number types, memory, and sums in an order that never changes.
//
// Compiled by nvcc, by NVRTC (which has no standard headers), and by a host compiler for csrc/emulator.
#pragma once

// How activations and weights are stored. Arithmetic, statistics, sums and parameter gradients are float always.
using Real = float;
using int64 = long long;  // NumPy's int64; sizes and places that may pass 2^31

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xFFFFFFFF;

__device__ inline int ceil_div(int a, int b) { return (a + b - 1) / b; }
__device__ inline int64 ceil_div(int64 a, int64 b) { return (a + b - 1) / b; }

// The place of this thread among all of a one-dimensional grid.
__device__ inline int64 global_thread() { return int64(blockIdx.x) * blockDim.x + threadIdx.x; }

// Dynamic shared memory, handed out in the order of the calls, which must be the same in every thread of the block.
// The launcher says how much there is; each array takes its size rounded up to 16 bytes.
class Shared {
   public:
    template <class T>
    __device__ T* take(int count) {
        const int bytes = count * int(sizeof(T));
#ifdef TINYDIFF_EMULATOR
        return static_cast<T*>(tinydiff::emulator::shared_array(size_t(bytes)));
#else
        extern __shared__ __align__(16) unsigned char shared_bytes[];
        T* array = reinterpret_cast<T*>(shared_bytes + used_);
        used_ += (bytes + 15) / 16 * 16;
        return array;
#endif
    }

   private:
    int used_ = 0;
};

// Four neighbours p[0..3], of which the first `valid` exist; the others are 0 and are not touched. One access of 16
// bytes where all exist and p is aligned.
__device__ inline bool aligned_16(const void* p) { return reinterpret_cast<unsigned long long>(p) % 16 == 0; }

__device__ inline float4 load4(const Real* p, int64 valid) {
    if (valid >= 4 && aligned_16(p)) return *reinterpret_cast<const float4*>(p);
    float4 v = make_float4(0, 0, 0, 0);
    if (valid > 0) v.x = p[0];
    if (valid > 1) v.y = p[1];
    if (valid > 2) v.z = p[2];
    if (valid > 3) v.w = p[3];
    return v;
}

__device__ inline void store4(Real* p, float4 v, int64 valid) {
    if (valid >= 4 && aligned_16(p)) {
        *reinterpret_cast<float4*>(p) = v;
        return;
    }
    if (valid > 0) p[0] = v.x;
    if (valid > 1) p[1] = v.y;
    if (valid > 2) p[2] = v.z;
    if (valid > 3) p[3] = v.w;
}

// Sums and maxima over a warp, in every lane. A butterfly: the same tree whatever the order of lanes.
__device__ inline float warp_sum(float v) {
    for (int bits = WARP / 2; bits; bits /= 2) v += __shfl_xor_sync(ALL_LANES, v, bits);
    return v;
}
__device__ inline float warp_max(float v) {
    for (int bits = WARP / 2; bits; bits /= 2) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, bits));
    return v;
}

// Over a one-dimensional block of whole warps, in every thread. `scratch` holds a float for each warp; it may be used
// again at once.
__device__ inline float block_sum(float v, float* scratch) {
    v = warp_sum(v);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = v;
    __syncthreads();
    float total = 0;
    for (unsigned warp = 0; warp < blockDim.x / WARP; ++warp) total += scratch[warp];
    __syncthreads();
    return total;
}
__device__ inline float block_max(float v, float* scratch) {
    v = warp_max(v);
    if (threadIdx.x % WARP == 0) scratch[threadIdx.x / WARP] = v;
    __syncthreads();
    float largest = scratch[0];
    for (unsigned warp = 1; warp < blockDim.x / WARP; ++warp) largest = fmaxf(largest, scratch[warp]);
    __syncthreads();
    return largest;
}

// NVRTC has no header that names these.
__device__ inline float infinity() { return __uint_as_float(0x7F800000); }
__device__ inline float not_a_number() { return __uint_as_float(0x7FC00000); }

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

// The derivative of x sigmoid(x).
__device__ inline float silu_slope(float x) {
    const float s = sigmoid(x);
    return s * (1 + x * (1 - s));
}

// y[i] = sum over parts of parts[part, i], in their order.
__device__ inline void merge_parts(const float* parts, float* y, int count, int64 size) {
    const int64 i = global_thread();
    if (i >= size) return;
    float total = 0;
    for (int part = 0; part < count; ++part) total += parts[part * size + i];
    y[i] = total;
}
