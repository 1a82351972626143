// corrupt: the images of a batch lose signal and gain noise, drawn as they go. See tinydiff/ops/corrupt.py.
#include "kernels.h"
#include "parallel.h"
#include "philox.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 256;  // blocks of four values a task

float signed_value(uint8_t byte) { return static_cast<float>(byte) / 127.5f - 1; }
float signed_value(float value) { return value; }

// Whether the image at this place in the batch is one of those that are mirrored.
bool is_mirrored(const Flip& flip, const Drawn& noise, uint32_t place) {
    return flip.width > 1 && uniform(encrypt({{0, noise.draw, place, flip.purpose}}, noise.seed).word[0]) < 0.5;
}

// Which value of an image (height, width, channels) its mirror image has for value m.
int64_t opposite(int64_t m, const Flip& flip) {
    const int64_t column = m / flip.channels % flip.width;
    return m + (flip.width - 1 - 2 * column) * flip.channels;
}

// index lies in [0, n) and step in [0, T); without slot, sample n has place n.
template <class Value>
void corrupt(const Value* images, const int64_t* index, const int64_t* step, const int64_t* slot, const float* table,
             const Drawn& noise, const Flip& flip, float* x, float* target, float* weight, int64_t N, int64_t M) {
    constexpr int COLUMNS = 5;
    const int64_t blocks = ceil_div(M, 4), chunks = ceil_div(blocks, CHUNK);
    for (int64_t n = 0; n < N; ++n) weight[n] = table[step[n] * COLUMNS + 4];
    parallel_for(N * chunks, [&](int64_t task) {
        const int64_t n = task / chunks, first = task % chunks * CHUNK;
        const float* rates = table + step[n] * COLUMNS;
        const Value* image = images + index[n] * M;
        const auto place = static_cast<uint32_t>(slot ? slot[n] : n);
        const bool mirrored = is_mirrored(flip, noise, place);
        for (int64_t block = first; block < smaller(blocks, first + CHUNK); ++block) {
            float eps[4];
            normals(encrypt({{static_cast<uint32_t>(block), noise.draw, place, noise.purpose}}, noise.seed), eps);
            for (int64_t m = 4 * block; m < smaller(M, 4 * block + 4); ++m) {
                const float x0 = signed_value(image[mirrored ? opposite(m, flip) : m]), e = eps[m - 4 * block];
                x[n * M + m] = rates[0] * x0 + rates[1] * e;
                target[n * M + m] = rates[2] * x0 + rates[3] * e;
            }
        }
    });
}

}  // namespace

void corrupt_bytes(const uint8_t* images, const int64_t* index, const int64_t* step, const int64_t* slot,
                   const float* table, const Drawn& noise, const Flip& flip, float* x, float* target, float* weight,
                   int64_t N, int64_t M) {
    corrupt(images, index, step, slot, table, noise, flip, x, target, weight, N, M);
}

void corrupt_floats(const float* images, const int64_t* index, const int64_t* step, const int64_t* slot,
                    const float* table, const Drawn& noise, const Flip& flip, float* x, float* target, float* weight,
                    int64_t N, int64_t M) {
    corrupt(images, index, step, slot, table, noise, flip, x, target, weight, N, M);
}

TINYDIFF_END
