// attention: y = softmax(q k^T / sqrt(D)) v. Derivation: tinydiff/ops/attention.py.
//
// A task is one head of one sample, its queries ROWS at a time, so of the L x M matrix only ROWS rows are ever in
// memory. Forward keeps the logarithm of each row's sum; backward recomputes the rows from it.
#include <cmath>

#include "gemm.h"
#include "kernels.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t ROWS = 4 * MR;

// All panels of a head's keys or values, (M, D) with rows ``stride`` apart: as they are, or transposed to (D, M).
void pack_all(const float* rows, int64_t stride, const Panels& panels, float* packed) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        pack(rows, stride, panels, panel, packed + panels.start(panel));
}

void pack_all_transposed(const float* rows, int64_t stride, const Panels& panels, float* packed) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        pack_transposed(rows, stride, panels.K, panels.O, panel, packed + panels.start(panel));
}

// y (rows, ldy) = a (rows, lda) times the packed matrix; y has room for whole vectors
void product(const float* a, int64_t lda, int64_t rows, const Panels& panels, const float* packed, float* y,
             int64_t ldy) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        multiply(rows, panels.vectors(panel), a, lda, panels.K, packed + panels.start(panel), NR, y + panel * NR, ldy);
}

// sum (K, ldb) += a^T b over ``rows`` rows, for K columns of a
void add_transposed_product(const float* a, int64_t lda, int64_t K, const float* b, int64_t ldb, int64_t rows,
                            float* sum) {
    const Run run{a, b, rows};
    multiply_transposed(K, ldb, &run, 1, lda, ldb, sum, ldb, true);
}

void copy_rows(const float* from, int64_t from_stride, int64_t rows, int64_t width, float factor, float* to,
               int64_t to_stride) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < width; d += W)
            store_part(to + i * to_stride + d, factor * load_part(from + i * from_stride + d, width - d),
                       to_stride - d);
}

float maximum(const float* row, int64_t count) {
    Vec lanes = splat(row[0]);
    int64_t m = 0;
    for (; m + W <= count; m += W) {
        const Vec v = load(row + m);
        lanes = v > lanes ? v : lanes;
    }
    float largest = lanes[0];
    for (int i = 1; i < W; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
    for (; m < count; ++m) largest = row[m] > largest ? row[m] : largest;
    return largest;
}

}  // namespace

void attention_forward(const float* q, const float* k, const float* v, float* y, float* lse,
                       const Attention& attention) {
    const int64_t L = attention.L, M = attention.M, A = attention.A, D = attention.D, stride = A * D;
    const float scale = 1 / std::sqrt(static_cast<float>(D));
    const Panels keys{D, M}, values{M, D};
    const int64_t width_M = round_up(M, W), width_D = round_up(D, W);
    parallel_for(attention.N * A, [&](int64_t head) {
        const int64_t n = head / A, a = head % A;
        const float *q_head = q + n * L * stride + a * D, *k_head = k + n * M * stride + a * D;
        const float* v_head = v + n * M * stride + a * D;
        Scratch packed_keys(keys.floats()), packed_values(values.floats());
        Scratch p(ROWS * width_M), q_rows(ROWS * width_D), mixed(ROWS * width_D);
        pack_all_transposed(k_head, stride, keys, packed_keys);
        pack_all(v_head, stride, values, packed_values);

        for (int64_t first = 0; first < L; first += ROWS) {
            const int64_t rows = smaller(ROWS, L - first);
            copy_rows(q_head + first * stride, stride, rows, D, scale, q_rows, width_D);  // as the backward does
            product(q_rows, width_D, rows, keys, packed_keys, p, width_M);
            for (int64_t l = 0; l < rows; ++l) {
                float* row = p + l * width_M;
                const float largest = maximum(row, M);
                Vec total{};
                for (int64_t m = 0; m < M; m += W) {
                    store(row + m, exp(load(row + m) - largest));
                    total += load_part(row + m, M - m);
                }
                const float sum_row = sum(total);
                for (int64_t m = 0; m < M; m += W) store(row + m, load(row + m) * (1 / sum_row));
                lse[head * L + first + l] = largest + static_cast<float>(std::log(static_cast<double>(sum_row)));
            }
            product(p, width_M, rows, values, packed_values, mixed, width_D);
            float* to = y + (n * L + first) * stride + a * D;
            for (int64_t l = 0; l < rows; ++l)
                for (int64_t d = 0; d < D; d += W)
                    store_part(to + l * stride + d, load(mixed + l * width_D + d), D - d);
        }
    });
}

