// film: y = x (1 + scale) + shift, a scale and a shift for each channel of each sample. Derivation:
// tinydiff/ops/film.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

void film_forward(const float* x, const float* scale, const float* shift, float* y, int64_t N, int64_t HW, int64_t C) {
    parallel_for(N, [&](int64_t n) {
        const float *s = scale + n * C, *t = shift + n * C;
        for (int64_t m = n * HW; m < (n + 1) * HW; ++m)
            for (int64_t c = 0; c < C; ++c) y[m * C + c] = x[m * C + c] * (1 + s[c]) + t[c];
    });
}

void film_backward(const float* dy, const float* x, const float* scale, float* dx, float* dscale, float* dshift,
                   int64_t N, int64_t HW, int64_t C) {
    parallel_for(N, [&](int64_t n) {
        float *ds = dscale + n * C, *dt = dshift + n * C;
        std::memset(ds, 0, sizeof(float) * C);
        std::memset(dt, 0, sizeof(float) * C);
        for (int64_t m = n * HW; m < (n + 1) * HW; ++m)
            for (int64_t c = 0; c < C; ++c) {
                dx[m * C + c] = dy[m * C + c] * (1 + scale[n * C + c]);
                ds[c] += dy[m * C + c] * x[m * C + c];
                dt[c] += dy[m * C + c];
            }
    });
}

TINYDIFF_END
