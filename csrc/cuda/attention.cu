// attention: softmax(q k^T / sqrt(D)) v. Derivation: tinydiff/ops/attention.py.
//
// v1_naive     one block a row of the L x M matrix (or a column, for dk and dv), which lives in shared memory, 4096
//              values at a time, and nowhere else: the backward makes it again from q, k and lse
// v2_one_pass  one block 16 tokens, past which the others come in tiles of 32: keys and values are read once for 16
//              queries, and shared memory holds one tile of the L x M matrix whatever L and M. The forward does not
//              know a row's maximum before it has seen all of it: it goes on with the largest so far and scales what
//              it has when a larger one comes (Milakov and Gimelshein, "Online normalizer calculation for softmax",
//              2018)
// v3_tensor_cores   in bfloat16 alone: as v2_one_pass, 64 tokens past tiles of 64, with both products of a tile on
//              tensor cores. A warp has 16 rows of the L x M matrix, or of its transpose, in registers and nowhere
//              else: what one product leaves in a lane is what the next one wants there (Dao, "FlashAttention-2", 2023)
//
// On paper, to be confirmed by measuring: of the reference U-Net at batch 128 (49 tokens, 4 heads of 64), q, k, v and y
// in bfloat16 are 12.8 MB, 2.7 us of an H200's 4.8 TB/s; v3's products, tiles filled up to 64 tokens, are 0.54 GFLOP, 1
// us. Its 512 blocks of 4 warps (127 registers, 24 KiB) are one wave of 4 a multiprocessor, so what it takes is the way
// of one block from its loads to its stores: about 5 us. The gradients (168 and 244 registers, 32 KiB) move twice as
// much and have 3 and 2 blocks a multiprocessor: about 10 us each.
#include "attention_rows.cuh"
#ifdef TINYDIFF_BF16
#include "attention_tiles.cuh"
#endif

// Block (l, a, n). Where M is larger than what waits, as in v2_one_pass; where D is larger than what is summed at once,
// the row is made again for the next values.
// launch: L A N blocks of whole warps, shared: min(M, 4096) floats and a float a warp
// writes: y (N, L, A, D) and lse (N, A, L), all of them. reproducible: yes.
extern "C" __global__ void attention_forward_v1_naive(const Real* q, const Real* k, const Real* v, Real* y, float* lse,
                                                      int L, int M, int A, int D, float scale, const int64* length,
                                                      int causal) {
    const Block block(L, A);
    const int l = block.t, a = block.a, n = block.n;
    Shared shared;
    float* p = shared.take<float>(min(M, WAITING));
    float* scratch = shared.take<float>(int(blockDim.x) / WARP);
    const int64 row = token(n, l, a, L, A, D);
    const int end = Visible(length, causal, n, M).by(l);

    for (int first = 0; first < D; first += Sums::at_once()) {
        Sums sums(first, D);
        float largest = -infinity(), total = 0;
        for (int m = 0; m < end; m += WAITING) {
            const int count = min(WAITING, end - m);
            const int64 keys = token(n, m, a, M, A, D), stride = int64(A) * D;
            float now = largest, added = 0;
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                p[i] = dot(q + row, k + keys + i * stride, D) * scale;
                now = fmaxf(now, p[i]);
            }
            now = block_max(now, scratch);
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                p[i] = expf(p[i] - now);
                added += p[i];
            }
            added = block_sum(added, scratch);  // its barriers also complete p
            const float rescale = expf(largest - now);
            largest = now;
            total = total * rescale + added;
            sums.each([&](float& sum, int) { sum *= rescale; });
            sums.add(p, count, v + keys, stride);
            __syncthreads();  // p has been used
        }
        sums.each([&](float& sum, int d) { y[row + d] = sum / total; });
        if (first == 0 && threadIdx.x == 0) lse[(int64(n) * A + a) * L + l] = largest + logf(total);
    }
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
// launch: L A N blocks, shared: min(M, 4096) floats
// writes: dq (N, L, A, D), all of it. reproducible: yes.
extern "C" __global__ void attention_query_gradient_v1_naive(const Real* dy, const Real* q, const Real* k,
                                                             const Real* v, const float* lse, const float* row_dot,
                                                             Real* dq, int L, int M, int A, int D, float scale,
                                                             const int64* length, int causal) {
    const Block block(L, A);
    const int l = block.t, a = block.a, n = block.n;
    float* ds = Shared().take<float>(min(M, WAITING));
    const int64 row = token(n, l, a, L, A, D), at = (int64(n) * A + a) * L + l;
    const int end = Visible(length, causal, n, M).by(l);
    for (int first = 0; first < D; first += Sums::at_once()) {
        Sums sums(first, D);
        for (int m = 0; m < end; m += WAITING) {
            const int count = min(WAITING, end - m);
            const int64 keys = token(n, m, a, M, A, D), stride = int64(A) * D;
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                const int64 key = keys + i * stride;
                const float p = expf(dot(q + row, k + key, D) * scale - lse[at]);
                ds[i] = p * (dot(dy + row, v + key, D) - row_dot[at]);
            }
            __syncthreads();
            sums.add(ds, count, k + keys, stride);
            __syncthreads();
        }
        sums.each([&](float& sum, int d) { dq[row + d] = sum * scale; });
    }
}

