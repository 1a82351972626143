// mse_loss: the mean squared error, each sample weighted. Derivation: tinydiff/ops/mse_loss.py.
#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

// squares[n] = sum_m (prediction - target)^2
void sums_of_squares(const float* prediction, const float* target, float* squares, int64_t N, int64_t M) {
    parallel_for(N, [&](int64_t n) {
        Vec total{};
        for (int64_t m = 0; m < M; m += W) {
            const Vec error = load_part(prediction + n * M + m, M - m) - load_part(target + n * M + m, M - m);
            total += error * error;
        }
        squares[n] = sum(total);
    });
}

}  // namespace

void mse_loss_forward(const float* prediction, const float* target, const float* weight, float* loss, int64_t N,
                      int64_t M) {
    Scratch squares(N);
    sums_of_squares(prediction, target, squares, N, M);
    double total = 0;
    for (int64_t n = 0; n < N; ++n) total += static_cast<double>(squares[n]) * (weight ? weight[n] : 1.0f);
    *loss = static_cast<float>(total / (static_cast<double>(N) * static_cast<double>(M)));
}

// dtarget and dweight may be null.
void mse_loss_backward(float dloss, const float* prediction, const float* target, const float* weight,
                       float* dprediction, float* dtarget, float* dweight, int64_t N, int64_t M) {
    const float mean = dloss / static_cast<float>(N * M);
    if (dweight) {
        sums_of_squares(prediction, target, dweight, N, M);
        for (int64_t n = 0; n < N; ++n) dweight[n] *= mean;
    }
    parallel_for(N, [&](int64_t n) {
        const float factor = 2 * mean * (weight ? weight[n] : 1.0f);
        for (int64_t m = n * M; m < (n + 1) * M; ++m) dprediction[m] = factor * (prediction[m] - target[m]);
        if (dtarget)
            for (int64_t m = n * M; m < (n + 1) * M; ++m) dtarget[m] = -dprediction[m];
    });
}

TINYDIFF_END
