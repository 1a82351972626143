// group_norm: optionally with FiLM and with SiLU. Derivation: tinydiff/ops/group_norm.py. width = C / G.
//
// v1_three_readings   one block a group of a sample: mean, variance, result, each from memory
// v2_one_reading      the group waits in shared memory between the three
// v3_vectors          one block as many neighbouring groups as make whole pieces of 16 bytes, in which all is read and
//                     written; they wait in shared memory as they were read
//
// v1_two_readings     the backward: sums for each channel, then dx
// v2_vectors          as v3_vectors: x and dy are read once
// v1_naive            the parameters' gradients: one channel a thread
//
// On paper, to be confirmed by measuring: 28x28 and 64 channels at batch 128 in bfloat16 are 12.8 MB, so that the
// forward moves 25.7 MB, 5.4 us of an H200's 4.8 TB/s, and the backward 38.5 MB (51.4 with add), 8 us (10.7). With
// groups of two channels v1 and v2 use 4 bytes of every 32 that come; v3 uses all. Its 256 blocks of 8 warps (56
// registers, 59 KiB) are two a multiprocessor, whose loads must have 25 KB under way to keep memory busy: three vectors
// of each thread. In the backward x and dy must both fit, so there a bundle is half as wide: 512 blocks of 58 KiB,
// three a multiprocessor.
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

// Neighbouring groups of one sample, `span` channels that are whole vectors. A thread has one vector of them in every
// so-manieth pixel, so that its channels stay the same.
struct Bundle {
    int n, first_group, groups, first_c, span, width, C, HW, lanes, rows, lane, row, first_j;

    __device__ Bundle(int pixels, int channels, int G)
        : n(blockIdx.y),
          first_group(blockIdx.x * (G / gridDim.x)),
          groups(G / gridDim.x),
          first_c(first_group * (channels / G)),
          span(groups * (channels / G)),
          width(channels / G),
          C(channels),
          HW(pixels),
          lanes(span / VECTOR),
          rows(int(blockDim.x) / lanes),
          lane(int(threadIdx.x) % lanes),
          row(int(threadIdx.x) / lanes),
          first_j(lane * VECTOR) {}

    // Of the tensor and of the copy in shared memory.
    __device__ int64 at(int pixel) const { return (int64(n) * HW + pixel) * C + first_c + first_j; }
    __device__ int here(int pixel) const { return pixel * span + first_j; }

    template <class Do>
    __device__ void each_pixel(const Do& act) const {
        if (row < rows)
            for (int pixel = row; pixel < HW; pixel += rows) act(pixel);
    }

    // totals[c] = the sum over the rows of each one's sums of channel c; scratch holds rows x (span + 1).
    __device__ void add_rows(const float (&sums)[VECTOR], float* scratch, float* totals) const {
        const int pitch = span + 1;
        if (row < rows)
            for (int j = 0; j < VECTOR; ++j) scratch[row * pitch + first_j + j] = sums[j];
        __syncthreads();
        for (int c = int(threadIdx.x) / WARP; c < span; c += int(blockDim.x) / WARP) {
            float total = 0;
            for (int other = int(threadIdx.x) % WARP; other < rows; other += WARP) total += scratch[other * pitch + c];
            total = warp_sum(total);
            if (threadIdx.x % WARP == 0) totals[c] = total;
        }
        __syncthreads();
    }

    // of_group[g] = the mean over the group of what has these totals, each times factor(c).
    template <class Factor>
    __device__ void group_means(const float* totals, float* of_group, const Factor& factor) const {
        for (int g = threadIdx.x; g < groups; g += blockDim.x) {
            float total = 0;
            for (int c = g * width; c < (g + 1) * width; ++c) total += factor(c) * totals[c];
            of_group[g] = total / (HW * width);
        }
        __syncthreads();
    }
};