// Block (m, a, n): a column of p and of ds, then dv = p^T dy and dk = ds^T q scale.
// launch: M A N blocks, shared: 2 min(L, 4096) floats
// writes: dk and dv (N, M, A, D), all of them. reproducible: yes.
extern "C" __global__ void attention_key_gradient_v1_naive(const Real* dy, const Real* q, const Real* k, const Real* v,
                                                           const float* lse, const float* row_dot, Real* dk, Real* dv,
                                                           int L, int M, int A, int D, float scale, const int64* length,
                                                           int causal) {
    const Block block(M, A);
    const int m = block.t, a = block.a, n = block.n;
    Shared shared;
    float* p = shared.take<float>(min(L, WAITING));
    float* ds = shared.take<float>(min(L, WAITING));
    const int64 key = token(n, m, a, M, A, D);
    const Visible visible(length, causal, n, M);
    for (int first = 0; first < D; first += Sums::at_once()) {
        Sums of_k(first, D), of_v(first, D);
        for (int l = 0; l < L; l += WAITING) {
            const int count = min(WAITING, L - l);
            const int64 rows = token(n, l, a, L, A, D), stride = int64(A) * D, at = (int64(n) * A + a) * L + l;
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                const int64 row = rows + i * stride;
                p[i] = visible(l + i, m) ? expf(dot(q + row, k + key, D) * scale - lse[at + i]) : 0.0f;
                ds[i] = p[i] * (dot(dy + row, v + key, D) - row_dot[at + i]);
            }
            __syncthreads();
            of_k.add(ds, count, q + rows, stride);
            of_v.add(p, count, dy + rows, stride);
            __syncthreads();
        }
        of_k.each([&](float& sum, int d) { dk[key + d] = sum * scale; });
        of_v.each([&](float& sum, int d) { dv[key + d] = sum; });
    }
}

