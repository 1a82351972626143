// mse_loss: the mean squared error, each sample weighted. Derivation: tinydiff/ops/mse_loss.py.
#include "loss.h"

TINYDIFF_BEGIN
namespace {

struct Square {
    static Vec size(Vec error) { return error * error; }
    static float slope(float error) { return 2 * error; }
};

}  // namespace

void mse_loss_forward(const float* prediction, const float* target, const float* weight, float* loss, int64_t N,
                      int64_t M) {
    loss_forward<Square>(prediction, target, weight, loss, N, M);
}

// dtarget and dweight may be null.
void mse_loss_backward(float dloss, const float* prediction, const float* target, const float* weight,
                       float* dprediction, float* dtarget, float* dweight, int64_t N, int64_t M) {
    loss_backward<Square>(dloss, prediction, target, weight, dprediction, dtarget, dweight, N, M);
}

TINYDIFF_END
