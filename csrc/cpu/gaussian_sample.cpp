// gaussian_sample: a value of each of many normal distributions. Derivation: tinydiff/ops/gaussian_sample.py.
#include "gaussian.h"

TINYDIFF_BEGIN

void gaussian_sample_forward(const float* moments, const float* eps, float* y, int64_t P, int64_t Z) {
    over_rows(P, Z, [=](int64_t p, int64_t z, int64_t n) {
        const float* const row = moments + 2 * p * Z + z;
        const Vec sigma = exp(0.5f * clipped(load_part(row + Z, n)));
        store_part(y + p * Z + z, load_part(row, n) + sigma * load_part(eps + p * Z + z, n), n);
    });
}

// deps may be null.
void gaussian_sample_backward(const float* dy, const float* moments, const float* eps, float* dmoments, float* deps,
                              int64_t P, int64_t Z) {
    over_rows(P, Z, [=](int64_t p, int64_t z, int64_t n) {
        const int64_t at = p * Z + z;
        const Vec logvar = load_part(moments + p * Z + at + Z, n), v = clipped(logvar);
        const Vec sigma = exp(0.5f * v), d = load_part(dy + at, n), dstd = d * load_part(eps + at, n);
        store_part(dmoments + p * Z + at, d, n);
        store_part(dmoments + p * Z + at + Z, through_clip(0.5f * dstd * sigma, v, logvar), n);
        if (deps) store_part(deps + at, d * sigma, n);
    });
}

TINYDIFF_END
