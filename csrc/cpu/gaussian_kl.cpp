// gaussian_kl: how far normal distributions are from the unit one. Derivation: tinydiff/ops/gaussian_kl.py.
#include "gaussian.h"
#include "memory.h"

TINYDIFF_BEGIN

void gaussian_kl_forward(const float* moments, float* kl, int64_t P, int64_t Z) {
    Scratch<double> sums(ceil_div(P, ROWS));
    parallel_for(ceil_div(P, ROWS), [&](int64_t task) {
        double total = 0;
        for (int64_t p = task * ROWS; p < smaller(P, (task + 1) * ROWS); ++p)
            over_row(p, Z, [&](int64_t, int64_t z, int64_t n) {
                const float* const row = moments + 2 * p * Z + z;
                const Vec mean = load_part(row, n), v = clipped(load_part(row + Z, n));
                const Vec each = mean * mean + (exp(v) - 1.0f - v);  // 0 behind the last: exp(0) is 1
                total += sum(each);
            });
        sums[task] = total;
    });
    double total = 0;
    for (int64_t task = 0; task < ceil_div(P, ROWS); ++task) total += sums[task];
    *kl = static_cast<float>(total / (2.0 * static_cast<double>(P) * static_cast<double>(Z)));
}

void gaussian_kl_backward(float dkl, const float* moments, float* dmoments, int64_t P, int64_t Z) {
    const float half = dkl / static_cast<float>(2 * P * Z);
    over_rows(P, Z, [=](int64_t p, int64_t z, int64_t n) {
        const float* const row = moments + 2 * p * Z + z;
        float* const to = dmoments + 2 * p * Z + z;
        const Vec logvar = load_part(row + Z, n), v = clipped(logvar);
        store_part(to, 2 * half * load_part(row, n), n);
        store_part(to + Z, through_clip(half * (exp(v) - 1.0f), v, logvar), n);
    });
}

TINYDIFF_END
