// group_norm: with or without SiLU. Derivation: tinydiff/ops/group_norm.py.
//
// A sample is cut into slabs of pixels small enough to stay in cache. Forward: each slab gives a mean and a sum of
// squared deviations for every channel; merged over slabs and over the channels of a group by
//     sum (x - mean)^2 = sum over parts [ M2_part + count_part (mean_part - mean)^2 ]
// they give the group's statistics to full precision from one reading of x; a second reading normalises. Backward
// likewise: one reading of x and dy for the sums over pixels, a second for dx, in whose place du waits in between.
//
// Source of the merging: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
// sample variances", 1979.
#include <cmath>
#include <type_traits>

#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SLAB_FLOATS = 16 << 10;
constexpr int COLUMNS = 4;  // vectors of channels at a time: four neighbouring cache lines of every pixel

struct Slabs {
    int64_t pixels, size, count;

    explicit Slabs(const GroupNorm& norm)
        : pixels(norm.HW), size(larger(1, smaller(norm.HW, SLAB_FLOATS / norm.C))), count(ceil_div(norm.HW, size)) {}
    int64_t first(int64_t slab) const { return slab * size; }
    int64_t last(int64_t slab) const { return smaller(pixels, (slab + 1) * size); }
};

// With samples enough, a task takes one through all stages while it is in cache; else each stage is spread over
// the slabs. The arithmetic is the same.
template <class First, class Merge, class Second>
void in_two_readings(int64_t N, int64_t slabs, const First& first, const Merge& merge, const Second& second) {
    if (N >= 4) {
        parallel_for(N, [&](int64_t n) {
            for (int64_t slab = 0; slab < slabs; ++slab) first(n, slab);
            merge(n);
            for (int64_t slab = 0; slab < slabs; ++slab) second(n, slab);
        });
        return;
    }
    parallel_for(N * slabs, [&](int64_t task) { first(task / slabs, task % slabs); });
    for (int64_t n = 0; n < N; ++n) merge(n);
    parallel_for(N * slabs, [&](int64_t task) { second(task / slabs, task % slabs); });
}

// body(c, number of channels, vectors) for all channels, as many vectors at a time as there are
template <class Body>
inline void over_channels(int64_t C, const Body& body) {
    int64_t c = 0;
    for (; c + COLUMNS * W <= C; c += COLUMNS * W) body(c, COLUMNS * W, std::integral_constant<int, COLUMNS>());
    for (; c < C; c += W) body(c, C - c, std::integral_constant<int, 1>());
}

}  // namespace

