// concat: two activations side by side along their channels. Derivation: tinydiff/ops/concat.py.
#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t TASK_NUMBERS = 8 << 10;  // about so many of y

// body(first, last) of the pixels of each task
template <class Body>
void in_tasks(int64_t pixels, int64_t width, const Body& body) {
    const int64_t at_once = larger(1, TASK_NUMBERS / width);
    parallel_for(ceil_div(pixels, at_once),
                 [&](int64_t task) { body(task * at_once, smaller(pixels, (task + 1) * at_once)); });
}

}  // namespace

template <class Real>
void concat_forward(const Real* a, const Real* b, Real* y, int64_t pixels, int64_t A, int64_t B) {
    in_tasks(pixels, A + B, [&](int64_t first, int64_t last) {
        for (int64_t m = first; m < last; ++m) {
            std::memcpy(y + m * (A + B), a + m * A, sizeof(Real) * A);
            std::memcpy(y + m * (A + B) + A, b + m * B, sizeof(Real) * B);
        }
    });
}

template <class Real>
void concat_backward(const Real* dy, Real* da, Real* db, int64_t pixels, int64_t A, int64_t B) {
    in_tasks(pixels, A + B, [&](int64_t first, int64_t last) {
        for (int64_t m = first; m < last; ++m) {
            std::memcpy(da + m * A, dy + m * (A + B), sizeof(Real) * A);
            std::memcpy(db + m * B, dy + m * (A + B) + A, sizeof(Real) * B);
        }
    });
}

TINYDIFF_IN_BOTH(concat_forward)
TINYDIFF_IN_BOTH(concat_backward)

TINYDIFF_END