// Block (16 queries, a, n); keys and values pass.
// launch: ceil(L / 16) A N blocks of 128, shared: 2 x 16 D, 32 (D + 1), 32 D, 16 x 33 and 3 x 16 floats
// writes: y (N, L, A, D) and lse (N, A, L), all of them. reproducible: yes, keys in their order.
extern "C" __global__ void attention_forward_v2_one_pass(const Real* q, const Real* k, const Real* v, Real* y,
                                                         float* lse, int L, int M, int A, int D, float scale,
                                                         const int64* length, int causal) {
    const Block block(ceil_div(L, HERE), A);
    const int first = block.t * HERE, a = block.a, n = block.n;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    Shared shared;
    float* q_rows = shared.take<float>(HERE * D);
    float* sums = shared.take<float>(HERE * D);
    float* k_rows = shared.take<float>(PASSING * (D + 1));
    float* v_rows = shared.take<float>(PASSING * D);
    float* p = shared.take<float>(HERE * (PASSING + 1));
    float* largest = shared.take<float>(HERE);
    float* total = shared.take<float>(HERE);
    float* rescale = shared.take<float>(HERE);
    const Visible visible(length, causal, n, M);
    const int end = visible.by(first + HERE - 1);

    load_tokens(q, q_rows, HERE, D, first, n, a, L, A, D);
    for (int i = threadIdx.x; i < HERE * D; i += PASS_THREADS) sums[i] = 0;
    if (threadIdx.x < HERE) {
        largest[threadIdx.x] = -infinity();
        total[threadIdx.x] = 0;
    }
    for (int m = 0; m < end; m += PASSING) {
        __syncthreads();  // the tile before has been used
        load_tokens(k, k_rows, PASSING, D + 1, m, n, a, M, A, D);
        load_tokens(v, v_rows, PASSING, D, m, n, a, M, A, D);
        __syncthreads();
        // a warp does a row at a time, a lane one key of it
        for (int i = warp; i < HERE; i += PASS_THREADS / WARP) {
            const bool exists = visible(first + i, m + lane);  // the first key is, by all
            const float s = exists ? dot(q_rows + i * D, k_rows + lane * (D + 1), D) * scale : -infinity();
            const float before = largest[i], now = fmaxf(before, warp_max(s));
            const float e = exists ? expf(s - now) : 0.0f;
            const float added = warp_sum(e);
            p[i * (PASSING + 1) + lane] = e;
            __syncwarp();  // all have read largest[i]: of what is in memory the shuffles in between say nothing
            if (lane == 0) {
                largest[i] = now;
                rescale[i] = expf(before - now);
                total[i] = total[i] * rescale[i] + added;
            }
        }
        __syncthreads();
        for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
            const int i = at / D, d = at % D;
            float sum = sums[at] * rescale[i];
            for (int j = 0; j < PASSING; ++j) sum += p[i * (PASSING + 1) + j] * v_rows[j * D + d];
            sums[at] = sum;
        }
    }
    // each thread ends with the sums it made; the totals are from before the last barrier
    for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
        const int l = first + at / D;
        if (l < L) y[token(n, l, a, L, A, D) + at % D] = sums[at] / total[at / D];
    }
    const int l = first + int(threadIdx.x);
    if (threadIdx.x < HERE && l < L) lse[(int64(n) * A + a) * L + l] = largest[threadIdx.x] + logf(total[threadIdx.x]);
}

