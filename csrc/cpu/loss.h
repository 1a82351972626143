// A loss that is the mean of something of each error, each sample weighted: mse_loss and l1_loss.
//
// What that is, a ``Loss`` says: ``size`` of a vector of errors, and its derivative, the ``slope`` at one error.
#pragma once

#include "kernels.h"
#include "memory.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN

// sums[n] = sum_m size(prediction - target)
template <class Loss>
void sums_of_errors(const float* prediction, const float* target, float* sums, int64_t N, int64_t M) {
    parallel_for(N, [&](int64_t n) {
        Vec total{};
        for (int64_t m = 0; m < M; m += W)
            total += Loss::size(load_part(prediction + n * M + m, M - m) - load_part(target + n * M + m, M - m));
        sums[n] = sum(total);
    });
}

template <class Loss>
void loss_forward(const float* prediction, const float* target, const float* weight, float* loss, int64_t N,
                  int64_t M) {
    Scratch sums(N);
    sums_of_errors<Loss>(prediction, target, sums, N, M);
    double total = 0;
    for (int64_t n = 0; n < N; ++n) total += static_cast<double>(sums[n]) * (weight ? weight[n] : 1.0f);
    *loss = static_cast<float>(total / (static_cast<double>(N) * static_cast<double>(M)));
}

// dtarget and dweight may be null.
template <class Loss>
void loss_backward(float dloss, const float* prediction, const float* target, const float* weight, float* dprediction,
                   float* dtarget, float* dweight, int64_t N, int64_t M) {
    const float mean = dloss / static_cast<float>(N * M);
    if (dweight) {
        sums_of_errors<Loss>(prediction, target, dweight, N, M);
        for (int64_t n = 0; n < N; ++n) dweight[n] *= mean;
    }
    parallel_for(N, [&](int64_t n) {
        const float factor = mean * (weight ? weight[n] : 1.0f);
        for (int64_t m = n * M; m < (n + 1) * M; ++m) dprediction[m] = factor * Loss::slope(prediction[m] - target[m]);
        if (dtarget)
            for (int64_t m = n * M; m < (n + 1) * M; ++m) dtarget[m] = -dprediction[m];
    });
}

TINYDIFF_END
