// Philox4x32-10, for every kernel that draws its own numbers. The generator and its counter: tinydiff/ops/philox.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "vector.h"

TINYDIFF_BEGIN

struct Words {
    uint32_t word[4];
};

// Encrypt the counter (element block, draw, sample, purpose) under the seed.
inline Words encrypt(Words counter, uint64_t seed) {
    constexpr int ROUNDS = 10;
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    uint32_t* c = counter.word;
    for (int round = 0; round < ROUNDS; ++round) {
        const uint64_t product_0 = uint64_t{0xD2511F53} * c[0], product_1 = uint64_t{0xCD9E8D57} * c[2];
        c[0] = static_cast<uint32_t>(product_1 >> 32) ^ c[1] ^ k0;
        c[1] = static_cast<uint32_t>(product_1);
        c[2] = static_cast<uint32_t>(product_0 >> 32) ^ c[3] ^ k1;
        c[3] = static_cast<uint32_t>(product_0);
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return counter;
}

// In (0, 1), exact in float.
inline double uniform(uint32_t word) { return ((word >> 9) + 0.5) * (1.0 / (1 << 23)); }

// Four normals of four words: Box-Muller in double precision, like the reference, so that both give the same floats.
inline void normals(const Words& words, float* numbers) {
    constexpr double TWO_PI = 6.283185307179586;
    for (int i = 0; i < 4; i += 2) {
        const double radius = std::sqrt(-2 * std::log(uniform(words.word[i])));
        const double angle = TWO_PI * uniform(words.word[i + 1]);
        numbers[i] = static_cast<float>(radius * std::cos(angle));
        numbers[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
}

TINYDIFF_END