// One block does a bundle of groups of one sample.
// launch: grid (G / groups of a bundle, N), block of whole warps with a thread for each vector of a bundle's pixel,
// shared: HW span values, and floats: rows (span + 1), span, twice the bundle's groups. needs: span a multiple of
// VECTOR
// writes: y, all of it, mean and rstd (N, G). reproducible: yes, rows are added in one order.
// scale and shift may be null, both.
extern "C" __global__ void group_norm_forward_v3_vectors(const Real* x, const float* gamma, const float* beta,
                                                         const Real* scale, const Real* shift, Real* y, float* mean,
                                                         float* rstd, int HW, int C, int G, float eps, int silu) {
    const Bundle bundle(HW, C, G);
    Shared shared;
    Real* values = shared.take<Real>(HW * bundle.span);
    float* scratch = shared.take<float>(bundle.rows * (bundle.span + 1));
    float* totals = shared.take<float>(bundle.span);
    float* means = shared.take<float>(bundle.groups);
    float* squares = shared.take<float>(bundle.groups);
    const auto one = [](int) { return 1.0f; };

    float sums[VECTOR] = {};
    bundle.each_pixel([&](int pixel) {
        const Vector v = load_vector(x + bundle.at(pixel), VECTOR);
        store_vector(values + bundle.here(pixel), v, VECTOR);
        for (int j = 0; j < VECTOR; ++j) sums[j] += v.v[j];
    });
    bundle.add_rows(sums, scratch, totals);
    bundle.group_means(totals, means, one);

    float m[VECTOR];
    for (int j = 0; j < VECTOR; ++j) m[j] = means[(bundle.first_j + j) / bundle.width], sums[j] = 0;
    bundle.each_pixel([&](int pixel) {
        const Vector v = load_vector(values + bundle.here(pixel), VECTOR);
        for (int j = 0; j < VECTOR; ++j) sums[j] += (v.v[j] - m[j]) * (v.v[j] - m[j]);
    });
    bundle.add_rows(sums, scratch, totals);
    bundle.group_means(totals, squares, one);

    float slope[VECTOR], offset[VECTOR];
    for (int j = 0; j < VECTOR; ++j) {
        const int c = bundle.first_j + j;
        const Affine affine = affine_of(gamma, beta, scale, shift, bundle.n, bundle.first_c + c, C);
        slope[j] = affine.slope / sqrtf(squares[c / bundle.width] + eps);
        offset[j] = affine.offset;
    }
    bundle.each_pixel([&](int pixel) {
        Vector v = load_vector(values + bundle.here(pixel), VECTOR);
        for (int j = 0; j < VECTOR; ++j) {
            const float u = slope[j] * (v.v[j] - m[j]) + offset[j];
            v.v[j] = silu ? u * sigmoid(u) : u;
        }
        store_vector(y + bundle.at(pixel), v, VECTOR);
    });
    for (int g = threadIdx.x; g < bundle.groups; g += blockDim.x) {
        const int64 to = int64(bundle.n) * G + bundle.first_group + g;
        mean[to] = means[g];
        rstd[to] = 1 / sqrtf(squares[g] + eps);
    }
}