// Block (16 queries, a, n); keys and values pass.
// launch: ceil(L / 16) A N blocks of 128, shared: 3 x 16 D, 2 x 32 (D + 1) and 16 x 33 floats
// writes: dq (N, L, A, D), all of it. reproducible: yes, keys in their order.
extern "C" __global__ void attention_query_gradient_v2_one_pass(const Real* dy, const Real* q, const Real* k,
                                                                const Real* v, const float* lse, const float* row_dot,
                                                                Real* dq, int L, int M, int A, int D, float scale,
                                                                const int64* length, int causal) {
    const Block block(ceil_div(L, HERE), A);
    const int first = block.t * HERE, a = block.a, n = block.n;
    Shared shared;
    float* q_rows = shared.take<float>(HERE * D);
    float* dy_rows = shared.take<float>(HERE * D);
    float* sums = shared.take<float>(HERE * D);
    float* k_rows = shared.take<float>(PASSING * (D + 1));
    float* v_rows = shared.take<float>(PASSING * (D + 1));
    float* ds = shared.take<float>(HERE * (PASSING + 1));
    const int64 of_head = (int64(n) * A + a) * L;
    const Visible visible(length, causal, n, M);
    const int end = visible.by(first + HERE - 1);

    load_tokens(q, q_rows, HERE, D, first, n, a, L, A, D);
    load_tokens(dy, dy_rows, HERE, D, first, n, a, L, A, D);
    for (int i = threadIdx.x; i < HERE * D; i += PASS_THREADS) sums[i] = 0;
    for (int m = 0; m < end; m += PASSING) {
        __syncthreads();
        load_tokens(k, k_rows, PASSING, D + 1, m, n, a, M, A, D);
        load_tokens(v, v_rows, PASSING, D + 1, m, n, a, M, A, D);
        __syncthreads();
        for (int at = threadIdx.x; at < HERE * PASSING; at += PASS_THREADS) {
            const int i = at / PASSING, j = at % PASSING;
            ds[i * (PASSING + 1) + j] =
                softmax_again(q_rows + i * D, k_rows + j * (D + 1), dy_rows + i * D, v_rows + j * (D + 1),
                              lse + of_head, row_dot + of_head, first + i, m + j, L, visible, D, scale)
                    .ds;
        }
        __syncthreads();
        for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
            const int i = at / D, d = at % D;
            float sum = sums[at];
            for (int j = 0; j < PASSING; ++j) sum += ds[i * (PASSING + 1) + j] * k_rows[j * (D + 1) + d];
            sums[at] = sum;
        }
    }
    for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
        const int l = first + at / D;
        if (l < L) dq[token(n, l, a, L, A, D) + at % D] = sums[at] * scale;
    }
}

// Block (16 keys, a, n); queries and the gradients of their outputs pass.
// launch: ceil(M / 16) A N blocks of 128, shared: 4 x 16 D, 2 x 32 (D + 1) and 2 x 16 x 33 floats
// writes: dk and dv (N, M, A, D), all of them. reproducible: yes, queries in their order.
extern "C" __global__ void attention_key_gradient_v2_one_pass(const Real* dy, const Real* q, const Real* k,
                                                              const Real* v, const float* lse, const float* row_dot,
                                                              Real* dk, Real* dv, int L, int M, int A, int D,
                                                              float scale, const int64* length, int causal) {
    const Block block(ceil_div(M, HERE), A);
    const int first = block.t * HERE, a = block.a, n = block.n;
    Shared shared;
    float* k_rows = shared.take<float>(HERE * D);
    float* v_rows = shared.take<float>(HERE * D);
    float* dk_sums = shared.take<float>(HERE * D);
    float* dv_sums = shared.take<float>(HERE * D);
    float* q_rows = shared.take<float>(PASSING * (D + 1));
    float* dy_rows = shared.take<float>(PASSING * (D + 1));
    float* p = shared.take<float>(HERE * (PASSING + 1));
    float* ds = shared.take<float>(HERE * (PASSING + 1));
    const int64 of_head = (int64(n) * A + a) * L;
    const Visible visible(length, causal, n, M);

    load_tokens(k, k_rows, HERE, D, first, n, a, M, A, D);
    load_tokens(v, v_rows, HERE, D, first, n, a, M, A, D);
    for (int i = threadIdx.x; i < HERE * D; i += PASS_THREADS) dk_sums[i] = dv_sums[i] = 0;
    for (int l = 0; l < L; l += PASSING) {
        __syncthreads();
        load_tokens(q, q_rows, PASSING, D + 1, l, n, a, L, A, D);
        load_tokens(dy, dy_rows, PASSING, D + 1, l, n, a, L, A, D);
        __syncthreads();
        for (int at = threadIdx.x; at < HERE * PASSING; at += PASS_THREADS) {
            const int i = at / PASSING, j = at % PASSING, to = i * (PASSING + 1) + j;
            const Softmaxed both =
                softmax_again(q_rows + j * (D + 1), k_rows + i * D, dy_rows + j * (D + 1), v_rows + i * D,
                              lse + of_head, row_dot + of_head, l + j, first + i, L, visible, D, scale);
            p[to] = both.p;
            ds[to] = both.ds;
        }
        __syncthreads();
        for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
            const int i = at / D, d = at % D;
            float of_k = dk_sums[at], of_v = dv_sums[at];
            for (int j = 0; j < PASSING; ++j) {
                of_k += ds[i * (PASSING + 1) + j] * q_rows[j * (D + 1) + d];
                of_v += p[i * (PASSING + 1) + j] * dy_rows[j * (D + 1) + d];
            }
            dk_sums[at] = of_k;
            dv_sums[at] = of_v;
        }
    }
    for (int at = threadIdx.x; at < HERE * D; at += PASS_THREADS) {
        const int m = first + at / D;
        if (m >= M) continue;
        dk[token(n, m, a, M, A, D) + at % D] = dk_sums[at] * scale;
        dv[token(n, m, a, M, A, D) + at % D] = dv_sums[at];
    }
}

