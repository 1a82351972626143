// What nvcc and NVRTC know without an include, for a host compiler; so that csrc/cuda compiles unchanged.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "machine.h"

#define TINYDIFF_EMULATOR
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>(uint64_t{a} * b >> 32); }

template <class To, class From>
inline To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline float __uint_as_float(unsigned x) { return same_bits<float>(x); }
inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }

// Threads meet in these. The defaults say where the call stands.
#define TINYDIFF_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(TINYDIFF_HERE) { tinydiff::emulator::sync_threads({file, line}); }

inline void __syncwarp(unsigned mask = 0xFFFFFFFF, TINYDIFF_HERE) {
    tinydiff::emulator::sync_warp(mask, {file, line});
}

namespace tinydiff::emulator {

// What a lane brings to a shuffle and takes from it.
template <class T>
struct Shuffled {
    T value, result;
    int source;  // the lane to take from; one that is not there gives poison
};

template <class T>
T shuffle(unsigned mask, const char* what, T value, int source, Site site) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    Shuffled<T> mine{value, value, source};
    meet(mask, what, site, &mine, [](void* const brought[WARP], unsigned named) {
        for (int lane = 0; lane < WARP; ++lane) {
            if (!(named >> lane & 1)) continue;
            auto& taker = *static_cast<Shuffled<T>*>(brought[lane]);
            if (named >> taker.source & 1)
                taker.result = static_cast<Shuffled<T>*>(brought[taker.source])->value;
            else
                std::memset(&taker.result, POISON, sizeof taker.result);
        }
    });
    return mine.result;
}

inline int lane() {
    return static_cast<int>((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % WARP);
}

}  // namespace tinydiff::emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, TINYDIFF_HERE) {
    return tinydiff::emulator::shuffle(mask, "__shfl_sync()", value, source & 31, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, TINYDIFF_HERE) {
    return tinydiff::emulator::shuffle(mask, "__shfl_xor_sync()", value, (tinydiff::emulator::lane() ^ bits) & 31,
                                       {file, line});
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, int by, TINYDIFF_HERE) {
    const int lane = tinydiff::emulator::lane();
    return tinydiff::emulator::shuffle(mask, "__shfl_down_sync()", value, lane + by < 32 ? lane + by : lane,
                                       {file, line});
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, int by, TINYDIFF_HERE) {
    const int lane = tinydiff::emulator::lane();
    return tinydiff::emulator::shuffle(mask, "__shfl_up_sync()", value, lane >= by ? lane - by : lane, {file, line});
}

inline unsigned __ballot_sync(unsigned mask, int predicate, TINYDIFF_HERE) {
    using namespace tinydiff::emulator;
    struct Vote {
        bool yes;
        unsigned result;
    } mine{predicate != 0, 0};
    meet(mask, "__ballot_sync()", {file, line}, &mine, [](void* const brought[WARP], unsigned named) {
        unsigned votes = 0;
        for (int lane = 0; lane < WARP; ++lane)
            if ((named >> lane & 1) && static_cast<Vote*>(brought[lane])->yes) votes |= 1u << lane;
        for (int lane = 0; lane < WARP; ++lane)
            if (named >> lane & 1) static_cast<Vote*>(brought[lane])->result = votes;
    });
    return mine.result;
}
inline int __any_sync(unsigned mask, int predicate, TINYDIFF_HERE) {
    return __ballot_sync(mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, TINYDIFF_HERE) {
    return __ballot_sync(mask, predicate, file, line) == mask;
}
