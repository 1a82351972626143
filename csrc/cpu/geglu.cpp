// geglu: y = a gelu(g). Derivation: tinydiff/ops/geglu.py.
//
// A task is some tokens, whose rows hold C values of a, then C of g.
#include "gelu.h"
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 8192;  // values of a task

// body(m, c, n): of vectors of a token's channels from c on, of which n are there
template <class Body>
void over_tokens(int64_t M, int64_t C, const Body& body) {
    const int64_t rows = larger(1, CHUNK / C);
    parallel_for(ceil_div(M, rows), [&](int64_t task) {
        for (int64_t m = task * rows; m < smaller(M, (task + 1) * rows); ++m)
            for (int64_t c = 0; c < C; c += W) body(m, c, C - c);
    });
}

}  // namespace

template <class Real>
void geglu_forward(const Real* x, Real* y, int64_t M, int64_t C) {
    over_tokens(M, C, [&](int64_t m, int64_t c, int64_t n) {
        const Real* a = x + 2 * m * C + c;
        store_part(y + m * C + c, load_part(a, n) * gelu<Gelu::exact, Real>(load_part(a + C, n)), n);
    });
}

template <class Real>
void geglu_backward(const Real* dy, const Real* x, Real* dx, int64_t M, int64_t C) {
    over_tokens(M, C, [&](int64_t m, int64_t c, int64_t n) {
        const int64_t at = 2 * m * C + c;
        const Vec a = load_part(x + at, n), g = load_part(x + at + C, n), d = load_part(dy + m * C + c, n);
        const Share share = gelu_share<Gelu::exact>(g);
        store_part(dx + at, d * (g * share.value), n);
        store_part(dx + at + C, d * a * (share.value + g * share.slope), n);
    });
}

TINYDIFF_IN_BOTH(geglu_forward)
TINYDIFF_IN_BOTH(geglu_backward)

TINYDIFF_END