#ifdef TINYDIFF_BF16
// Block (64 queries, a, n), a warp 16 of them; keys and values pass.
template <int D_MAX>
__device__ inline void attend(const Real* q, const Real* k, const Real* v, Real* y, float* lse, int L, int M, int A,
                              int D, float scale, const int64* length, int causal) {
    const Block block(ceil_div(L, ROWS_HERE), A);
    const int first = block.t * ROWS_HERE, a = block.a, n = block.n;
    const Tokens of_q{q, n, a, L, A, D}, of_k{k, n, a, M, A, D}, of_v{v, n, a, M, A, D};
    Shared shared;
    Real* q_tile = shared.take<Real>(ROWS_HERE * D_MAX);
    Real* k_tile = shared.take<Real>(COLUMNS * D_MAX);
    Real* v_tile = shared.take<Real>(COLUMNS * D_MAX);
    const Rows16 rows;
    const Visible visible(length, causal, n, M);
    const int end = visible.by(first + ROWS_HERE - 1);
    const int last[2] = {visible.by(first + rows.first + rows.of(0)), visible.by(first + rows.first + rows.of(1))};
    float sums[D_MAX / 8][4] = {}, largest[2] = {-infinity(), -infinity()}, total[2] = {};

    bring_tokens<D_MAX>(of_q, first, q_tile);
    for (int m = 0; m < end; m += COLUMNS) {
        bring_tokens<D_MAX>(of_k, m, k_tile);
        bring_tokens<D_MAX>(of_v, m, v_tile);
        tiles_are_here();
        float s[SCORES][4] = {};
        add_scores<D_MAX>(q_tile, rows.first, k_tile, s);
        float now[2] = {largest[0], largest[1]};
        rows.each(s, [&](float& score, int row, int column) {
            score = m + column < last[row] ? score * scale : -infinity();
            now[row] = fmaxf(now[row], score);
        });
        float rescale[2], added[2] = {};
        for (int row = 0; row < 2; ++row) {
            now[row] = quad_max(now[row]);
            rescale[row] = expf(largest[row] - now[row]);
            largest[row] = now[row];
        }
        rows.each(s, [&](float& score, int row, int) {
            score = expf(score - now[row]);
            added[row] += score;
        });
        for (int row = 0; row < 2; ++row) total[row] = total[row] * rescale[row] + added[row];
        UNROLL
        for (int i = 0; i < D_MAX / 8; ++i)
            for (int j = 0; j < 4; ++j) sums[i][j] *= rescale[j / 2];
        add_product<D_MAX>(s, v_tile, sums);
        __syncthreads();  // the tiles have been used
    }
    const float all[2] = {quad_sum(total[0]), quad_sum(total[1])};
    rows.store<D_MAX>(y, Tokens{nullptr, n, a, L, A, D}, first, sums, 1 / all[0], 1 / all[1]);
    for (int row = 0; row < 2; ++row) {
        const int l = first + rows.first + rows.of(row);
        if (rows.lane % 4 == 0 && l < L) lse[(int64(n) * A + a) * L + l] = largest[row] + logf(all[row]);
    }
}

