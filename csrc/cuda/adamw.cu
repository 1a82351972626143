// adamw: clip, moments, step, decay, average and copy in one pass over the flat buffers. Contract:
// tinydiff/ops/adamw.py.
//
// v1_naive     one parameter a thread
// v2_vectors   four parameters in one access of 16 bytes, and blocks that go round: few of them work out what depends
//              on the step number. Bytes for each parameter: 20 read and 16 written with the average, 2 more with the
//              copy; a U-Net of 15.7 M parameters moves 0.57 GB, all of which memory must deliver
#include "ptx.cuh"

// What one step does to every parameter alike.
struct Step {
    float clip, learning_rate, weight_decay, eps;
    float beta1, new1, mean_factor;    // m = beta1 m + new1 g, mhat = m mean_factor
    float beta2, new2, square_factor;  // v = beta2 v + new2 g^2, vhat = v square_factor
    float towards;                     // how far the average goes
};

// Read from device memory what changes from step to step, so that a captured graph can be run again. The first thread
// works out for the block what depends on the step number, in double. A norm that is not finite gives a clip that is
// not positive.
__device__ inline Step read_step(const float* learning_rate, const int64* step_number, const float* norm,
                                 const float* average_decay, float limit, float weight_decay, double beta1,
                                 double beta2, float eps, float* factors) {
    if (threadIdx.x == 0) {
        factors[0] = float(1 / (1 - pow(beta1, double(*step_number))));
        factors[1] = float(1 / (1 - pow(beta2, double(*step_number))));
    }
    __syncthreads();
    const float clip = !norm || *norm <= limit ? 1.0f : limit / *norm;
    return {clip,
            *learning_rate,
            weight_decay,
            eps,
            float(beta1),
            float(1 - beta1),
            factors[0],
            float(beta2),
            float(1 - beta2),
            factors[1],
            average_decay ? 1 - *average_decay : 0.0f};
}

// One parameter p, its gradient, its moments and its average.
__device__ inline void update(const Step& step, bool decays, float& p, float g, float& m, float& v, float& a) {
    g *= step.clip;
    m = step.beta1 * m + step.new1 * g;
    v = step.beta2 * v + step.new2 * (g * g);
    const float towards = m * step.mean_factor / (sqrtf(v * step.square_factor) + step.eps);
    p -= step.learning_rate * (towards + (decays ? step.weight_decay : 0.0f) * p);
    a += step.towards * (p - a);
}

// One thread updates one parameter.
// launch: threads >= P, shared: 2 floats
// reads: grads, the one-element arrays (norm null: no clipping). updates: params, mean, mean_square, average (P,) and
// writes copy (decayed,), of which the last two may be null, unless the norm is not finite. reproducible: yes.
extern "C" __global__ void adamw_forward_v1_naive(float* params, const float* grads, float* mean, float* mean_square,
                                                  float* average, unsigned short* copy, const float* learning_rate,
                                                  const int64* step_number, const float* norm,
                                                  const float* average_decay, int64 P, int64 decayed, float limit,
                                                  float weight_decay, double beta1, double beta2, float eps) {
    const Step step = read_step(learning_rate, step_number, norm, average_decay, limit, weight_decay, beta1, beta2, eps,
                                Shared().take<float>(2));
    const int64 i = global_thread();
    if (i >= P || !(step.clip > 0)) return;
    float a = average ? average[i] : 0.0f;
    update(step, i < decayed, params[i], grads[i], mean[i], mean_square[i], a);
    if (average) average[i] = a;
    if (copy && i < decayed) copy[i] = static_cast<unsigned short>(pack_bf16(params[i], 0.0f));
}

// One thread updates four neighbours, then the four that lie one grid further on.
// launch: any number of blocks, shared: 2 floats
// reads, updates, reproducible: as above.
extern "C" __global__ void adamw_forward_v2_vectors(float* params, const float* grads, float* mean, float* mean_square,
                                                    float* average, unsigned short* copy, const float* learning_rate,
                                                    const int64* step_number, const float* norm,
                                                    const float* average_decay, int64 P, int64 decayed, float limit,
                                                    float weight_decay, double beta1, double beta2, float eps) {
    const Step step = read_step(learning_rate, step_number, norm, average_decay, limit, weight_decay, beta1, beta2, eps,
                                Shared().take<float>(2));
    if (!(step.clip > 0)) return;
    for (int64 i = 4 * global_thread(); i < P; i += 4 * int64(gridDim.x) * blockDim.x) {
        const int64 valid = P - i;
        float4 p = load4(params + i, valid), m = load4(mean + i, valid), v = load4(mean_square + i, valid);
        float4 a = average ? load4(average + i, valid) : make_float4(0, 0, 0, 0);
        const float4 g = load4(grads + i, valid);
        update(step, i < decayed, p.x, g.x, m.x, v.x, a.x);
        update(step, i + 1 < decayed, p.y, g.y, m.y, v.y, a.y);
        update(step, i + 2 < decayed, p.z, g.z, m.z, v.z, a.z);
        update(step, i + 3 < decayed, p.w, g.w, m.w, v.w, a.w);
        store4(params + i, p, valid);
        store4(mean + i, m, valid);
        store4(mean_square + i, v, valid);
        if (average) store4(average + i, a, valid);
        if (!copy || i >= decayed) continue;
        const uint2 rounded = make_uint2(pack_bf16(p.x, p.y), pack_bf16(p.z, p.w));
        if (i + 4 <= decayed && reinterpret_cast<unsigned long long>(copy + i) % 8 == 0) {
            *reinterpret_cast<uint2*>(copy + i) = rounded;
        } else {
            for (int j = 0; j < 4 && i + j < decayed; ++j)
                copy[i + j] = static_cast<unsigned short>((j < 2 ? rounded.x : rounded.y) >> (16 * (j % 2)));
        }
    }
}
