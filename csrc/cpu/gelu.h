// What gelu.cpp and geglu.cpp share: the share of x that a GELU lets through, and its slope. Derivation:
// tinydiff/ops/gelu.py.
#pragma once

#include "kernels.h"
#include "vector.h"

TINYDIFF_BEGIN

struct Share {
    Vec value, slope;  // P and P'(x)
};

template <Gelu form, class Kept = float>
inline Share gelu_share(Vec x) {
    if constexpr (form == Gelu::exact) {
        // Phi(-z) = exp(-z^2/2) w Q(w) with w = 1 / (1 + 0.35 z): Q fitted to the tail of erfc for z in [0, 14], within
        // 3e-8 of it, of which float32 makes 3e-7
        const Vec bell = exp<Kept>(-0.5f * x * x);
        const Vec w = reciprocal<Kept>(1.0f + 0.35f * (x < 0 ? -x : x));
        Vec q = splat(-0.029146259736f);
        q = q * w + 0.143973258370f;
        q = q * w - 0.255717375618f;
        q = q * w + 0.159177588286f;
        q = q * w - 0.023112084984f;
        q = q * w + 0.105508902730f;
        q = q * w + 0.119832655539f;
        q = q * w + 0.139861896563f;
        q = q * w + 0.139621402902f;
        const Vec tail = bell * w * q;
        return {x < 0 ? tail : 1.0f - tail, bell * 0.398942280f};
    } else {
        const float linear = form == Gelu::quick ? 1.702f : 1.59576912f, cubic = form == Gelu::quick ? 0 : 0.044715f;
        const Vec value = sigmoid<Kept>(linear * (x + cubic * x * x * x));
        return {value, value * (1.0f - value) * (linear + 3 * cubic * linear * x * x)};
    }
}

template <Gelu form, class Kept = float>
inline Vec gelu(Vec x) {
    return x * gelu_share<form, Kept>(x).value;
}

template <Gelu form>
inline Vec gelu_slope(Vec x) {
    const Share share = gelu_share<form>(x);
    return share.value + x * share.slope;
}

TINYDIFF_END
