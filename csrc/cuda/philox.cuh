// Philox4x32-10, for any kernel that draws its own numbers. The generator and its counter: tinydiff/ops/philox.py.
#pragma once

#include "common.cuh"

// Encrypt the counter (element block, draw, sample, purpose) under the seed.
__device__ inline uint4 philox4x32(uint4 counter, unsigned k0, unsigned k1) {
    for (int round = 0; round < 10; ++round) {
        const unsigned hi0 = __umulhi(0xD2511F53u, counter.x), lo0 = 0xD2511F53u * counter.x;
        const unsigned hi1 = __umulhi(0xCD9E8D57u, counter.z), lo1 = 0xCD9E8D57u * counter.z;
        counter = make_uint4(hi1 ^ counter.y ^ k0, lo1, hi0 ^ counter.w ^ k1, lo0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return counter;
}

// In (0, 1), exact in float.
__device__ inline double uniform(unsigned word) { return ((word >> 9) + 0.5) * (1.0 / (1 << 23)); }

// Two normals of two words: Box-Muller in double, as in the reference, so that both round to the same floats.
__device__ inline float2 normals(unsigned word_r, unsigned word_a) {
    constexpr double TWO_PI = 6.283185307179586;
    const double radius = sqrt(-2 * log(uniform(word_r))), angle = TWO_PI * uniform(word_a);
    return make_float2(float(radius * cos(angle)), float(radius * sin(angle)));
}