// Block (64 queries, a, n); keys and values pass.
template <int D_MAX>
__device__ inline void query_gradient(const Real* dy, const Real* q, const Real* k, const Real* v, const float* lse,
                                      const float* row_dot, Real* dq, int L, int M, int A, int D, float scale,
                                      const int64* length, int causal) {
    const Block block(ceil_div(L, ROWS_HERE), A);
    const int first = block.t * ROWS_HERE, a = block.a, n = block.n;
    const Tokens of_q{q, n, a, L, A, D}, of_dy{dy, n, a, L, A, D}, of_k{k, n, a, M, A, D}, of_v{v, n, a, M, A, D};
    Shared shared;
    Real* q_tile = shared.take<Real>(ROWS_HERE * D_MAX);
    Real* dy_tile = shared.take<Real>(ROWS_HERE * D_MAX);
    Real* k_tile = shared.take<Real>(COLUMNS * D_MAX);
    Real* v_tile = shared.take<Real>(COLUMNS * D_MAX);
    const Rows16 rows;
    const Visible visible(length, causal, n, M);
    const int end = visible.by(first + ROWS_HERE - 1);
    float sums[D_MAX / 8][4] = {}, of_row[2], dot_of_row[2] = {};
    int last[2];
    for (int row = 0; row < 2; ++row) {
        const int l = first + rows.first + rows.of(row);
        const int64 at = (int64(n) * A + a) * L + l;
        last[row] = visible.by(l);
        of_row[row] = infinity();  // of a query that does not exist, whose p is then 0
        if (l < L) of_row[row] = lse[at], dot_of_row[row] = row_dot[at];
    }

    bring_tokens<D_MAX>(of_q, first, q_tile);
    bring_tokens<D_MAX>(of_dy, first, dy_tile);
    for (int m = 0; m < end; m += COLUMNS) {
        bring_tokens<D_MAX>(of_k, m, k_tile);
        bring_tokens<D_MAX>(of_v, m, v_tile);
        tiles_are_here();
        float s[SCORES][4] = {}, dp[SCORES][4] = {};
        add_scores<D_MAX>(q_tile, rows.first, k_tile, s);
        add_scores<D_MAX>(dy_tile, rows.first, v_tile, dp);
        rows.each(s, dp, [&](float& score, float& d, int row, int column) {
            const float p = m + column < last[row] ? expf(score * scale - of_row[row]) : 0.0f;
            d = p * (d - dot_of_row[row]);  // ds
        });
        add_product<D_MAX>(dp, k_tile, sums);
        __syncthreads();
    }
    rows.store<D_MAX>(dq, of_q, first, sums, scale, scale);
}

