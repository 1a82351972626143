// group_norm: optionally with FiLM and with SiLU. Derivation: tinydiff/ops/group_norm.py. width = C / G.
//
// v1_three_readings   one block a group of a sample: mean, variance, result, each from memory
// v2_one_reading      the group waits in shared memory between the three
//
// v1_two_readings     the backward: sums for each channel, then dx
// v1_naive            the parameters' gradients: one channel a thread
#include "common.cuh"

// All of gamma, beta, scale and shift of one channel of one sample: u = slope xhat + offset. scale and shift may be
// null.
struct Affine {
    float slope, offset;
};

__device__ inline Affine affine_of(const float* gamma, const float* beta, const Real* scale, const Real* shift, int n,
                                   int c, int C) {
    if (!scale) return {gamma[c], beta[c]};
    const int64 at = int64(n) * C + c;
    const float film = 1 + scale[at];
    return {gamma[c] * film, beta[c] * film + shift[at]};
}

// Value i of group g of sample n: pixel i / width, channel g width + i % width.
struct Group {
    int64 first;  // of x
    int C, width;
    __device__ int64 at(int i) const { return first + int64(i / width) * C + i % width; }
};

__device__ inline Group the_group(int HW, int C, int G) {
    const int g = blockIdx.x % G, n = blockIdx.x / G, width = C / G;
    return {int64(n) * HW * C + g * width, C, width};
}

// value(i) gives the group's values; mean and rstd come back in every thread.
template <class Value>
__device__ inline void statistics(const Value& value, int count, float eps, float* scratch, float& mean, float& rstd) {
    float total = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) total += value(i);
    mean = block_sum(total, scratch) / count;
    float squares = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) squares += (value(i) - mean) * (value(i) - mean);
    rstd = 1 / sqrtf(block_sum(squares, scratch) / count + eps);
}

template <class Value>
__device__ inline void normalise(const Value& value, const float* gamma, const float* beta, const Real* scale,
                                 const Real* shift, Real* y, float* mean, float* rstd, float* scratch, int HW, int C,
                                 int G, float eps, int silu) {
    const Group group = the_group(HW, C, G);
    const int count = HW * group.width, n = blockIdx.x / G, first_c = blockIdx.x % G * group.width;
    float m, r;
    statistics(value, count, eps, scratch, m, r);
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const Affine affine = affine_of(gamma, beta, scale, shift, n, first_c + i % group.width, C);
        const float u = affine.slope * ((value(i) - m) * r) + affine.offset;
        y[group.at(i)] = silu ? u * sigmoid(u) : u;
    }
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        rstd[blockIdx.x] = r;
    }
}

// One block does one group of one sample; its threads take the values in turn, neighbours along channels.
// launch: N G blocks of whole warps, shared: a float a warp
// writes: y, all of it, mean and rstd (N, G). reproducible: yes.
// scale and shift may be null, both.
extern "C" __global__ void group_norm_forward_v1_three_readings(const Real* x, const float* gamma, const float* beta,
                                                                const Real* scale, const Real* shift, Real* y,
                                                                float* mean, float* rstd, int HW, int C, int G,
                                                                float eps, int silu) {
    float* scratch = Shared().take<float>(int(blockDim.x) / WARP);
    const Group group = the_group(HW, C, G);
    normalise([&](int i) { return float(x[group.at(i)]); }, gamma, beta, scale, shift, y, mean, rstd, scratch, HW, C, G,
              eps, silu);
}

// As above, but the group is read once. Each thread reads back only what it stored, so no barrier is needed for it.
// launch: N G blocks of whole warps, shared: a float a warp and HW C / G floats
// writes: y, all of it, mean and rstd (N, G). reproducible: yes.
extern "C" __global__ void group_norm_forward_v2_one_reading(const Real* x, const float* gamma, const float* beta,
                                                             const Real* scale, const Real* shift, Real* y, float* mean,
                                                             float* rstd, int HW, int C, int G, float eps, int silu) {
    const Group group = the_group(HW, C, G);
    const int count = HW * group.width;
    Shared shared;
    float* scratch = shared.take<float>(int(blockDim.x) / WARP);
    float* values = shared.take<float>(count);
    for (int i = threadIdx.x; i < count; i += blockDim.x) values[i] = x[group.at(i)];
    normalise([&](int i) { return values[i]; }, gamma, beta, scale, shift, y, mean, rstd, scratch, HW, C, G, eps, silu);
}

