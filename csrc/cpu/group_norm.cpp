// group_norm: with or without FiLM and SiLU. Derivation: tinydiff/ops/group_norm.py.
//
// A sample is cut into slabs of pixels small enough to stay in cache. Forward: each slab gives a mean and a sum of
// squared deviations for every channel; merged over slabs and over the channels of a group by
//     sum (x - mean)^2 = sum over parts [ M2_part + count_part (mean_part - mean)^2 ]
// they give the group's statistics to full precision from one reading of x; a second reading normalises. Backward
// likewise: one reading of x and dy for the sums over pixels, a second for dx, in whose place du waits in between, or
// in bfloat16, where waiting there would round it, beside it.
//
// gamma, beta, scale and shift together are a slope and an offset for each channel of each sample, u = slope xhat +
// offset, so that FiLM costs no reading of its own.
//
// Source of the merging: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing
// sample variances", 1979.
#include <cmath>
#include <numeric>

#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SLAB_FLOATS = 16 << 10;
constexpr int64_t SAMPLES = 4;      // enough for a task each
constexpr int64_t FEW_SLABS = 16;   // of a sample that a core's own cache holds
constexpr int64_t MOST_SHARES = 4;  // of a sample's channels

struct Slabs {
    int64_t pixels, size, count;

    explicit Slabs(const GroupNorm& norm)
        : pixels(norm.HW), size(larger(1, smaller(norm.HW, SLAB_FLOATS / norm.C))), count(ceil_div(norm.HW, size)) {}
    int64_t first(int64_t slab) const { return slab * size; }
    int64_t last(int64_t slab) const { return smaller(pixels, (slab + 1) * size); }
};

// Some channels: whole groups.
struct Share {
    int64_t first, last;
};

template <class Body>
void over_share(Share share, const Body& body) {
    over_channels(share.last - share.first,
                  [&](int64_t c, int64_t channels, auto vectors) { body(share.first + c, channels, vectors); });
}

// A sample's channels in shares of whole vectors.
struct Shares {
    int64_t C, size, count;

    Shares(const GroupNorm& norm, int64_t most)
        : C(norm.C), size(round_up(ceil_div(C, most), std::lcm(C / norm.G, W))), count(ceil_div(C, size)) {}
    Share operator[](int64_t i) const { return {i * size, smaller(C, (i + 1) * size)}; }
};

// With samples enough, a task takes one through all stages while it is in cache, of few small ones some channels of
// one; else each stage is spread over the slabs. The arithmetic is the same.
//
// ``room`` floats a sample are there from its first stage to its last, as the last argument of both.
template <class First, class Merge, class Second>
void in_two_readings(const GroupNorm& norm, const Slabs& slabs, int64_t room, const First& first, const Merge& merge,
                     const Second& second) {
    const int64_t N = norm.N;
    const bool many = N >= SAMPLES;
    if (many || slabs.count <= FEW_SLABS) {
        const Shares shares(norm, many ? 1 : MOST_SHARES);
        parallel_for(N * shares.count, [&](int64_t task) {
            const int64_t n = task / shares.count;
            const Share share = shares[task % shares.count];
            Scratch own(room);
            for (int64_t slab = 0; slab < slabs.count; ++slab) first(n, slab, share, own);
            merge(n, share);
            for (int64_t slab = 0; slab < slabs.count; ++slab) second(n, slab, share, own);
        });
        return;
    }
    const Share whole{0, norm.C};
    Scratch all(N * room);
    auto stage = [&](const auto& body) {
        parallel_for(N * slabs.count, [&](int64_t task) {
            const int64_t n = task / slabs.count;
            body(n, task % slabs.count, whole, all + n * room);
        });
    };
    stage(first);
    for (int64_t n = 0; n < N; ++n) merge(n, whole);
    stage(second);
}

// What both ways apply to x: xhat = (x - mean) rstd, then u = slope xhat + offset.
template <class Real>
struct Affine {
    const float *gamma, *beta;
    const Real *scale, *shift;  // (N, C), or null
    int64_t C;

    float film(int64_t n, int64_t c) const { return scale ? 1 + widen(scale[n * C + c]) : 1; }
    float slope(int64_t n, int64_t c) const { return gamma[c] * film(n, c); }
    float offset(int64_t n, int64_t c) const {
        return scale ? beta[c] * film(n, c) + widen(shift[n * C + c]) : beta[c];
    }
};

}  // namespace

