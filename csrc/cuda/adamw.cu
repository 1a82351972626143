// adamw: clip, moments, step, decay and average in one pass over the flat buffers. Contract: tinydiff/ops/adamw.py.
//
// v1_naive     one parameter a thread
#include "common.cuh"

// One thread updates one parameter. What changes from step to step is read from device memory, so that a captured
// graph can be run again; its first thread works out for the block what depends on the step number, in double.
// launch: threads >= P, shared: 2 floats
// reads: grads, the one-element arrays. updates: params, mean, mean_square and average (null: none), unless clip is
// not positive. reproducible: yes.
extern "C" __global__ void adamw_forward_v1_naive(float* params, const float* grads, float* mean, float* mean_square,
                                                  float* average, const float* learning_rate, const int64* step_number,
                                                  const float* clip, const float* average_decay, int64 P, int64 decayed,
                                                  float weight_decay, double beta1, double beta2, float eps) {
    float* factors = Shared().take<float>(2);
    if (threadIdx.x == 0) {
        factors[0] = float(1 / (1 - pow(beta1, double(*step_number))));
        factors[1] = float(1 / (1 - pow(beta2, double(*step_number))));
    }
    __syncthreads();
    const int64 i = global_thread();
    if (i >= P || !(*clip > 0)) return;
    const float g = *clip * grads[i];
    const float m = float(beta1) * mean[i] + float(1 - beta1) * g;
    const float v = float(beta2) * mean_square[i] + float(1 - beta2) * (g * g);
    const float update = m * factors[0] / (sqrtf(v * factors[1]) + eps);
    const float p = params[i] - *learning_rate * (update + (i < decayed ? weight_decay : 0.0f) * params[i]);
    mean[i] = m;
    mean_square[i] = v;
    params[i] = p;
    if (average) average[i] += (1 - *average_decay) * (p - average[i]);
}
