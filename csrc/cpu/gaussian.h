// Normal distributions given by mean and logarithm of the variance: gaussian_sample and gaussian_kl.
//
// Moments are rows of Z means and then Z logarithms, P rows of them.
#pragma once

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

constexpr int64_t ROWS = 256;  // a task

// body(p, z, n): of row p the channels from z on, n of them, a vector at most
template <class Body>
void over_row(int64_t p, int64_t Z, const Body& body) {
    for (int64_t z = 0; z < Z; z += W) body(p, z, smaller(W, Z - z));
}

// The same of all rows.
template <class Body>
void over_rows(int64_t P, int64_t Z, const Body& body) {
    parallel_for(ceil_div(P, ROWS), [&](int64_t task) {
        for (int64_t p = task * ROWS; p < smaller(P, (task + 1) * ROWS); ++p) over_row(p, Z, body);
    });
}

// The logarithm of the variance that is computed with; NaN stays NaN.
inline Vec clipped(Vec logvar) {
    logvar = logvar < -30.0f ? splat(-30.0f) : logvar;
    return logvar > 20.0f ? splat(20.0f) : logvar;
}

// The gradient of logvar, given that of v = clipped(logvar): none where it was cut off.
inline Vec through_clip(Vec dv, Vec v, Vec logvar) { return dv * (v == logvar ? splat(1.0f) : Vec{}); }

TINYDIFF_END
