// upsample2x: every pixel becomes a 2x2 block of itself. Derivation: tinydiff/ops/upsample2x.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

void upsample2x_forward(const float* x, float* y, int64_t N, int64_t H, int64_t width, int64_t C) {
    const size_t pixel = sizeof(float) * C, row = 2 * width * C;
    parallel_for(N * H, [&](int64_t task) {
        const float* from = x + task * width * C;
        float* to = y + 2 * task * row;
        for (int64_t w = 0; w < width; ++w)
            for (int copy = 0; copy < 2; ++copy) std::memcpy(to + (2 * w + copy) * C, from + w * C, pixel);
        std::memcpy(to + row, to, sizeof(float) * row);
    });
}

void upsample2x_backward(const float* dy, float* dx, int64_t N, int64_t H, int64_t width, int64_t C) {
    const int64_t row = 2 * width * C;
    parallel_for(N * H, [&](int64_t task) {
        for (int64_t w = 0; w < width; ++w) {
            const float* top = dy + 2 * task * row + 2 * w * C;
            const float* bottom = top + row;
            for (int64_t c = 0; c < C; ++c)
                dx[(task * width + w) * C + c] = top[c] + top[C + c] + bottom[c] + bottom[C + c];
        }
    });
}

TINYDIFF_END
