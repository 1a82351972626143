// adamw: clip, moments, step, decay and average in one pass over the flat buffers. See tinydiff/ops/adamw.py.
#include <cmath>

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 8192;

}  // namespace

// The factor of the gradients; NaN where their norm is.
void adamw_clip(const float* norm, float limit, float* clip) { *clip = limit / (*norm <= limit ? limit : *norm); }

// Reads grads, updates params, mean, mean_square and average (which may be null) in place; copy (which may be null)
// gets the decayed ones of params, rounded. A clip that is not positive changes nothing.
void adamw_forward(float* params, const float* grads, float* mean, float* mean_square, float* average, bfloat16* copy,
                   int64_t P, const AdamW& options) {
    if (!(options.clip > 0)) return;
    const float beta1 = static_cast<float>(options.beta1), new1 = static_cast<float>(1 - options.beta1);
    const float beta2 = static_cast<float>(options.beta2), new2 = static_cast<float>(1 - options.beta2);
    const float mean_factor = static_cast<float>(1 / (1 - std::pow(options.beta1, options.step_number)));
    const float square_factor = static_cast<float>(1 / (1 - std::pow(options.beta2, options.step_number)));
    const float eps = static_cast<float>(options.eps), clip = options.clip, learning_rate = options.learning_rate;
    const float towards = 1 - options.average_decay;

    parallel_for(ceil_div(P, CHUNK), [&](int64_t chunk) {
        const int64_t first = chunk * CHUNK, last = smaller(P, first + CHUNK);
        auto update = [&](int64_t from, int64_t to, float weight_decay) {
            for (int64_t i = from; i < to; ++i) {
                const float g = clip * grads[i];
                mean[i] = beta1 * mean[i] + new1 * g;
                mean_square[i] = beta2 * mean_square[i] + new2 * (g * g);
                const float step = mean[i] * mean_factor / (std::sqrt(mean_square[i] * square_factor) + eps);
                params[i] -= learning_rate * (step + weight_decay * params[i]);
            }
            if (average)
                for (int64_t i = from; i < to; ++i) average[i] += towards * (params[i] - average[i]);
        };
        const int64_t border = larger(first, smaller(options.decayed, last));
        update(first, border, static_cast<float>(options.weight_decay));
        update(border, last, 0.0f);
        if (copy)
            for (int64_t i = first; i < border; i += W)  // a run that goes on has the copy from NumPy
                store_as_numpy(copy + i, load_part(params + i, border - i), border - i);
    });
}

TINYDIFF_END
