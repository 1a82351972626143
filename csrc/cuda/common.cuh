// What every kernel shares: number types, memory, and sums in an order that never changes.
//
// Compiled by nvcc, by NVRTC (which has no standard headers), and by a host compiler for csrc/emulator.
#pragma once

using int64 = long long;  // NumPy's int64; sizes and places that may pass 2^31

// Two floats as a pair of bfloat16, each rounded to nearest, ties to even; `low` in the lower half.
__device__ inline unsigned pack_bf16(float low, float high) {
#ifdef TINYDIFF_EMULATOR
    auto round = [](float x) {
        const unsigned bits = __float_as_uint(x);
        if (x != x) return 0x7FFFu;
        return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    };
    return round(high) << 16 | round(low);
#else
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}
__device__ inline float low_bf16(unsigned pair) { return __uint_as_float(pair << 16); }
__device__ inline float high_bf16(unsigned pair) { return __uint_as_float(pair & 0xFFFF0000); }

// How activations and their gradients are stored, and the weights of matrices: every file compiles in two precisions.
// Arithmetic, statistics, sums, vectors of parameters and all parameter gradients are float always.
#ifdef TINYDIFF_BF16
struct Real {
    unsigned short bits;
    Real() = default;
    __device__ Real(float x) : bits(static_cast<unsigned short>(pack_bf16(x, 0))) {}
    __device__ operator float() const { return low_bf16(bits); }
};
#else
using Real = float;
#endif

// Before a loop whose index must be known to the compiler, because it chooses among registers.
#ifdef TINYDIFF_EMULATOR
#define UNROLL
#else
#define UNROLL _Pragma("unroll")
#endif

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

__device__ inline bool aligned_16(const void* p) { return reinterpret_cast<unsigned long long>(p) % 16 == 0; }

// Four neighbours p[0..3], of which the first `valid` exist; the others are 0 and are not touched. One access of 16
// bytes where all exist and p is aligned.
__device__ inline float4 load4(const float* p, int64 valid) {
    if (valid >= 4 && aligned_16(p)) return *reinterpret_cast<const float4*>(p);
    float4 v = make_float4(0, 0, 0, 0);
    if (valid > 0) v.x = p[0];
    if (valid > 1) v.y = p[1];
    if (valid > 2) v.z = p[2];
    if (valid > 3) v.w = p[3];
    return v;
}

__device__ inline void store4(float* p, float4 v, int64 valid) {
    if (valid >= 4 && aligned_16(p)) {
        *reinterpret_cast<float4*>(p) = v;
        return;
    }
    if (valid > 0) p[0] = v.x;
    if (valid > 1) p[1] = v.y;
    if (valid > 2) p[2] = v.z;
    if (valid > 3) p[3] = v.w;
}

// The same of as many activations as 16 bytes hold.
constexpr int VECTOR = 16 / int(sizeof(Real));

struct Vector {
    float v[VECTOR];
};

__device__ inline Vector load_vector(const Real* p, int64 valid) {
    Vector vector;
#ifdef TINYDIFF_BF16
    if (valid >= VECTOR && aligned_16(p)) {
        const uint4 four = *reinterpret_cast<const uint4*>(p);
        const unsigned pairs[VECTOR / 2] = {four.x, four.y, four.z, four.w};
        for (int i = 0; i < VECTOR; ++i) vector.v[i] = i % 2 ? high_bf16(pairs[i / 2]) : low_bf16(pairs[i / 2]);
        return vector;
    }
    for (int i = 0; i < VECTOR; ++i) vector.v[i] = i < valid ? float(p[i]) : 0.0f;
#else
    const float4 four = load4(p, valid);
    vector = {four.x, four.y, four.z, four.w};
#endif
    return vector;
}

__device__ inline void store_vector(Real* p, const Vector& vector, int64 valid) {
#ifdef TINYDIFF_BF16
    const float* v = vector.v;
    if (valid >= VECTOR && aligned_16(p)) {
        *reinterpret_cast<uint4*>(p) =
            make_uint4(pack_bf16(v[0], v[1]), pack_bf16(v[2], v[3]), pack_bf16(v[4], v[5]), pack_bf16(v[6], v[7]));
        return;
    }
    for (int i = 0; i < VECTOR; ++i)
        if (i < valid) p[i] = v[i];
#else
    store4(p, make_float4(vector.v[0], vector.v[1], vector.v[2], vector.v[3]), valid);
#endif
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
