// silu: y = x sigmoid(x). Derivation: tinydiff/ops/silu.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 8192;

}  // namespace

template <class Real>
void silu_forward(const Real* x, Real* y, int64_t count) {
    parallel_for(ceil_div(count, CHUNK), [&](int64_t chunk) {
        for (int64_t i = chunk * CHUNK; i < smaller(count, (chunk + 1) * CHUNK); i += W) {
            const Vec v = load_part(x + i, count - i);
            store_part(y + i, v * sigmoid<Real>(v), count - i);
        }
    });
}

template <class Real>
void silu_backward(const Real* dy, const Real* x, Real* dx, int64_t count) {
    parallel_for(ceil_div(count, CHUNK), [&](int64_t chunk) {
        for (int64_t i = chunk * CHUNK; i < smaller(count, (chunk + 1) * CHUNK); i += W) {
            const Vec v = load_part(x + i, count - i);
            store_part(dx + i, load_part(dy + i, count - i) * silu_slope(v, sigmoid<Real>(v)), count - i);
        }
    });
}

TINYDIFF_IN_BOTH(silu_forward)
TINYDIFF_IN_BOTH(silu_backward)

TINYDIFF_END
