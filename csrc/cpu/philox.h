// Philox4x32-10, for every kernel that draws its own numbers. The generator and its counter: tinydiff/ops/philox.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "vector.h"

TINYDIFF_BEGIN

constexpr int PHILOX_ROUNDS = 10;
constexpr uint32_t MULTIPLIER_0 = 0xD2511F53, MULTIPLIER_1 = 0xCD9E8D57, WEYL_0 = 0x9E3779B9, WEYL_1 = 0xBB67AE85;

struct Words {
    uint32_t word[4];
};

// Encrypt the counter (element block, draw, sample, purpose) under the seed.
inline Words encrypt(Words counter, uint64_t seed) {
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    uint32_t* c = counter.word;
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        const uint64_t product_0 = uint64_t{MULTIPLIER_0} * c[0], product_1 = uint64_t{MULTIPLIER_1} * c[2];
        c[0] = static_cast<uint32_t>(product_1 >> 32) ^ c[1] ^ k0;
        c[1] = static_cast<uint32_t>(product_1);
        c[2] = static_cast<uint32_t>(product_0 >> 32) ^ c[3] ^ k1;
        c[3] = static_cast<uint32_t>(product_0);
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    return counter;
}

// The four words of W neighbouring blocks, those of one block in one lane; ``counter`` is the first of them.
//
// As numbers of 64 bits, of which only the lower halves count, so that a multiplication has room for its product: the
// even blocks in one vector, the odd ones in another.
inline void encrypt_neighbours(const Words& counter, uint64_t seed, WordVec (&words)[4]) {
    LongVec c[2][4];
    for (int odd = 0; odd < 2; ++odd) {
        for (int lane = 0; lane < W / 2; ++lane) c[odd][0][lane] = counter.word[0] + 2 * lane + odd;
        for (int i = 1; i < 4; ++i) c[odd][i] = LongVec{} + counter.word[i];
    }
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    for (int round = 0; round < PHILOX_ROUNDS; ++round) {
        for (LongVec(&half)[4] : c) {
            const LongVec product_0 = multiply_lower_halves(half[0], MULTIPLIER_0);
            const LongVec product_1 = multiply_lower_halves(half[2], MULTIPLIER_1);
            half[0] = (product_1 >> 32) ^ half[1] ^ k0;
            half[1] = product_1;
            half[2] = (product_0 >> 32) ^ half[3] ^ k1;
            half[3] = product_0;
        }
        k0 += WEYL_0;
        k1 += WEYL_1;
    }
    for (int i = 0; i < 4; ++i) words[i] = reinterpret_cast<WordVec>((c[0][i] & 0xFFFFFFFF) | c[1][i] << 32);
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
