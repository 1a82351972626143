// timestep_embedding: the noise step as sines and cosines. Derivation: tinydiff/ops/timestep_embedding.py.
//
// v1_naive     one frequency of one sample a thread
#include "common.cuh"

// One thread does the sine and the cosine of one angle, in double precision: at 999 radians a float angle is already
// off by 3e-5.
// launch: threads >= N half
// writes: y (N, 2 half), all of it. reproducible: yes.
extern "C" __global__ void timestep_embedding_forward_v1_naive(const float* step, Real* y, int N, int half) {
    constexpr double MAX_PERIOD = 10000;
    const int64 i = global_thread();
    if (i >= int64(N) * half) return;
    const int64 n = i / half, k = i % half;
    const double angle = step[n] * pow(MAX_PERIOD, -double(k) / half);
    y[n * 2 * half + k] = float(sin(angle));
    y[n * 2 * half + half + k] = float(cos(angle));
}