// Block (64 keys, a, n); queries and the gradients of their outputs pass. The matrices are transposed: a row is a key.
template <int D_MAX>
__device__ inline void key_gradient(const Real* dy, const Real* q, const Real* k, const Real* v, const float* lse,
                                    const float* row_dot, Real* dk, Real* dv, int L, int M, int A, int D, float scale,
                                    const int64* length, int causal) {
    const Block block(ceil_div(M, ROWS_HERE), A);
    const int first = block.t * ROWS_HERE, a = block.a, n = block.n;
    const Tokens of_q{q, n, a, L, A, D}, of_dy{dy, n, a, L, A, D}, of_k{k, n, a, M, A, D}, of_v{v, n, a, M, A, D};
    Shared shared;
    Real* k_tile = shared.take<Real>(ROWS_HERE * D_MAX);
    Real* v_tile = shared.take<Real>(ROWS_HERE * D_MAX);
    Real* q_tile = shared.take<Real>(COLUMNS * D_MAX);
    Real* dy_tile = shared.take<Real>(COLUMNS * D_MAX);
    const Rows16 rows;
    const Visible visible(length, causal, n, M);
    int from[2];  // the first query that looks at the key of a row; L where none does
    for (int row = 0; row < 2; ++row) {
        const int m = first + rows.first + rows.of(row);
        from[row] = m >= visible.end ? L : visible.causal ? m : 0;
    }
    const int64 of_head = (int64(n) * A + a) * L;
    float dk_sums[D_MAX / 8][4] = {}, dv_sums[D_MAX / 8][4] = {};

    bring_tokens<D_MAX>(of_k, first, k_tile);
    bring_tokens<D_MAX>(of_v, first, v_tile);
    for (int l = 0; l < L; l += COLUMNS) {
        bring_tokens<D_MAX>(of_q, l, q_tile);
        bring_tokens<D_MAX>(of_dy, l, dy_tile);
        tiles_are_here();
        float s[SCORES][4] = {}, dp[SCORES][4] = {};
        add_scores<D_MAX>(k_tile, rows.first, q_tile, s);
        add_scores<D_MAX>(v_tile, rows.first, dy_tile, dp);
        rows.each(s, dp, [&](float& score, float& d, int row, int column) {
            const bool exists = l + column < L && l + column >= from[row];
            score = exists ? expf(score * scale - lse[of_head + l + column]) : 0.0f;  // p
            d = exists ? score * (d - row_dot[of_head + l + column]) : 0.0f;          // ds
        });
        add_product<D_MAX>(s, dy_tile, dv_sums);
        add_product<D_MAX>(dp, q_tile, dk_sums);
        __syncthreads();
    }
    rows.store<D_MAX>(dk, of_k, first, dk_sums, scale, scale);
    rows.store<D_MAX>(dv, of_v, first, dv_sums, 1, 1);
}

// Calls what is made for heads of at most so many values. For 128 a lane would hold more sums than it has registers.
#define FOR_HEADS_OF(D, function, ...) \
    if (D <= 32)                       \
        function<32>(__VA_ARGS__);     \
    else                               \
        function<64>(__VA_ARGS__);

// Block (64 queries, a, n), a warp 16 of them; keys and values pass in tiles of 64. D_MAX is D filled up to 32 or 64.
// launch: ceil(L / 64) A N blocks of 128, shared: 3 x 64 D_MAX bfloat16. needs: D <= 64
// writes: y (N, L, A, D) and lse (N, A, L), all of them. reproducible: yes, keys in their order.
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    attention_forward_v3_tensor_cores(const Real* q, const Real* k, const Real* v, Real* y, float* lse, int L, int M,
                                      int A, int D, float scale, const int64* length, int causal) {
    FOR_HEADS_OF(D, attend, q, k, v, y, lse, L, M, A, D, scale, length, causal)
}

// Block (64 queries, a, n); keys and values pass.
// launch: ceil(L / 64) A N blocks of 128, shared: 4 x 64 D_MAX bfloat16. needs: D <= 64
// writes: dq (N, L, A, D), all of it. reproducible: yes, keys in their order.
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    attention_query_gradient_v3_tensor_cores(const Real* dy, const Real* q, const Real* k, const Real* v,
                                             const float* lse, const float* row_dot, Real* dq, int L, int M, int A,
                                             int D, float scale, const int64* length, int causal) {
    FOR_HEADS_OF(D, query_gradient, dy, q, k, v, lse, row_dot, dq, L, M, A, D, scale, length, causal)
}

// Block (64 keys, a, n); queries and the gradients of their outputs pass.
// launch: ceil(M / 64) A N blocks of 128, shared: 4 x 64 D_MAX bfloat16. needs: D <= 64
// writes: dk and dv (N, M, A, D), all of them. reproducible: yes, queries in their order.
extern "C" __global__ void __launch_bounds__(HEAD_THREADS)
    attention_key_gradient_v3_tensor_cores(const Real* dy, const Real* q, const Real* k, const Real* v,
                                           const float* lse, const float* row_dot, Real* dk, Real* dv, int L, int M,
                                           int A, int D, float scale, const int64* length, int causal) {
    FOR_HEADS_OF(D, key_gradient, dy, q, k, v, lse, row_dot, dk, dv, L, M, A, D, scale, length, causal)
}
#endif
