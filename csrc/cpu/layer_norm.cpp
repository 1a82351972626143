// layer_norm: each token over its channels. Derivation: tinydiff/ops/layer_norm.py.
//
// A token is read for its mean, again for its variance and again to be normalised, while it is in cache. A task is ROWS
// tokens; backward it leaves its part of the sums over tokens, and the parts are added in their order, so that bits do
// not depend on who did which.
#include <cmath>

#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t ROWS = 32;

// The first n lanes, zeros after them.
inline Vec first_lanes(Vec v, int64_t n) {
    if (n >= W) return v;
    float lanes[W];
    store(lanes, v);
    return load_part(lanes, n);
}

template <class Body>
void over_tokens(int64_t M, const Body& body) {
    parallel_for(ceil_div(M, ROWS), [&](int64_t task) {
        for (int64_t m = task * ROWS; m < smaller(M, (task + 1) * ROWS); ++m) body(m, task);
    });
}

}  // namespace

template <class Real>
void layer_norm_forward(const Real* x, const float* gamma, const float* beta, Real* y, float* mean, float* rstd,
                        int64_t M, int64_t C, float eps) {
    const float share = 1 / static_cast<float>(C);
    over_tokens(M, [&](int64_t m, int64_t) {
        const Real* row = x + m * C;
        Vec total{}, squares{};
        for (int64_t c = 0; c < C; c += W) total += load_part(row + c, C - c);
        const float centre = sum(total) * share;
        for (int64_t c = 0; c < C; c += W) {
            const Vec d = first_lanes(load_part(row + c, C - c) - centre, C - c);
            squares += d * d;
        }
        const float r = 1 / std::sqrt(sum(squares) * share + eps);
        for (int64_t c = 0; c < C; c += W) {
            const Vec xhat = (load_part(row + c, C - c) - centre) * r;
            store_part(y + m * C + c, xhat * load_part(gamma + c, C - c) + load_part(beta + c, C - c), C - c);
        }
        mean[m] = centre;
        rstd[m] = r;
    });
}

template <class Real>
void layer_norm_backward(const Real* dy, const Real* x, const float* gamma, const float* mean, const float* rstd,
                         const Real* add, Real* dx, float* dgamma, float* dbeta, int64_t M, int64_t C) {
    const int64_t tasks = ceil_div(M, ROWS);
    Scratch parts(tasks * 2 * C);  // of every task its sums of dy xhat and of dy
    const float share = 1 / static_cast<float>(C);
    over_tokens(M, [&](int64_t m, int64_t task) {
        float *dgamma_part = parts + task * 2 * C, *dbeta_part = dgamma_part + C;
        const bool is_first = m == task * ROWS;
        const int64_t at = m * C;
        const float centre = mean[m], r = rstd[m];
        Vec dxhat_sum{}, dxhat_xhat_sum{};
        for (int64_t c = 0; c < C; c += W) {
            const int64_t n = C - c;
            const Vec d = load_part(dy + at + c, n), xhat = (load_part(x + at + c, n) - centre) * r;
            const Vec dxhat = d * load_part(gamma + c, n), through_gamma = d * xhat;  // zeros beyond, as d
            dxhat_sum += dxhat;
            dxhat_xhat_sum += dxhat * xhat;
            store_part(dgamma_part + c, is_first ? through_gamma : load_part(dgamma_part + c, n) + through_gamma, n);
            store_part(dbeta_part + c, is_first ? d : load_part(dbeta_part + c, n) + d, n);
        }
        const float through_mean = sum(dxhat_sum) * share, through_var = sum(dxhat_xhat_sum) * share;
        for (int64_t c = 0; c < C; c += W) {
            const int64_t n = C - c;
            const Vec xhat = (load_part(x + at + c, n) - centre) * r;
            const Vec dxhat = load_part(dy + at + c, n) * load_part(gamma + c, n);
            Vec result = r * (dxhat - through_mean - xhat * through_var);
            if (add) result += load_part(add + at + c, n);
            store_part(dx + at + c, result, n);
        }
    });
    for (int64_t c = 0; c < C; ++c) {
        double total_gamma = 0, total_beta = 0;
        for (int64_t task = 0; task < tasks; ++task) {
            total_gamma += parts[task * 2 * C + c];
            total_beta += parts[task * 2 * C + C + c];
        }
        dgamma[c] = static_cast<float>(total_gamma);
        dbeta[c] = static_cast<float>(total_beta);
    }
}

TINYDIFF_IN_BOTH(layer_norm_forward)
TINYDIFF_IN_BOTH(layer_norm_backward)

TINYDIFF_END
