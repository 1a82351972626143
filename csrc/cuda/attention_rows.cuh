// What attention without tensor cores is made of: rows of one head, as they lie in memory or in shared memory.
#pragma once

#include "common.cuh"

// Where token t of head a of sample n begins, in (N, T, A, D).
__device__ inline int64 token(int n, int t, int a, int T, int A, int D) { return ((int64(n) * T + t) * A + a) * D; }

// Of `count` tokens (or tiles of them) a head, which this block does: all blocks lie along x, where a grid has enough.
struct Block {
    int t, a, n;
    __device__ Block(int count, int A) : t(blockIdx.x % count), a(blockIdx.x / count % A), n(blockIdx.x / count / A) {}
};

// Which keys a query looks at: the first length[n] of the M, all where length is null; where it is causal
// none after its own place.
struct Visible {
    int end;
    bool causal;
    __device__ Visible(const int64* length, int is_causal, int n, int M)
        : end(length ? int(length[n]) : M), causal(is_causal != 0) {}
    __device__ bool operator()(int l, int m) const { return m < end && (!causal || m <= l); }
    // how many keys a query may look at, and so those before it
    __device__ int by(int l) const { return causal ? min(end, l + 1) : end; }
};

// Of two rows in memory, or in shared memory.
template <class T>
__device__ inline float dot(const T* u, const T* v, int D) {
    float sum = 0;
    for (int d = 0; d < D; ++d) sum += u[d] * v[d];
    return sum;
}

constexpr int WAITING = 4096;  // values of a row of the L x M matrix in shared memory at a time

// The values of a token's result, from the first on, that are summed at once: eight a thread, in its registers.
struct Sums {
    static constexpr int EACH = 8;
    int first, D;
    float v[EACH] = {};
    __device__ Sums(int begin, int width) : first(begin), D(width) {}

    // act(sum, d)
    template <class Act>
    __device__ void each(const Act& act) {
        UNROLL
        for (int i = 0; i < EACH; ++i) {
            const int d = first + i * int(blockDim.x) + int(threadIdx.x);
            if (d < D) act(v[i], d);
        }
    }
    // += p (count) times rows of x, each `stride` after the one before.
    __device__ void add(const float* p, int count, const Real* x, int64 stride) {
        each([&](float& sum, int d) {
            for (int i = 0; i < count; ++i) sum += p[i] * x[i * stride + d];
        });
    }
    __device__ static int at_once() { return EACH * int(blockDim.x); }
};

constexpr int HERE = 16;     // tokens that stay
constexpr int PASSING = 32;  // tokens of a tile that comes by: one a lane
constexpr int PASS_THREADS = 128;

// Tokens first .. first + count - 1 of one head, to rows of `pitch` floats; zeros beyond the last.
__device__ inline void load_tokens(const Real* x, float* rows, int count, int pitch, int first, int n, int a, int T,
                                   int A, int D) {
    for (int i = threadIdx.x; i < count * D; i += PASS_THREADS) {
        const int t = first + i / D;
        rows[i / D * pitch + i % D] = t < T ? float(x[token(n, t, a, T, A, D) + i % D]) : 0.0f;
    }
}

// p and ds of query l and key m, from their rows in shared memory; both 0 where either does not exist or is not looked
// at.
struct Softmaxed {
    float p, ds;
};

__device__ inline Softmaxed softmax_again(const float* q_row, const float* k_row, const float* dy_row,
                                          const float* v_row, const float* lse, const float* row_dot, int l, int m,
                                          int L, const Visible& visible, int D, float scale) {
    if (l >= L || !visible(l, m)) return {0, 0};
    const float p = expf(dot(q_row, k_row, D) * scale - lse[l]);
    return {p, p * (dot(dy_row, v_row, D) - row_dot[l])};
}
