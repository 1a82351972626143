// concat: two activations side by side along their channels. Derivation: tinydiff/ops/concat.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t PIXELS = 256;  // a task

}  // namespace

template <class Real>
void concat_forward(const Real* a, const Real* b, Real* y, int64_t pixels, int64_t A, int64_t B) {
    parallel_for(ceil_div(pixels, PIXELS), [&](int64_t task) {
        for (int64_t m = task * PIXELS; m < smaller(pixels, (task + 1) * PIXELS); ++m) {
            std::memcpy(y + m * (A + B), a + m * A, sizeof(Real) * A);
            std::memcpy(y + m * (A + B) + A, b + m * B, sizeof(Real) * B);
        }
    });
}

template <class Real>
void concat_backward(const Real* dy, Real* da, Real* db, int64_t pixels, int64_t A, int64_t B) {
    parallel_for(ceil_div(pixels, PIXELS), [&](int64_t task) {
        for (int64_t m = task * PIXELS; m < smaller(pixels, (task + 1) * PIXELS); ++m) {
            std::memcpy(da + m * A, dy + m * (A + B), sizeof(Real) * A);
            std::memcpy(db + m * B, dy + m * (A + B) + A, sizeof(Real) * B);
        }
    });
}

TINYDIFF_IN_BOTH(concat_forward)
TINYDIFF_IN_BOTH(concat_backward)

TINYDIFF_END