void group_norm_forward(const float* x, const float* gamma, const float* beta, float* y, float* mean, float* rstd,
                        const GroupNorm& norm) {
    const int64_t N = norm.N, C = norm.C, G = norm.G, width = C / G;
    const Slabs slabs(norm);
    // for every slab and channel: about the mean, the sum of deviations from it, and of their squares
    Scratch parts(N * slabs.count * 3 * C), per_channel(N * 2 * C);

    auto statistics = [&](int64_t n, int64_t slab) {
        float* centre = parts + (n * slabs.count + slab) * 3 * C;
        const float* sample = x + n * norm.HW * C;
        const int64_t first = slabs.first(slab), last = slabs.last(slab);
        over_channels(C, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec total[V] = {}, deviation[V] = {}, square[V] = {};
            for (int64_t m = first; m < last; ++m)
                for (int j = 0; j < V; ++j) total[j] += load_part(sample + m * C + c + j * W, channels - j * W);
            for (int j = 0; j < V; ++j) total[j] *= 1.0f / static_cast<float>(last - first);
            for (int64_t m = first; m < last; ++m)
                for (int j = 0; j < V; ++j) {
                    const Vec d = load_part(sample + m * C + c + j * W, channels - j * W) - total[j];
                    deviation[j] += d;
                    square[j] += d * d;
                }
            for (int j = 0; j < V; ++j) {
                store_part(centre + c + j * W, total[j], channels - j * W);
                store_part(centre + C + c + j * W, deviation[j], channels - j * W);
                store_part(centre + 2 * C + c + j * W, square[j], channels - j * W);
            }
        });
    };
    auto merge = [&](int64_t n) {
        float *mean_C = per_channel + n * 2 * C, *scale_C = mean_C + C;
        for (int64_t g = 0; g < G; ++g) {
            double total = 0, squares = 0;
            for (int pass = 0; pass < 2; ++pass)
                for (int64_t slab = 0; slab < slabs.count; ++slab) {
                    const float* part = parts + (n * slabs.count + slab) * 3 * C;
                    const double count = static_cast<double>(slabs.last(slab) - slabs.first(slab));
                    for (int64_t c = g * width; c < (g + 1) * width; ++c) {
                        const double deviation = part[C + c], centre = part[c] + deviation / count;
                        if (pass == 0) {
                            total += count * centre;
                        } else {
                            const double away = centre - total;
                            squares += part[2 * C + c] - deviation * deviation / count + count * away * away;
                        }
                    }
                    if (pass == 0 && slab + 1 == slabs.count) total /= static_cast<double>(norm.HW * width);
                }
            const double var = squares / static_cast<double>(norm.HW * width);
            mean[n * G + g] = static_cast<float>(total);
            rstd[n * G + g] = static_cast<float>(1 / std::sqrt(var + static_cast<double>(norm.eps)));
            for (int64_t c = g * width; c < (g + 1) * width; ++c) {
                mean_C[c] = mean[n * G + g];
                scale_C[c] = rstd[n * G + g] * gamma[c];
            }
        }
    };
    auto normalise = [&](int64_t n, int64_t slab) {
        const float *mean_C = per_channel + n * 2 * C, *scale_C = mean_C + C;
        const int64_t sample = n * norm.HW * C;
        over_channels(C, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], scale[V], shift[V];
            for (int j = 0; j < V; ++j) {
                m[j] = load_part(mean_C + c + j * W, channels - j * W);
                scale[j] = load_part(scale_C + c + j * W, channels - j * W);
                shift[j] = load_part(beta + c + j * W, channels - j * W);
            }
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel)
                for (int j = 0; j < V; ++j) {
                    const int64_t at = sample + pixel * C + c + j * W;
                    Vec u = (load_part(x + at, channels - j * W) - m[j]) * scale[j] + shift[j];
                    if (norm.silu) u *= sigmoid(u);
                    store_part(y + at, u, channels - j * W);
                }
        });
    };
    in_two_readings(N, slabs.count, statistics, merge, normalise);
}

