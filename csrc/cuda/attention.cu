// attention: softmax(q k^T / sqrt(D)) v. Derivation: tinydiff/ops/attention.py.
//
// v1_naive     one block a row of the L x M matrix (or a column, for dk and dv), which lives in shared memory and
//              nowhere else: the backward makes it again from q, k and lse
#include "common.cuh"

// Where token t of head a of sample n begins, in (N, T, A, D).
__device__ inline int64 token(int n, int t, int a, int T, int A, int D) { return ((int64(n) * T + t) * A + a) * D; }

__device__ inline float dot(const Real* u, const Real* v, int D) {
    float sum = 0;
    for (int d = 0; d < D; ++d) sum += u[d] * v[d];
    return sum;
}

// Block (l, a, n).
// launch: grid (L, A, N), block of whole warps, shared: M floats and a float a warp
// writes: y (N, L, A, D) and lse (N, A, L), all of them. reproducible: yes.
extern "C" __global__ void attention_forward_v1_naive(const Real* q, const Real* k, const Real* v, Real* y, float* lse,
                                                      int L, int M, int A, int D, float scale) {
    const int l = blockIdx.x, a = blockIdx.y, n = blockIdx.z;
    Shared shared;
    float* p = shared.take<float>(M);
    float* scratch = shared.take<float>(int(blockDim.x) / WARP);
    const int64 row = token(n, l, a, L, A, D);

    float largest = -infinity();
    for (int m = threadIdx.x; m < M; m += blockDim.x) {
        p[m] = dot(q + row, k + token(n, m, a, M, A, D), D) * scale;
        largest = fmaxf(largest, p[m]);
    }
    largest = block_max(largest, scratch);
    float total = 0;
    for (int m = threadIdx.x; m < M; m += blockDim.x) {
        p[m] = expf(p[m] - largest);
        total += p[m];
    }
    total = block_sum(total, scratch);  // its barriers also complete p
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0;
        for (int m = 0; m < M; ++m) sum += p[m] * v[token(n, m, a, M, A, D) + d];
        y[row + d] = sum / total;
    }
    if (threadIdx.x == 0) lse[(int64(n) * A + a) * L + l] = largest + logf(total);
}

// One thread does one row: row_dot = sum_d dy y.
// launch: threads >= N L A
// writes: row_dot (N, A, L), all of it. reproducible: yes.
extern "C" __global__ void attention_row_dot_v1_naive(const Real* dy, const Real* y, float* row_dot, int N, int L,
                                                      int A, int D) {
    const int64 i = global_thread();
    if (i >= int64(N) * A * L) return;
    const int l = int(i % L), a = int(i / L % A), n = int(i / L / A);
    const int64 row = token(n, l, a, L, A, D);
    row_dot[i] = dot(dy + row, y + row, D);
}

// Block (l, a, n): a row of ds, then dq = ds k scale.
// launch: grid (L, A, N), shared: M floats
// writes: dq (N, L, A, D), all of it. reproducible: yes.
extern "C" __global__ void attention_query_gradient_v1_naive(const Real* dy, const Real* q, const Real* k,
                                                             const Real* v, const float* lse, const float* row_dot,
                                                             Real* dq, int L, int M, int A, int D, float scale) {
    const int l = blockIdx.x, a = blockIdx.y, n = blockIdx.z;
    float* ds = Shared().take<float>(M);
    const int64 row = token(n, l, a, L, A, D), at = (int64(n) * A + a) * L + l;
    for (int m = threadIdx.x; m < M; m += blockDim.x) {
        const int64 key = token(n, m, a, M, A, D);
        const float p = expf(dot(q + row, k + key, D) * scale - lse[at]);
        ds[m] = p * (dot(dy + row, v + key, D) - row_dot[at]);
    }
    __syncthreads();
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float sum = 0;
        for (int m = 0; m < M; ++m) sum += ds[m] * k[token(n, m, a, M, A, D) + d];
        dq[row + d] = sum * scale;
    }
}

// Block (m, a, n): a column of p and of ds, then dv = p^T dy and dk = ds^T q scale.
// launch: grid (M, A, N), shared: 2 L floats
// writes: dk and dv (N, M, A, D), all of them. reproducible: yes.
extern "C" __global__ void attention_key_gradient_v1_naive(const Real* dy, const Real* q, const Real* k, const Real* v,
                                                           const float* lse, const float* row_dot, Real* dk, Real* dv,
                                                           int L, int M, int A, int D, float scale) {
    const int m = blockIdx.x, a = blockIdx.y, n = blockIdx.z;
    Shared shared;
    float* p = shared.take<float>(L);
    float* ds = shared.take<float>(L);
    const int64 key = token(n, m, a, M, A, D);
    for (int l = threadIdx.x; l < L; l += blockDim.x) {
        const int64 row = token(n, l, a, L, A, D), at = (int64(n) * A + a) * L + l;
        p[l] = expf(dot(q + row, k + key, D) * scale - lse[at]);
        ds[l] = p[l] * (dot(dy + row, v + key, D) - row_dot[at]);
    }
    __syncthreads();
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float of_k = 0, of_v = 0;
        for (int l = 0; l < L; ++l) {
            const int64 row = token(n, l, a, L, A, D) + d;
            of_k += ds[l] * q[row];
            of_v += p[l] * dy[row];
        }
        dk[key + d] = of_k * scale;
        dv[key + d] = of_v;
    }
}
