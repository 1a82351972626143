// philox: counter-based random numbers. The generator and its counter: tinydiff/ops/philox.py.
#include "philox.h"

#include "kernels.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 1024;  // blocks of four numbers a task

// y (N, M): block i of a sample, counter (i, draw, sample, purpose), gives its numbers 4i .. 4i + 3
template <class Number, class Convert>
void draw_numbers(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, Number* y, int64_t N,
                  int64_t M, const Convert& convert) {
    const int64_t blocks = ceil_div(M, 4), chunks = ceil_div(blocks, CHUNK);
    parallel_for(N * chunks, [&](int64_t task) {
        const int64_t n = task / chunks, first = task % chunks * CHUNK;
        for (int64_t block = first; block < smaller(blocks, first + CHUNK); ++block) {
            Number numbers[4];
            convert(encrypt({{static_cast<uint32_t>(block), draw, static_cast<uint32_t>(sample[n]), purpose}}, seed),
                    numbers);
            std::memcpy(y + n * M + 4 * block, numbers, sizeof(Number) * smaller(4, M - 4 * block));
        }
    });
}

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

void philox_normal(uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, float* y, int64_t N,
                   int64_t M) {
    draw_numbers(seed, purpose, sample, draw, y, N, M, normals);
}

TINYDIFF_END
