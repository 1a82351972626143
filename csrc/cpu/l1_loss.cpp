// l1_loss: the mean absolute error, each sample weighted. Derivation: tinydiff/ops/l1_loss.py.
#include "loss.h"

TINYDIFF_BEGIN
namespace {

struct Absolute {  // NaN stays NaN
    static Vec size(Vec error) { return error < 0.0f ? -error : error; }
    static float slope(float error) { return error > 0 ? 1.0f : error < 0 ? -1.0f : error; }
};

}  // namespace

void l1_loss_forward(const float* prediction, const float* target, const float* weight, float* loss, int64_t N,
                     int64_t M) {
    loss_forward<Absolute>(prediction, target, weight, loss, N, M);
}

// dtarget and dweight may be null.
void l1_loss_backward(float dloss, const float* prediction, const float* target, const float* weight,
                      float* dprediction, float* dtarget, float* dweight, int64_t N, int64_t M) {
    loss_backward<Absolute>(dloss, prediction, target, weight, dprediction, dtarget, dweight, N, M);
}

TINYDIFF_END
