// gelu: y = x Phi(x). Derivation: tinydiff/ops/gelu.py.
#include "gelu.h"

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 8192;

// body(i, n): of vectors from i on, of which n values are there
template <class Body>
void over_vectors(int64_t count, const Body& body) {
    parallel_for(ceil_div(count, CHUNK), [&](int64_t chunk) {
        for (int64_t i = chunk * CHUNK; i < smaller(count, (chunk + 1) * CHUNK); i += W) body(i, count - i);
    });
}

template <Gelu form, class Real>
void forward(const Real* x, Real* y, int64_t count) {
    over_vectors(count, [&](int64_t i, int64_t n) { store_part(y + i, gelu<form, Real>(load_part(x + i, n)), n); });
}

template <Gelu form, class Real>
void backward(const Real* dy, const Real* x, Real* dx, int64_t count) {
    over_vectors(count, [&](int64_t i, int64_t n) {
        store_part(dx + i, load_part(dy + i, n) * gelu_slope<form>(load_part(x + i, n)), n);
    });
}

}  // namespace

template <class Real>
void gelu_forward(const Real* x, Real* y, int64_t count, Gelu form) {
    if (form == Gelu::exact) return forward<Gelu::exact>(x, y, count);
    form == Gelu::tanh ? forward<Gelu::tanh>(x, y, count) : forward<Gelu::quick>(x, y, count);
}

template <class Real>
void gelu_backward(const Real* dy, const Real* x, Real* dx, int64_t count, Gelu form) {
    if (form == Gelu::exact) return backward<Gelu::exact>(dy, x, dx, count);
    form == Gelu::tanh ? backward<Gelu::tanh>(dy, x, dx, count) : backward<Gelu::quick>(dy, x, dx, count);
}

TINYDIFF_IN_BOTH(gelu_forward)
TINYDIFF_IN_BOTH(gelu_backward)

TINYDIFF_END