// One block does one group of one sample, in two readings: first the sums over pixels of du and du xhat for each
// channel, from which through_mean and through_var follow, then dx. In the first, `lanes` = min(width, block) threads
// stand side by side on the channels and block / lanes rows of them take the pixels in turn.
// launch: N G blocks of whole warps, shared: 2 block floats and a float a warp
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
    float* scratch = shared.take<float>(threads / WARP);
    du_sum += int64(n) * C + first_c;  // this block's part, which it reads again
    du_xhat += int64(n) * C + first_c;

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
            du_sum[c] = sum;
            du_xhat[c] = sum_xhat;
        }
        __syncthreads();
    }

    // xhat = (x - mean) rstd, reversed
    float of_mean = 0, of_var = 0;
    for (int c = threadIdx.x; c < width; c += threads) {
        const float slope = affine_of(gamma, beta, scale, shift, n, first_c + c, C).slope;
        of_mean += slope * du_sum[c];
        of_var += slope * du_xhat[c];
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

// One block does a bundle of groups of one sample: sums over pixels of du and du xhat for each channel, from which
// through_mean and through_var of each group follow, then dx. x and dy wait in shared memory as they were read.
// launch: as group_norm_forward_v3_vectors, but 2 HW span values, and floats: rows (span + 1), twice span, twice the
// bundle's groups. needs: span a multiple of VECTOR
// writes: dx, all of it, and du_sum, du_xhat (N, C). reproducible: yes, rows are added in one order.
// scale and shift may be null, both; so may add, which is added to dx.
extern "C" __global__ void group_norm_backward_v2_vectors(const Real* dy, const Real* x, const float* gamma,
                                                          const float* beta, const Real* scale, const Real* shift,
                                                          const float* mean, const float* rstd, const Real* add,
                                                          Real* dx, float* du_sum, float* du_xhat, int HW, int C, int G,
                                                          int silu) {
    const Bundle bundle(HW, C, G);
    Shared shared;
    Real* x_here = shared.take<Real>(HW * bundle.span);
    Real* dy_here = shared.take<Real>(HW * bundle.span);
    float* scratch = shared.take<float>(bundle.rows * (bundle.span + 1));
    float* sum_span = shared.take<float>(bundle.span);
    float* xhat_span = shared.take<float>(bundle.span);
    float* through_mean = shared.take<float>(bundle.groups);
    float* through_var = shared.take<float>(bundle.groups);

    float m[VECTOR], r[VECTOR], slope[VECTOR], offset[VECTOR];
    for (int j = 0; j < VECTOR; ++j) {
        const int c = bundle.first_j + j;
        const int64 group = int64(bundle.n) * G + bundle.first_group + c / bundle.width;
        const Affine affine = affine_of(gamma, beta, scale, shift, bundle.n, bundle.first_c + c, C);
        m[j] = mean[group], r[j] = rstd[group], slope[j] = affine.slope, offset[j] = affine.offset;
    }
    // y = silu(u), reversed
    auto du_of = [&](float d, float xhat, int j) { return silu ? d * silu_slope(slope[j] * xhat + offset[j]) : d; };

    float sums[VECTOR] = {}, sums_xhat[VECTOR] = {};
    bundle.each_pixel([&](int pixel) {
        const Vector v = load_vector(x + bundle.at(pixel), VECTOR), d = load_vector(dy + bundle.at(pixel), VECTOR);
        store_vector(x_here + bundle.here(pixel), v, VECTOR);
        store_vector(dy_here + bundle.here(pixel), d, VECTOR);
        for (int j = 0; j < VECTOR; ++j) {
            const float xhat = (v.v[j] - m[j]) * r[j], du = du_of(d.v[j], xhat, j);
            sums[j] += du;
            sums_xhat[j] += du * xhat;
        }
    });
    bundle.add_rows(sums, scratch, sum_span);
    bundle.add_rows(sums_xhat, scratch, xhat_span);
    for (int c = threadIdx.x; c < bundle.span; c += blockDim.x) {
        du_sum[int64(bundle.n) * C + bundle.first_c + c] = sum_span[c];
        du_xhat[int64(bundle.n) * C + bundle.first_c + c] = xhat_span[c];
    }

    // xhat = (x - mean) rstd, reversed
    auto slope_of = [&](int c) { return affine_of(gamma, beta, scale, shift, bundle.n, bundle.first_c + c, C).slope; };
    bundle.group_means(sum_span, through_mean, slope_of);
    bundle.group_means(xhat_span, through_var, slope_of);
    float of_mean[VECTOR], of_var[VECTOR];
    for (int j = 0; j < VECTOR; ++j) {
        const int g = (bundle.first_j + j) / bundle.width;
        of_mean[j] = through_mean[g], of_var[j] = through_var[g];
    }
    bundle.each_pixel([&](int pixel) {
        const Vector v = load_vector(x_here + bundle.here(pixel), VECTOR);
        Vector d = load_vector(dy_here + bundle.here(pixel), VECTOR);
        for (int j = 0; j < VECTOR; ++j) {
            const float xhat = (v.v[j] - m[j]) * r[j], dxhat = du_of(d.v[j], xhat, j) * slope[j];
            d.v[j] = r[j] * (dxhat - of_mean[j] - xhat * of_var[j]);
        }
        if (add) {
            const Vector more = load_vector(add + bundle.at(pixel), VECTOR);
            for (int j = 0; j < VECTOR; ++j) d.v[j] += more.v[j];
        }
        store_vector(dx + bundle.at(pixel), d, VECTOR);
    });
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
