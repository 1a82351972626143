// timestep_embedding: [sin, cos] of the step at geometrically spaced frequencies. See
// tinydiff/ops/timestep_embedding.py; in double precision until after the sine, as there.
#include <cmath>

#include "kernels.h"
#include "vector.h"

TINYDIFF_BEGIN

template <class Real>
void timestep_embedding_forward(const float* step, Real* y, int64_t N, int64_t half) {
    constexpr double MAX_PERIOD = 10000;
    for (int64_t k = 0; k < half; ++k) {
        const double frequency = std::pow(MAX_PERIOD, -static_cast<double>(k) / static_cast<double>(half));
        for (int64_t n = 0; n < N; ++n) {
            y[n * 2 * half + k] = rounded_to<Real>(static_cast<float>(std::sin(step[n] * frequency)));
            y[n * 2 * half + half + k] = rounded_to<Real>(static_cast<float>(std::cos(step[n] * frequency)));
        }
    }
}

TINYDIFF_IN_BOTH(timestep_embedding_forward)

TINYDIFF_END
