// layer_norm: each token over its channels. Derivation: tinydiff/ops/layer_norm.py.
//
// v1_warp      one warp a token, which it reads from memory once and then, for the variance and the result, from cache
// v1_naive     one thread a channel, for the sums over tokens
#include "common.cuh"

// One warp does one token; its lanes take neighbouring channels.
// launch: warps >= M
// writes: y (M, C), mean and rstd (M), all of them. reproducible: yes, lanes are summed in one order.
extern "C" __global__ void layer_norm_forward_v1_warp(const Real* x, const float* gamma, const float* beta, Real* y,
                                                      float* mean, float* rstd, int64 M, int C, float eps) {
    const int64 m = global_thread() / WARP;
    const int lane = int(threadIdx.x) % WARP;
    if (m >= M) return;
    const Real* row = x + m * C;
    float centre = 0, var = 0;
    for (int c = lane; c < C; c += WARP) centre += float(row[c]);
    centre = warp_sum(centre) / C;
    for (int c = lane; c < C; c += WARP) {
        const float d = float(row[c]) - centre;
        var += d * d;
    }
    const float r = 1 / sqrtf(warp_sum(var) / C + eps);
    for (int c = lane; c < C; c += WARP) y[m * C + c] = (float(row[c]) - centre) * r * gamma[c] + beta[c];
    if (lane == 0) {
        mean[m] = centre;
        rstd[m] = r;
    }
}

// One warp does one token: two sums over its channels, then dx. add may be null.
// launch: warps >= M
// writes: dx (M, C), all of it. reproducible: yes.
extern "C" __global__ void layer_norm_backward_v1_warp(const Real* dy, const Real* x, const float* gamma,
                                                       const float* mean, const float* rstd, const Real* add, Real* dx,
                                                       int64 M, int C) {
    const int64 m = global_thread() / WARP;
    const int lane = int(threadIdx.x) % WARP;
    if (m >= M) return;
    const int64 row = m * C;
    const float centre = mean[m], r = rstd[m];
    float through_mean = 0, through_var = 0;
    for (int c = lane; c < C; c += WARP) {
        const float dxhat = float(dy[row + c]) * gamma[c];
        through_mean += dxhat;
        through_var += dxhat * ((float(x[row + c]) - centre) * r);
    }
    through_mean = warp_sum(through_mean) / C;
    through_var = warp_sum(through_var) / C;
    for (int c = lane; c < C; c += WARP) {
        const float dxhat = float(dy[row + c]) * gamma[c], xhat = (float(x[row + c]) - centre) * r;
        const float others = add ? float(add[row + c]) : 0;
        dx[row + c] = r * (dxhat - through_mean - xhat * through_var) + others;
    }
}

// One thread sums one channel over the tokens of one part: dy xhat, and dy. Neighbouring threads read neighbouring
// channels.
// launch: (ceil(C / threads), parts) blocks. needs: parts x stretch >= M
// writes: sums (parts, 2, C), all of it. reproducible: yes, in the order of the tokens.
extern "C" __global__ void layer_norm_parameter_gradients_v1_naive(const Real* dy, const Real* x, const float* mean,
                                                                   const float* rstd, float* sums, int64 M, int C,
                                                                   int64 stretch) {
    const int c = int(global_thread());
    if (c >= C) return;
    const int64 part = blockIdx.y, last = min(M, (part + 1) * stretch);
    float dgamma = 0, dbeta = 0;
    for (int64 m = part * stretch; m < last; ++m) {
        const float d = dy[m * C + c];
        dgamma += d * ((float(x[m * C + c]) - mean[m]) * rstd[m]);
        dbeta += d;
    }
    sums[2 * part * C + c] = dgamma;
    sums[(2 * part + 1) * C + c] = dbeta;
}

// One thread adds the parts of one channel's two sums, in their order.
// launch: threads >= C
// writes: dgamma and dbeta (C), all of them. reproducible: yes.
extern "C" __global__ void layer_norm_merge_v1_naive(const float* sums, float* dgamma, float* dbeta, int parts, int C) {
    const int64 c = global_thread();
    if (c >= C) return;
    float total_gamma = 0, total_beta = 0;
    for (int part = 0; part < parts; ++part) {
        total_gamma += sums[2 * part * int64(C) + c];
        total_beta += sums[(2 * part + 1) * int64(C) + c];
    }
    dgamma[c] = total_gamma;
    dbeta[c] = total_beta;
}
