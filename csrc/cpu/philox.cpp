// philox: counter-based random numbers. The generator and its counter: tinydiff/ops/philox.py.
#include <cmath>

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int ROUNDS = 10;
constexpr int64_t CHUNK = 1024;  // blocks of four numbers a task

struct Words {
    uint32_t word[4];
};

Words encrypt(Words counter, uint32_t k0, uint32_t k1) {
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

// y (N, M): block i of a sample, counter (i, draw, sample, purpose), gives its numbers 4i .. 4i + 3
template <class Number, class Convert>
void draw_numbers(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, Number* y, int64_t N,
                  int64_t M, const Convert& convert) {
    const int64_t blocks = ceil_div(M, 4), chunks = ceil_div(blocks, CHUNK);
    const uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    parallel_for(N * chunks, [&](int64_t task) {
        const int64_t n = task / chunks, first = task % chunks * CHUNK;
        for (int64_t block = first; block < smaller(blocks, first + CHUNK); ++block) {
            Number numbers[4];
            convert(encrypt({{static_cast<uint32_t>(block), draw, static_cast<uint32_t>(sample[n]), purpose}}, k0, k1),
                    numbers);
            std::memcpy(y + n * M + 4 * block, numbers, sizeof(Number) * smaller(4, M - 4 * block));
        }
    });
}

double uniform(uint32_t word) { return ((word >> 9) + 0.5) * (1.0 / (1 << 23)); }

}  // namespace

void philox_bits(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, uint32_t* y, int64_t N,
                 int64_t M) {
    draw_numbers(seed, purpose, sample, draw, y, N, M,
                 [](const Words& words, uint32_t* numbers) { std::memcpy(numbers, words.word, sizeof words.word); });
}

void philox_uniform(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, float* y, int64_t N,
                    int64_t M) {
    draw_numbers(seed, purpose, sample, draw, y, N, M, [](const Words& words, float* numbers) {
        for (int i = 0; i < 4; ++i) numbers[i] = static_cast<float>(uniform(words.word[i]));
    });
}

// Box-Muller in double precision, like the reference: so both give the same float32 numbers
void philox_normal(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, float* y, int64_t N,
                   int64_t M) {
    constexpr double TWO_PI = 6.283185307179586;
    draw_numbers(seed, purpose, sample, draw, y, N, M, [](const Words& words, float* numbers) {
        for (int i = 0; i < 4; i += 2) {
            const double radius = std::sqrt(-2 * std::log(uniform(words.word[i])));
            const double angle = TWO_PI * uniform(words.word[i + 1]);
            numbers[i] = static_cast<float>(radius * std::cos(angle));
            numbers[i + 1] = static_cast<float>(radius * std::sin(angle));
        }
    });
}

TINYDIFF_END
