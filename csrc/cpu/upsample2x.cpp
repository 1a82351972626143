// upsample2x: every pixel becomes a 2x2 block of itself. Derivation: tinydiff/ops/upsample2x.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

template <class Real>
void upsample2x_forward(const Real* x, Real* y, int64_t N, int64_t H, int64_t width, int64_t C) {
    const size_t pixel = sizeof(Real) * C, row = 2 * width * C;
    parallel_for(N * H, [&](int64_t task) {
        const Real* from = x + task * width * C;
        Real* to = y + 2 * task * row;
        for (int64_t w = 0; w < width; ++w)
            for (int copy = 0; copy < 2; ++copy) std::memcpy(to + (2 * w + copy) * C, from + w * C, pixel);
        std::memcpy(to + row, to, sizeof(Real) * row);
    });
}

template <class Real>
void upsample2x_backward(const Real* dy, Real* dx, int64_t N, int64_t H, int64_t width, int64_t C) {
    const int64_t row = 2 * width * C;
    parallel_for(N * H, [&](int64_t task) {
        for (int64_t w = 0; w < width; ++w) {
            const Real* top = dy + 2 * task * row + 2 * w * C;
            const Real* bottom = top + row;
            for (int64_t c = 0; c < C; c += W) {
                const int64_t n = C - c;
                const Vec above = load_part(top + c, n) + load_part(top + C + c, n);
                const Vec total = above + load_part(bottom + c, n) + load_part(bottom + C + c, n);
                store_part(dx + (task * width + w) * C + c, total, n);
            }
        }
    });
}

TINYDIFF_IN_BOTH(upsample2x_forward)
TINYDIFF_IN_BOTH(upsample2x_backward)

TINYDIFF_END