// One block does one group of one sample, in two readings: first the sums over pixels of du and du xhat for each
// channel, from which through_mean and through_var follow, then dx. In the first, `lanes` = min(width, block) threads
// stand side by side on the channels and block / lanes rows of them take the pixels in turn.
// launch: N G blocks of whole warps, shared: 2 block + 2 width floats and a float a warp
// writes: dx, all of it, and du_sum, du_xhat (N, C). reproducible: yes, rows are added in their order.
// scale and shift may be null, both; so may add, which is added to dx.
extern "C" __global__ void group_norm_backward_v1_two_readings(const Real* dy, const Real* x, const float* gamma,
                                                               const float* beta, const Real* scale, const Real* shift,
                                                               const float* mean, const float* rstd, const Real* add,
                                                               Real* dx, float* du_sum, float* du_xhat, int HW, int C,
                                                               int G, int silu) {
    const Group group = the_group(HW, C, G);
    const int width = group.width, n = blockIdx.x / G, first_c = blockIdx.x % G * width, threads = blockDim.x;
    const float m = mean[blockIdx.x], r = rstd[blockIdx.x];
    Shared shared;
    float* sum_rows = shared.take<float>(threads);
    float* xhat_rows = shared.take<float>(threads);
    float* sum_width = shared.take<float>(width);
    float* xhat_width = shared.take<float>(width);
    float* scratch = shared.take<float>(threads / WARP);

    auto xhat_at = [&](int64 at) { return (x[at] - m) * r; };
    // y = silu(u), reversed
    auto du_at = [&](int64 at, float xhat, Affine affine) {
        const float d = dy[at];
        return silu ? d * silu_slope(affine.slope * xhat + affine.offset) : d;
    };

    const int lanes = min(width, threads), rows = threads / lanes;
    const int lane = int(threadIdx.x) % lanes, row = int(threadIdx.x) / lanes;
    for (int c0 = 0; c0 < width; c0 += lanes) {
        const int c = c0 + lane;
        float sum = 0, sum_xhat = 0;
        if (row < rows && c < width) {
            const Affine affine = affine_of(gamma, beta, scale, shift, n, first_c + c, C);
            for (int pixel = row; pixel < HW; pixel += rows) {
                const int64 at = group.first + int64(pixel) * C + c;
                const float xhat = xhat_at(at), du = du_at(at, xhat, affine);
                sum += du;
                sum_xhat += du * xhat;
            }
        }
        sum_rows[threadIdx.x] = sum;
        xhat_rows[threadIdx.x] = sum_xhat;
        __syncthreads();
        if (row == 0 && c < width) {
            for (int other = 1; other < rows; ++other) {
                sum += sum_rows[other * lanes + lane];
                sum_xhat += xhat_rows[other * lanes + lane];
            }
            du_sum[int64(n) * C + first_c + c] = sum_width[c] = sum;
            du_xhat[int64(n) * C + first_c + c] = xhat_width[c] = sum_xhat;
        }
        __syncthreads();
    }

    // xhat = (x - mean) rstd, reversed
    float of_mean = 0, of_var = 0;
    for (int c = threadIdx.x; c < width; c += threads) {
        const float slope = affine_of(gamma, beta, scale, shift, n, first_c + c, C).slope;
        of_mean += slope * sum_width[c];
        of_var += slope * xhat_width[c];
    }
    const int count = HW * width;
    const float through_mean = block_sum(of_mean, scratch) / count;
    const float through_var = block_sum(of_var, scratch) / count;
    for (int i = threadIdx.x; i < count; i += threads) {
        const Affine affine = affine_of(gamma, beta, scale, shift, n, first_c + i % width, C);
        const int64 at = group.at(i);
        const float xhat = xhat_at(at), dxhat = du_at(at, xhat, affine) * affine.slope;
        const float d = r * (dxhat - through_mean - xhat * through_var);
        dx[at] = add ? d + add[at] : d;
    }
}

// One thread does one channel: it adds over the samples in their order.
// launch: threads >= C
// writes: dgamma and dbeta (C,), dscale and dshift (N, C) where scale is not null. reproducible: yes.
extern "C" __global__ void group_norm_parameter_gradients_v1_naive(const float* gamma, const float* beta,
                                                                   const Real* scale, const float* du_sum,
                                                                   const float* du_xhat, float* dgamma, float* dbeta,
                                                                   Real* dscale, Real* dshift, int N, int C) {
    const int c = int(global_thread());
    if (c >= C) return;
    float of_gamma = 0, of_beta = 0;
    for (int n = 0; n < N; ++n) {
        const int64 at = int64(n) * C + c;
        const float sum = du_sum[at], sum_xhat = du_xhat[at], film = scale ? 1 + scale[at] : 1.0f;
        of_gamma += film * sum_xhat;
        of_beta += film * sum;
        if (scale) {
            dscale[at] = gamma[c] * sum_xhat + beta[c] * sum;
            dshift[at] = sum;
        }
    }
    dgamma[c] = of_gamma;
    dbeta[c] = of_beta;
}
