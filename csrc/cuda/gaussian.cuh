// Normal distributions given by mean and logarithm of the variance: gaussian_sample.cu and gaussian_kl.cu.
#pragma once

#include "common.cuh"

// Where value i of (N, ..., Z) stands in the moments (N, ..., 2 Z); its logarithm stands Z further.
__device__ inline int64 mean_of(int64 i, int Z) { return i + i / Z * Z; }

// The logarithm of the variance that is computed with; NaN stays NaN.
__device__ inline float clipped(float logvar) { return logvar < -30 ? -30.0f : logvar > 20 ? 20.0f : logvar; }

// The gradient of logvar, given that of clipped(logvar): none where it was cut off.
__device__ inline float through_clip(float dv, float logvar) { return clipped(logvar) == logvar ? dv : 0 * dv; }
