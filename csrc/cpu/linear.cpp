// linear: y = x w + b, a 1x1 convolution over M images of one pixel. Derivation: tinydiff/ops/linear.py.
#include "kernels.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

Conv as_convolution(int64_t M, int64_t C, int64_t O) { return {M, 1, 1, C, 1, 1, O, 1, 0, 1, 1}; }

}  // namespace

template <class Real>
void linear_forward(const Real* x, const Real* w, const float* b, Real* y, int64_t M, int64_t C, int64_t O) {
    conv2d_forward<Real>(x, w, nullptr, b, nullptr, Add::none, y, as_convolution(M, C, O));
}

template <class Real>
void linear_backward(const Real* dy, const Real* x, const Real* w, Real* dx, float* dw, float* db, int64_t M, int64_t C,
                     int64_t O) {
    conv2d_backward<Real>(dy, x, w, dx, dw, db, nullptr, as_convolution(M, C, O));
}

TINYDIFF_IN_BOTH(linear_forward)
TINYDIFF_IN_BOTH(linear_backward)

TINYDIFF_END