template <class Real>
void group_norm_forward(const Real* x, const float* gamma, const float* beta, const Real* scale, const Real* shift,
                        Real* y, float* mean, float* rstd, const GroupNorm& norm) {
    const int64_t N = norm.N, C = norm.C, G = norm.G, width = C / G;
    const Slabs slabs(norm);
    const Affine<Real> affine{gamma, beta, scale, shift, C};
    // for every slab and channel: about the mean, the sum of deviations from it, and of their squares
    Scratch parts(N * slabs.count * 3 * C);
    Scratch per_channel(N * 3 * C);  // mean, rstd slope, offset

    auto statistics = [&](int64_t n, int64_t slab, Share share, float*) {
        float* centre = parts + (n * slabs.count + slab) * 3 * C;
        const Real* sample = x + n * norm.HW * C;
        const int64_t first = slabs.first(slab), last = slabs.last(slab);
        over_share(share, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec row[V], total[V] = {}, deviation[V] = {}, square[V] = {};
            for (int64_t m = first; m < last; ++m) {
                load_columns(row, sample + m * C + c, channels);
                for (int j = 0; j < V; ++j) total[j] += row[j];
            }
            for (int j = 0; j < V; ++j) total[j] *= 1.0f / static_cast<float>(last - first);
            for (int64_t m = first; m < last; ++m) {
                load_columns(row, sample + m * C + c, channels);
                for (int j = 0; j < V; ++j) {
                    const Vec d = row[j] - total[j];
                    deviation[j] += d;
                    square[j] += d * d;
                }
            }
            store_columns(centre + c, total, channels);
            store_columns(centre + C + c, deviation, channels);
            store_columns(centre + 2 * C + c, square, channels);
        });
    };
    auto merge = [&](int64_t n, Share share) {
        float *mean_C = per_channel + n * 3 * C, *slope_C = mean_C + C, *offset_C = slope_C + C;
        for (int64_t g = share.first / width; g < share.last / width; ++g) {
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
                slope_C[c] = rstd[n * G + g] * affine.slope(n, c);
                offset_C[c] = affine.offset(n, c);
            }
        }
    };
    auto normalise = [&](int64_t n, int64_t slab, Share share, float*) {
        const float *mean_C = per_channel + n * 3 * C, *slope_C = mean_C + C, *offset_C = slope_C + C;
        over_share(share, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], slope[V], offset[V], u[V];
            load_columns(m, mean_C + c, channels);
            load_columns(slope, slope_C + c, channels);
            load_columns(offset, offset_C + c, channels);
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel) {
                const int64_t at = (n * norm.HW + pixel) * C + c;
                load_columns(u, x + at, channels);
                for (int j = 0; j < V; ++j) {
                    u[j] = (u[j] - m[j]) * slope[j] + offset[j];
                    if (norm.silu) u[j] *= sigmoid<Real>(u[j]);
                }
                store_columns(y + at, u, channels);
            }
        });
    };
    in_two_readings(norm, slabs, 0, statistics, merge, normalise);
}

