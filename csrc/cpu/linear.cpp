// linear: y = x w + b, a 1x1 convolution over M images of one pixel. Derivation: tinydiff/ops/linear.py.
#include "kernels.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

Conv as_convolution(int64_t M, int64_t C, int64_t O) { return {M, 1, 1, C, 1, 1, O, 1, 0, 1, 1}; }

}  // namespace

void linear_forward(const float* x, const float* w, const float* b, float* y, int64_t M, int64_t C, int64_t O) {
    conv2d_forward(x, w, nullptr, b, nullptr, Add::none, y, as_convolution(M, C, O));
}

void linear_backward(const float* dy, const float* x, const float* w, float* dx, float* dw, float* db, int64_t M,
                     int64_t C, int64_t O) {
    conv2d_backward(dy, x, w, dx, dw, db, nullptr, as_convolution(M, C, O));
}

TINYDIFF_END
