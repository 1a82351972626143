// gaussian_sample: a value of each of many normal distributions. Derivation: tinydiff/ops/gaussian_sample.py.
//
// v1_naive     one value a thread
#include "gaussian.cuh"

// One thread does one value.
// launch: threads >= count
// writes: y (count,), all of it. reproducible: yes, nothing is summed.
extern "C" __global__ void gaussian_sample_forward_v1_naive(const float* moments, const float* eps, float* y,
                                                            int64 count, int Z) {
    const int64 i = global_thread();
    if (i >= count) return;
    const float* mean = moments + mean_of(i, Z);
    y[i] = mean[0] + expf(clipped(mean[Z]) / 2) * eps[i];
}

// One thread does one value.
// launch: threads >= count
// writes: dmoments (2 count,) and, where it is not null, deps (count,), all of them. reproducible: yes.
extern "C" __global__ void gaussian_sample_backward_v1_naive(const float* dy, const float* moments, const float* eps,
                                                             float* dmoments, float* deps, int64 count, int Z) {
    const int64 i = global_thread();
    if (i >= count) return;
    const int64 at = mean_of(i, Z);
    const float logvar = moments[at + Z], sigma = expf(clipped(logvar) / 2), dstd = dy[i] * eps[i];
    dmoments[at] = dy[i];
    dmoments[at + Z] = through_clip(dstd * sigma / 2, logvar);
    if (deps) deps[i] = dy[i] * sigma;
}