void group_norm_backward(const float* dy, const float* x, const float* gamma, const float* beta, const float* mean,
                         const float* rstd, const float* add, float* dx, float* dgamma, float* dbeta,
                         const GroupNorm& norm) {
    const int64_t N = norm.N, C = norm.C, G = norm.G, width = C / G;
    const Slabs slabs(norm);
    Scratch parts(N * slabs.count * 2 * C);  // for every slab and channel: sums of du and of du xhat
    Scratch sums(N * 2 * C);                 // the same for every sample
    Scratch per_channel(N * 4 * C);          // mean, rstd, through_mean, through_var

    auto spread = [&](int64_t n) {
        float* mean_C = per_channel + n * 4 * C;
        for (int64_t c = 0; c < C; ++c) {
            mean_C[c] = mean[n * G + c / width];
            mean_C[C + c] = rstd[n * G + c / width];
        }
    };
    for (int64_t n = 0; n < N; ++n) spread(n);

    auto pixel_sums = [&](int64_t n, int64_t slab) {
        const float *mean_C = per_channel + n * 4 * C, *rstd_C = mean_C + C;
        float* part = parts + (n * slabs.count + slab) * 2 * C;
        const int64_t sample = n * norm.HW * C;
        over_channels(C, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], r[V], scale[V], shift[V], du_sum[V] = {}, du_xhat[V] = {};
            for (int j = 0; j < V; ++j) {
                m[j] = load_part(mean_C + c + j * W, channels - j * W);
                r[j] = load_part(rstd_C + c + j * W, channels - j * W);
                scale[j] = load_part(gamma + c + j * W, channels - j * W);
                shift[j] = load_part(beta + c + j * W, channels - j * W);
            }
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel)
                for (int j = 0; j < V; ++j) {
                    const int64_t at = sample + pixel * C + c + j * W;
                    const Vec xhat = (load_part(x + at, channels - j * W) - m[j]) * r[j];
                    Vec du = load_part(dy + at, channels - j * W);
                    if (norm.silu) {
                        const Vec u = scale[j] * xhat + shift[j];
                        du *= silu_slope(u, sigmoid(u));
                        store_part(dx + at, du, channels - j * W);
                    }
                    du_sum[j] += du;
                    du_xhat[j] += du * xhat;
                }
            for (int j = 0; j < V; ++j) {
                store_part(part + c + j * W, du_sum[j], channels - j * W);
                store_part(part + C + c + j * W, du_xhat[j], channels - j * W);
            }
        });
    };
    auto merge = [&](int64_t n) {
        float *through_mean = per_channel + n * 4 * C + 2 * C, *through_var = through_mean + C;
        float* sum = sums + n * 2 * C;
        const double count = static_cast<double>(norm.HW * width);
        for (int64_t g = 0; g < G; ++g) {
            double mean_dxhat = 0, mean_dxhat_xhat = 0;
            for (int64_t c = g * width; c < (g + 1) * width; ++c) {
                double du = 0, du_xhat = 0;
                for (int64_t slab = 0; slab < slabs.count; ++slab) {
                    const float* part = parts + (n * slabs.count + slab) * 2 * C;
                    du += part[c];
                    du_xhat += part[C + c];
                }
                sum[c] = static_cast<float>(du);
                sum[C + c] = static_cast<float>(du_xhat);
                mean_dxhat += gamma[c] * du;
                mean_dxhat_xhat += gamma[c] * du_xhat;
            }
            for (int64_t c = g * width; c < (g + 1) * width; ++c) {
                through_mean[c] = static_cast<float>(mean_dxhat / count);
                through_var[c] = static_cast<float>(mean_dxhat_xhat / count);
            }
        }
    };
    auto input_gradient = [&](int64_t n, int64_t slab) {
        const float *mean_C = per_channel + n * 4 * C, *rstd_C = mean_C + C;
        const float *through_mean_C = rstd_C + C, *through_var_C = through_mean_C + C;
        const float* du = norm.silu ? dx : dy;
        const int64_t sample = n * norm.HW * C;
        over_channels(C, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], r[V], scale[V], through_mean[V], through_var[V];
            for (int j = 0; j < V; ++j) {
                m[j] = load_part(mean_C + c + j * W, channels - j * W);
                r[j] = load_part(rstd_C + c + j * W, channels - j * W);
                scale[j] = load_part(gamma + c + j * W, channels - j * W);
                through_mean[j] = load_part(through_mean_C + c + j * W, channels - j * W);
                through_var[j] = load_part(through_var_C + c + j * W, channels - j * W);
            }
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel)
                for (int j = 0; j < V; ++j) {
                    const int64_t at = sample + pixel * C + c + j * W;
                    const Vec xhat = (load_part(x + at, channels - j * W) - m[j]) * r[j];
                    const Vec dxhat = load_part(du + at, channels - j * W) * scale[j];
                    Vec result = r[j] * (dxhat - through_mean[j] - xhat * through_var[j]);
                    if (add) result += load_part(add + at, channels - j * W);
                    store_part(dx + at, result, channels - j * W);
                }
        });
    };
    in_two_readings(N, slabs.count, pixel_sums, merge, input_gradient);

    for (int64_t c = 0; c < C; ++c) {
        double total_beta = 0, total_gamma = 0;
        for (int64_t n = 0; n < N; ++n) {
            total_beta += sums[n * 2 * C + c];
            total_gamma += sums[n * 2 * C + C + c];
        }
        dbeta[c] = static_cast<float>(total_beta);
        dgamma[c] = static_cast<float>(total_gamma);
    }
}

TINYDIFF_END
