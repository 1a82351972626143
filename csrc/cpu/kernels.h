// The list of all kernels: what bindings.cpp calls and each instruction set provides.
//
// All arrays are dense, channels last. Outputs are written whole and never read, unless said otherwise. Pointers that
// may be null say so. Each op's file explains its own.
//
// The kernels of a model are there twice: ``Real``, in which activations, their gradients and the weights of linear and
// conv2d are stored, is float or bfloat16. Arithmetic is float32, and so is all else: biases, scales of norms,
// statistics, tables, gradients of parameters.
#pragma once

#include <cstdint>

namespace tinydiff {

// The upper half of a float32: its sign, its exponent, seven bits of its fraction.
struct bfloat16 {
    uint16_t bits;
};

// How to convolve: the fastest way for the shape, or one way wherever it is possible (else directly).
enum class Conv2dVersion { fastest, direct, winograd_2, winograd_4 };

// A convolution's geometry. Letters as in tinydiff/ops/conv2d.py; H_out = H', W_out = W'.
struct Conv {
    int64_t N, H, W, C;
    int64_t R, S, O;
    int64_t stride, before;  // padding above and to the left
    int64_t H_out, W_out;
    Conv2dVersion version = Conv2dVersion::fastest;
};

// What a convolution or a linear layer adds to its result.
enum class Add { none, time_shift, residual };  // nothing, (N,1,1,O), (N,H',W',O)

// What a GELU takes for the normal's distribution function; numbered as ``FORMS`` in tinydiff/ops/gelu.py.
enum class Gelu { exact, tanh, quick };

struct GroupNorm {
    int64_t N, HW, C, G;
    float eps;
    bool silu;
};

struct Attention {
    int64_t N, L, M, A, D;
    bool causal;
};

// How a training step draws its batch; the purposes are those of philox.
struct BatchOptions {
    int64_t images, batch, noise_steps, classes;
    int half;  // bits of half the number of an image
    float dropout;
    uint64_t seed;
    uint32_t order_purpose, step_purpose, drop_purpose;
};

// Which numbers philox draws, but for the block and the sample.
struct Drawn {
    uint64_t seed;
    uint32_t purpose, draw;
};

// Which images are mirrored along their width: half of them, as this purpose's uniform numbers of the places say. Of a
// width of 1, none.
struct Flip {
    int64_t width, channels;
    uint32_t purpose;
};

struct AdamW {
    float learning_rate, clip;
    double step_number;
    float average_decay;
    int64_t decayed;
    double weight_decay, beta1, beta2, eps;
};

using Shape = const int64_t;

#define TINYDIFF_MODEL_KERNELS(K)                                                                                      \
    K(linear_forward, (const Real* x, const Real* w, const float* b, Real* y, Shape M, Shape C, Shape O))              \
    K(linear_backward,                                                                                                 \
      (const Real* dy, const Real* x, const Real* w, Real* dx, float* dw, float* db, Shape M, Shape C, Shape O))       \
    K(conv2d_forward, (const Real* x, const Real* w, const Real* prepared, const float* b, const Real* add, Add kind,  \
                       Real* y, const Conv& conv))                                                                     \
    K(conv2d_prepare, (const Real* w, Real* prepared, const Conv& conv))                                               \
    K(conv2d_prepared_bytes, (int64_t* bytes, const Conv& conv))                                                       \
    K(conv2d_backward, (const Real* dy, const Real* x, const Real* w, Real* dx, float* dw, float* db,                  \
                        Real* dtime_shift, const Conv& conv))                                                          \
    K(group_norm_forward, (const Real* x, const float* gamma, const float* beta, const Real* scale, const Real* shift, \
                           Real* y, float* mean, float* rstd, const GroupNorm& norm))                                  \
    K(group_norm_backward, (const Real* dy, const Real* x, const float* gamma, const float* beta, const Real* scale,   \
                            const Real* shift, const float* mean, const float* rstd, const Real* add, Real* dx,        \
                            float* dgamma, float* dbeta, Real* dscale, Real* dshift, const GroupNorm& norm))           \
    K(layer_norm_forward, (const Real* x, const float* gamma, const float* beta, Real* y, float* mean, float* rstd,    \
                           Shape M, Shape C, float eps))                                                               \
    K(layer_norm_backward, (const Real* dy, const Real* x, const float* gamma, const float* mean, const float* rstd,   \
                            const Real* add, Real* dx, float* dgamma, float* dbeta, Shape M, Shape C))                 \
    K(silu_forward, (const Real* x, Real* y, Shape count))                                                             \
    K(silu_backward, (const Real* dy, const Real* x, Real* dx, Shape count))                                           \
    K(gelu_forward, (const Real* x, Real* y, Shape count, Gelu form))                                                  \
    K(gelu_backward, (const Real* dy, const Real* x, Real* dx, Shape count, Gelu form))                                \
    K(geglu_forward, (const Real* x, Real* y, Shape M, Shape C))                                                       \
    K(geglu_backward, (const Real* dy, const Real* x, Real* dx, Shape M, Shape C))                                     \
    K(dropout_forward, (const Real* x, const int64_t* slot, const Drawn& drawn, uint32_t threshold, float scale,       \
                        Real* y, Shape N, Shape M))                                                                    \
    K(attention_forward,                                                                                               \
      (const Real* q, const Real* k, const Real* v, const int64_t* length, Real* y, float* lse, const Attention& attention))                  \
    K(attention_backward, (const Real* dy, const Real* q, const Real* k, const Real* v, const Real* y,                 \
                           const float* lse, const int64_t* length, Real* dq, Real* dk, Real* dv, const Attention& attention))                \
    K(upsample2x_forward, (const Real* x, Real* y, Shape N, Shape H, Shape W, Shape C))                                \
    K(upsample2x_backward, (const Real* dy, Real* dx, Shape N, Shape H, Shape W, Shape C))                             \
    K(concat_forward, (const Real* a, const Real* b, Real* y, Shape pixels, Shape A, Shape B))                         \
    K(concat_backward, (const Real* dy, Real* da, Real* db, Shape pixels, Shape A, Shape B))                           \
    K(class_embedding_forward, (const float* table, const int64_t* labels, Real* y, Shape N, Shape E))                 \
    K(class_embedding_backward, (const Real* dy, const int64_t* labels, float* dtable, Shape N, Shape K, Shape E))     \
    K(timestep_embedding_forward, (const float* step, Real* y, Shape N, Shape half))                                   \
    K(array_add, (const Real* a, const Real* b, Real* y, Shape count))

#define TINYDIFF_KERNELS(K)                                                                                    \
    K(mse_loss_forward,                                                                                        \
      (const float* prediction, const float* target, const float* weight, float* loss, Shape N, Shape M))      \
    K(mse_loss_backward, (float dloss, const float* prediction, const float* target, const float* weight,      \
                          float* dprediction, float* dtarget, float* dweight, Shape N, Shape M))               \
    K(l1_loss_forward,                                                                                         \
      (const float* prediction, const float* target, const float* weight, float* loss, Shape N, Shape M))      \
    K(l1_loss_backward, (float dloss, const float* prediction, const float* target, const float* weight,       \
                         float* dprediction, float* dtarget, float* dweight, Shape N, Shape M))                \
    K(gaussian_sample_forward, (const float* moments, const float* eps, float* y, Shape P, Shape Z))           \
    K(gaussian_sample_backward, (const float* dy, const float* moments, const float* eps, float* dmoments,     \
                                 float* deps, Shape P, Shape Z))                                               \
    K(gaussian_kl_forward, (const float* moments, float* kl, Shape P, Shape Z))                                \
    K(gaussian_kl_backward, (float dkl, const float* moments, float* dmoments, Shape P, Shape Z))              \
    K(philox_bits,                                                                                             \
      (uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, uint32_t* y, Shape N, Shape M))  \
    K(philox_uniform,                                                                                          \
      (uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, float* y, Shape N, Shape M))     \
    K(philox_normal,                                                                                           \
      (uint64_t seed, uint32_t purpose, const int64_t* sample, uint32_t draw, float* y, Shape N, Shape M))     \
    K(draw_batch_forward, (const int64_t* labels, int64_t number, const BatchOptions& options, int64_t* index, \
                           int64_t* step, int64_t* labels_N))                                                  \
    K(corrupt_bytes,                                                                                           \
      (const uint8_t* images, const int64_t* index, const int64_t* step, const int64_t* slot,                  \
       const float* table, const Drawn& noise, const Flip& flip, float* x, float* target, float* weight,       \
       Shape N, Shape M))                                                                                      \
    K(corrupt_floats,                                                                                          \
      (const float* images, const int64_t* index, const int64_t* step, const int64_t* slot,                    \
       const float* table, const Drawn& noise, const Flip& flip, float* x, float* target, float* weight,       \
       Shape N, Shape M))                                                                                      \
    K(global_norm_forward, (const float* grads, float* norm, Shape P))                                         \
    K(adamw_clip, (const float* norm, float limit, float* clip))                                               \
    K(adamw_forward, (float* params, const float* grads, float* mean, float* mean_square, float* average,      \
                      bfloat16* copy, Shape P, const AdamW& options))                                          \
    K(array_subtract, (const float* a, const float* b, float* y, Shape count))                                 \
    K(array_add_number, (const float* x, float number, float* y, Shape count))                                 \
    K(array_multiply_number, (const float* x, float number, float* y, Shape count))                            \
    K(array_divide_number, (const float* x, float number, float* y, Shape count))                              \
    K(array_clip, (const float* x, float low, float high, float* y, Shape count))                              \
    K(array_fill, (float value, float* y, Shape count))                                                        \
    K(array_fill_integers, (int64_t value, int64_t* y, Shape count))                                           \
    K(array_add_integer, (const int64_t* x, int64_t number, int64_t* y, Shape count))                          \
    K(array_cast, (const int64_t* x, float* y, Shape count))                                                   \
    K(array_round, (const float* x, bfloat16* y, Shape count))                                                 \
    K(array_widen, (const bfloat16* x, float* y, Shape count))                                                 \
    K(array_copy, (const uint8_t* x, uint8_t* y, Shape rows, Shape bytes, Shape from, Shape to))               \
    K(array_take, (const uint8_t* table, const int64_t* index, uint8_t* y, Shape count, Shape bytes))

template <class Real>
struct ModelKernels {
#define K(name, arguments) void(*name) arguments;
    TINYDIFF_MODEL_KERNELS(K)
#undef K
};

struct Kernels {
    const char* instruction_set;
    ModelKernels<float> fp32;
#ifndef __wasm__  // in a browser no program has bfloat16
    ModelKernels<bfloat16> bf16;
#endif
#define K(name, arguments) void(*name) arguments;
    TINYDIFF_KERNELS(K)
#undef K
};

// Every instruction set that some machine may have.
#define TINYDIFF_INSTRUCTION_SETS(EACH) \
    EACH(baseline) EACH(avx2) EACH(avx512) EACH(avx512_bf16) EACH(amx) EACH(neon_bf16)

#define DECLARE(name, arguments) void name arguments;
#define DECLARE_IN_BOTH(name, arguments) \
    template <class Real>                \
    void name arguments;
#define DECLARE_KERNELS(set)                \
    namespace set {                         \
    TINYDIFF_KERNELS(DECLARE)               \
    TINYDIFF_MODEL_KERNELS(DECLARE_IN_BOTH) \
    extern const Kernels kernels;           \
    }
TINYDIFF_INSTRUCTION_SETS(DECLARE_KERNELS)
#undef DECLARE_KERNELS
#undef DECLARE_IN_BOTH
#undef DECLARE

// Makes both of a template above, at the end of the file that defines it.
#ifdef __wasm__
#define TINYDIFF_IN_BOTH(name) template decltype(name<float>) name<float>;
#else
#define TINYDIFF_IN_BOTH(name)                  \
    template decltype(name<float>) name<float>; \
    template decltype(name<bfloat16>) name<bfloat16>;
#endif

}  // namespace tinydiff
