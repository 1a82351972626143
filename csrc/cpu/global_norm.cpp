// global_norm: the length of all gradients taken as one vector. See tinydiff/ops/global_norm.py.
#include <cmath>

#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 16384;

}  // namespace

void global_norm_forward(const float* grads, float* norm, int64_t P) {
    const int64_t chunks = ceil_div(P, CHUNK);
    Scratch squares(chunks);
    parallel_for(chunks, [&](int64_t chunk) {
        constexpr int SUMS = 8;  // as many as hide the latency of an addition
        Vec total[SUMS] = {};
        const int64_t last = smaller(P, (chunk + 1) * CHUNK);
        int64_t i = chunk * CHUNK;
        for (; i + SUMS * W <= last; i += SUMS * W)
            for (int j = 0; j < SUMS; ++j) {
                const Vec g = load(grads + i + j * W);
                total[j] += g * g;
            }
        for (; i < last; i += W) {
            const Vec g = load_part(grads + i, last - i);
            total[0] += g * g;
        }
        for (int j = 1; j < SUMS; ++j) total[0] += total[j];
        squares[chunk] = sum(total[0]);
    });
    double total = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) total += squares[chunk];
    *norm = static_cast<float>(std::sqrt(total));
}

TINYDIFF_END