template <class Real>
void group_norm_backward(const Real* dy, const Real* x, const float* gamma, const float* beta, const Real* scale,
                         const Real* shift, const float* mean, const float* rstd, const Real* add, Real* dx,
                         float* dgamma, float* dbeta, Real* dscale, Real* dshift, const GroupNorm& norm) {
    const int64_t N = norm.N, C = norm.C, G = norm.G, width = C / G;
    constexpr bool in_dx = sizeof(Real) == sizeof(float);  // where du waits
    const int64_t room = norm.silu && !in_dx ? norm.HW * C : 0;
    const Slabs slabs(norm);
    const Affine<Real> affine{gamma, beta, scale, shift, C};
    Scratch parts(N * slabs.count * 2 * C);  // for every slab and channel: sums of du and of du xhat
    Scratch sums(N * 2 * C);                 // the same for every sample
    Scratch per_channel(N * 6 * C);          // mean, rstd, slope, offset, through_mean, through_var

    for (int64_t n = 0; n < N; ++n) {
        float *mean_C = per_channel + n * 6 * C, *rstd_C = mean_C + C, *slope_C = rstd_C + C, *offset_C = slope_C + C;
        for (int64_t c = 0; c < C; ++c) {
            mean_C[c] = mean[n * G + c / width];
            rstd_C[c] = rstd[n * G + c / width];
            slope_C[c] = affine.slope(n, c);
            offset_C[c] = affine.offset(n, c);
        }
    }

    auto pixel_sums = [&](int64_t n, int64_t slab, Share share, float* waiting) {
        const float *mean_C = per_channel + n * 6 * C, *rstd_C = mean_C + C, *slope_C = rstd_C + C;
        const float* offset_C = slope_C + C;
        float* part = parts + (n * slabs.count + slab) * 2 * C;
        over_share(share, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], r[V], slope[V], offset[V], xhat[V], du[V], du_sum[V] = {}, du_xhat[V] = {};
            load_columns(m, mean_C + c, channels);
            load_columns(r, rstd_C + c, channels);
            load_columns(slope, slope_C + c, channels);
            load_columns(offset, offset_C + c, channels);
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel) {
                const int64_t at = (n * norm.HW + pixel) * C + c;
                load_columns(xhat, x + at, channels);
                load_columns(du, dy + at, channels);
                for (int j = 0; j < V; ++j) {
                    xhat[j] = (xhat[j] - m[j]) * r[j];
                    if (norm.silu) {
                        const Vec u = slope[j] * xhat[j] + offset[j];
                        du[j] *= silu_slope(u, sigmoid(u));
                    }
                    du_sum[j] += du[j];
                    du_xhat[j] += du[j] * xhat[j];
                }
                if (norm.silu && in_dx) store_columns(dx + at, du, channels);
                if (norm.silu && !in_dx) store_columns(waiting + pixel * C + c, du, channels);
            }
            store_columns(part + c, du_sum, channels);
            store_columns(part + C + c, du_xhat, channels);
        });
    };
    auto merge = [&](int64_t n, Share share) {
        const float* slope_C = per_channel + n * 6 * C + 2 * C;
        float *through_mean = per_channel + n * 6 * C + 4 * C, *through_var = through_mean + C;
        float* sum = sums + n * 2 * C;
        const double count = static_cast<double>(norm.HW * width);
        for (int64_t g = share.first / width; g < share.last / width; ++g) {
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
                mean_dxhat += slope_C[c] * du;
                mean_dxhat_xhat += slope_C[c] * du_xhat;
            }
            for (int64_t c = g * width; c < (g + 1) * width; ++c) {
                through_mean[c] = static_cast<float>(mean_dxhat / count);
                through_var[c] = static_cast<float>(mean_dxhat_xhat / count);
            }
        }
    };
    auto input_gradient = [&](int64_t n, int64_t slab, Share share, const float* waiting) {
        const float *mean_C = per_channel + n * 6 * C, *rstd_C = mean_C + C, *slope_C = rstd_C + C;
        const float *through_mean_C = mean_C + 4 * C, *through_var_C = through_mean_C + C;
        const Real* du_all = norm.silu && in_dx ? dx : dy;
        over_share(share, [&](int64_t c, int64_t channels, auto vectors) {
            constexpr int V = decltype(vectors)::value;
            Vec m[V], r[V], slope[V], through_mean[V], through_var[V], xhat[V], result[V], other[V];
            load_columns(m, mean_C + c, channels);
            load_columns(r, rstd_C + c, channels);
            load_columns(slope, slope_C + c, channels);
            load_columns(through_mean, through_mean_C + c, channels);
            load_columns(through_var, through_var_C + c, channels);
            for (int64_t pixel = slabs.first(slab); pixel < slabs.last(slab); ++pixel) {
                const int64_t at = (n * norm.HW + pixel) * C + c;
                load_columns(xhat, x + at, channels);
                if (norm.silu && !in_dx)
                    load_columns(result, waiting + pixel * C + c, channels);
                else
                    load_columns(result, du_all + at, channels);
                for (int j = 0; j < V; ++j) {
                    xhat[j] = (xhat[j] - m[j]) * r[j];
                    result[j] = r[j] * (result[j] * slope[j] - through_mean[j] - xhat[j] * through_var[j]);
                }
                if (add) {
                    load_columns(other, add + at, channels);
                    for (int j = 0; j < V; ++j) result[j] += other[j];
                }
                store_columns(dx + at, result, channels);
            }
        });
    };
    in_two_readings(norm, slabs, room, pixel_sums, merge, input_gradient);

    for (int64_t c = 0; c < C; ++c) {
        double total_beta = 0, total_gamma = 0;
        for (int64_t n = 0; n < N; ++n) {
            const double du = sums[n * 2 * C + c], du_xhat = sums[n * 2 * C + C + c], film = affine.film(n, c);
            total_beta += film * du;
            total_gamma += film * du_xhat;
            if (scale) {
                dscale[n * C + c] = rounded_to<Real>(static_cast<float>(gamma[c] * du_xhat + beta[c] * du));
                dshift[n * C + c] = rounded_to<Real>(static_cast<float>(du));
            }
        }
        dbeta[c] = static_cast<float>(total_beta);
        dgamma[c] = static_cast<float>(total_gamma);
    }
}

TINYDIFF_IN_BOTH(group_norm_forward)
TINYDIFF_IN_BOTH(group_norm_backward)

TINYDIFF_END