void attention_backward(const float* dy, const float* q, const float* k, const float* v, const float* y,
                        const float* lse, float* dq, float* dk, float* dv, const Attention& attention) {
    const int64_t L = attention.L, M = attention.M, A = attention.A, D = attention.D, stride = A * D;
    const float scale = 1 / std::sqrt(static_cast<float>(D));
    const Panels keys_transposed{D, M}, values_transposed{D, M}, keys{M, D};
    const int64_t width_M = round_up(M, W), width_D = round_up(D, W);
    parallel_for(attention.N * A, [&](int64_t head) {
        const int64_t n = head / A, a = head % A;
        const int64_t queries = n * L * stride + a * D, tokens = n * M * stride + a * D;
        Scratch packed_k_transposed(keys_transposed.floats()), packed_v_transposed(values_transposed.floats());
        Scratch packed_k(keys.floats());
        Scratch p(ROWS * width_M), dp(ROWS * width_M), rows_D(2 * ROWS * width_D), sums(2 * M * width_D);
        float *q_rows = rows_D, *dy_rows = rows_D + ROWS * width_D;
        float *dk_sum = sums, *dv_sum = sums + M * width_D;
        pack_all_transposed(k + tokens, stride, keys_transposed, packed_k_transposed);
        pack_all_transposed(v + tokens, stride, values_transposed, packed_v_transposed);
        pack_all(k + tokens, stride, keys, packed_k);
        std::memset(sums, 0, sizeof(float) * 2 * M * width_D);

        for (int64_t first = 0; first < L; first += ROWS) {
            const int64_t rows = smaller(ROWS, L - first), at = queries + first * stride;
            copy_rows(q + at, stride, rows, D, scale, q_rows, width_D);
            copy_rows(dy + at, stride, rows, D, 1, dy_rows, width_D);
            product(q_rows, width_D, rows, keys_transposed, packed_k_transposed, p, width_M);
            for (int64_t l = 0; l < rows; ++l)
                for (int64_t m = 0; m < M; m += W)
                    store(p + l * width_M + m, exp(load(p + l * width_M + m) - lse[head * L + first + l]));

            // y = p v, reversed
            add_transposed_product(p, width_M, M, dy_rows, width_D, rows, dv_sum);
            product(dy_rows, width_D, rows, values_transposed, packed_v_transposed, dp, width_M);

            // p = softmax(s), reversed
            for (int64_t l = 0; l < rows; ++l) {
                Vec dots{};
                for (int64_t d = 0; d < D; d += W)
                    dots += load_part(dy + at + l * stride + d, D - d) * load_part(y + at + l * stride + d, D - d);
                const float row_dot = sum(dots);
                for (int64_t m = 0; m < M; m += W) {
                    float* ds = dp + l * width_M + m;
                    store(ds, load(p + l * width_M + m) * (load(ds) - row_dot));
                }
            }

            // s = q k^T scale, reversed; q_rows holds q scale
            add_transposed_product(dp, width_M, M, q_rows, width_D, rows, dk_sum);
            product(dp, width_M, rows, keys, packed_k, dy_rows, width_D);
            for (int64_t l = 0; l < rows; ++l)
                for (int64_t d = 0; d < D; d += W)
                    store_part(dq + at + l * stride + d, scale * load(dy_rows + l * width_D + d), D - d);
        }
        for (int64_t m = 0; m < M; ++m)
            for (int64_t d = 0; d < D; d += W) {
                store_part(dk + tokens + m * stride + d, load(dk_sum + m * width_D + d), D - d);
                store_part(dv + tokens + m * stride + d, load(dv_sum + m * width_D + d), D - d);
            }
    });
}

TINYDIFF_END
