// What gelu.cu and geglu.cu share: the share of x that a GELU lets through, and its slope. Derivation:
// tinydiff/ops/gelu.py.
#pragma once

#include "common.cuh"

enum Gelu { EXACT, TANH, QUICK };

__device__ inline float gelu_cubic(int form) { return form == TANH ? 0.044715f : 0; }
__device__ inline float gelu_linear(int form) { return form == TANH ? 1.59576912f : 1.702f; }

__device__ inline float gelu_share(float x, int form) {
    if (form == EXACT) return 0.5f * erfcf(-0.707106781f * x);
    return sigmoid(gelu_linear(form) * (x + gelu_cubic(form) * x * x * x));
}

__device__ inline float gelu_slope(float x, int form) {
    const float share = gelu_share(x, form);
    if (form == EXACT) return share + x * (expf(-0.5f * x * x) * 0.398942280f);
    const float steepness = gelu_linear(form) * (1 + 3 * gelu_cubic(form) * x * x);
    return share + x * (share * (1 - share) * steepness);
}
