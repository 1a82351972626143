// attention: y = softmax(q k^T / sqrt(D)) v. Derivation: tinydiff/ops/attention.py.
//
// A task is one head of one sample, its queries some rows at a time, at most ROWS and all about as many, so of the L x
// M matrix only those rows are ever in memory. Forward keeps the logarithm of each row's sum; backward recomputes the
// rows from it. Keys that are padding are left out; a row of a causal matrix is made whole and then ends with zeros.
#include <cmath>

#include "gemm.h"
#include "kernels.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t ROWS = 5 * MR;  // at most

// All panels of a head's keys or values, (M, D) with rows ``stride`` apart: as they are, or transposed to (D, M).
template <class Real>
void pack_all(const Real* rows, int64_t stride, int64_t M, const Panels& panels, Word<Real>* packed) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        pack(rows, stride, M, panels.O, panel, packed + panels.start(panel));
}

template <class Real>
void pack_all_transposed(const Real* rows, int64_t stride, int64_t D, const Panels& panels, Word<Real>* packed) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        pack_transposed(rows, stride, D, panels.O, panel, packed + panels.start(panel));
}

// y (rows, ldy) = a (rows, lda) times the packed matrix; y has room for whole vectors
template <class Word>
void product(const Word* a, int64_t lda, int64_t rows, const Panels& panels, const Word* packed, float* y,
             int64_t ldy) {
    for (int64_t panel = 0; panel < panels.count(); ++panel)
        multiply(rows, panels.vectors(panel), a, lda, panels.K, packed + panels.start(panel), NR, y + panel * NR, ldy);
}

// Rows of a head, with zeros up to ``width``.
template <class Real>
void copy_rows(const Real* from, int64_t stride, int64_t rows, int64_t D, Real* to, int64_t width) {
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t d = 0; d < width; d += W)
            store(to + i * width + d, d < D ? load_part(from + i * stride + d, D - d) : Vec{});
}

// Rows (rows, width) as the left operand of a product: what is float32 rounded, where words are pairs.
inline const float* rows_as_words(const float* from, int64_t, int64_t, float*) { return from; }
inline const Pair* rows_as_words(const float* from, int64_t rows, int64_t width, Pair* to) {
    bfloat16* numbers = reinterpret_cast<bfloat16*>(to);
    for (int64_t i = 0; i < rows * width; i += W) store(numbers + i, load(from + i));
    return to;
}

// Rows (rows, width) as an operand of a transposed product: words of neighbouring rows.
inline const float* pairs_of_rows(const float* from, int64_t, int64_t, float*) { return from; }
template <class Real>
const Pair* pairs_of_rows(const Real* from, int64_t rows, int64_t width, Pair* to) {
    for (int64_t i = 0; i < rows; i += 2)
        for (int64_t c = 0; c < width; c += W)
            store_words(to + i / 2 * width + c,
                        {load(from + i * width + c), i + 1 < rows ? load(from + (i + 1) * width + c) : Vec{}});
    return to;
}

// In a loop of its own: a product that is rounded here and not there would leave exp(row - lse) no 1 where one key has
// all the weight.
void multiply_row(float* row, int64_t count, float factor) {
    for (int64_t m = 0; m < count; m += W) store(row + m, factor * load(row + m));
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

// A vector of a row that ends after ``end`` values: zeros beyond.
Vec load_up_to(const float* row, int64_t m, int64_t end) { return m < end ? load_part(row + m, end - m) : Vec{}; }

}  // namespace

template <class Real>
void attention_forward(const Real* q, const Real* k, const Real* v, const int64_t* length, Real* y, float* lse,
                       const Attention& attention) {
    const int64_t L = attention.L, A = attention.A, D = attention.D, stride = A * D, width_D = round_up(D, W);
    const float scale = 1 / std::sqrt(static_cast<float>(D));
    const int64_t at_once = ceil_div(L, ceil_div(L, ROWS));
    const int64_t rounding = NUMBERS<Real> == 1 ? 0 : at_once;  // rows that wait for a product in another form
    parallel_for(attention.N * A, [&](int64_t head) {
        const int64_t n = head / A, a = head % A;
        const int64_t M = length ? length[n] : attention.M, width_M = round_up(M, W);
        const Panels keys{words<Real>(D), M}, values{words<Real>(M), D};
        const int64_t tokens = n * attention.M * stride + a * D;
        const Real *q_head = q + n * L * stride + a * D, *k_head = k + tokens, *v_head = v + tokens;
        Scratch<Word<Real>> packed_keys(keys.words()), packed_values(values.words()), p_words(rounding * width_M);
        Scratch<Real> q_rows(ROWS * width_D);
        Scratch p(ROWS * width_M), mixed(ROWS * width_D);
        pack_all_transposed<Real>(k_head, stride, D, keys, packed_keys);
        pack_all<Real>(v_head, stride, M, values, packed_values);

        for (int64_t first = 0; first < L; first += at_once) {
            const int64_t rows = smaller(at_once, L - first);
            copy_rows<Real>(q_head + first * stride, stride, rows, D, q_rows, width_D);
            product<Word<Real>>(as_words(q_rows), words<Real>(width_D), rows, keys, packed_keys, p, width_M);
            for (int64_t l = 0; l < rows; ++l) {
                float* row = p + l * width_M;
                const int64_t end = attention.causal ? smaller(M, first + l + 1) : M;
                multiply_row(row, M, scale);
                const float largest = maximum(row, end);
                Vec total{};
                for (int64_t m = 0; m < end; m += W) {
                    store(row + m, exp(load(row + m) - largest));
                    total += load_part(row + m, end - m);
                }
                const float sum_row = sum(total);
                for (int64_t m = 0; m < M; m += W) store(row + m, load_up_to(row, m, end) * (1 / sum_row));
                lse[head * L + first + l] = largest + static_cast<float>(std::log(static_cast<double>(sum_row)));
            }
            product<Word<Real>>(rows_as_words(p, rows, width_M, p_words), words<Real>(width_M), rows, values,
                                packed_values, mixed, width_D);
            Real* to = y + (n * L + first) * stride + a * D;
            for (int64_t l = 0; l < rows; ++l)
                for (int64_t d = 0; d < D; d += W)
                    store_part(to + l * stride + d, load(mixed + l * width_D + d), D - d);
        }
    });
}

template <class Real>
void attention_backward(const Real* dy, const Real* q, const Real* k, const Real* v, const Real* y, const float* lse,
                        const int64_t* length, Real* dq, Real* dk, Real* dv, const Attention& attention) {
    const int64_t L = attention.L, A = attention.A, D = attention.D, stride = A * D, width_D = round_up(D, W);
    const float scale = 1 / std::sqrt(static_cast<float>(D));
    const int64_t at_once = ceil_div(L, ceil_div(L, ROWS));
    const int64_t rounding = NUMBERS<Real> == 1 ? 0 : at_once;  // rows that wait for a product in another form
    parallel_for(attention.N * A, [&](int64_t head) {
        const int64_t n = head / A, a = head % A;
        const int64_t M = length ? length[n] : attention.M, width_M = round_up(M, W);
        const Panels transposed{words<Real>(D), M}, keys{words<Real>(M), D};
        const int64_t queries = n * L * stride + a * D, tokens = n * attention.M * stride + a * D;
        Scratch<Word<Real>> packed_k_transposed(transposed.words()), packed_v_transposed(transposed.words());
        Scratch<Word<Real>> packed_k(keys.words()), words_M(rounding * width_M), words_D(rounding * width_D);
        Scratch<Real> q_rows(ROWS * width_D), dy_rows(ROWS * width_D);
        Scratch p(ROWS * width_M), dp(ROWS * width_M), dq_rows(ROWS * width_D), sums(2 * M * width_D);
        float *dk_sum = sums, *dv_sum = sums + M * width_D;
        pack_all_transposed<Real>(k + tokens, stride, D, transposed, packed_k_transposed);
        pack_all_transposed<Real>(v + tokens, stride, D, transposed, packed_v_transposed);
        pack_all<Real>(k + tokens, stride, M, keys, packed_k);
        std::memset(sums, 0, sizeof(float) * 2 * M * width_D);
        // sum (M, width_D) += a (rows, M)^T b (rows, D)
        auto add_transposed_product = [&](const float* a_rows, const Real* b_rows, int64_t rows, float* sum) {
            multiply_transposed<Word<Real>>(M, width_D, pairs_of_rows(a_rows, rows, width_M, words_M), width_M,
                                            words<Real>(rows), pairs_of_rows(b_rows, rows, width_D, words_D), width_D,
                                            sum, width_D, true);
        };

        for (int64_t first = 0; first < L; first += at_once) {
            const int64_t rows = smaller(at_once, L - first), at = queries + first * stride;
            copy_rows<Real>(q + at, stride, rows, D, q_rows, width_D);
            copy_rows<Real>(dy + at, stride, rows, D, dy_rows, width_D);
            product<Word<Real>>(as_words(q_rows), words<Real>(width_D), rows, transposed, packed_k_transposed, p,
                                width_M);
            for (int64_t l = 0; l < rows; ++l) {
                float* row = p + l * width_M;
                const int64_t end = attention.causal ? smaller(M, first + l + 1) : M;
                multiply_row(row, M, scale);
                for (int64_t m = 0; m < M; m += W) {
                    store(row + m, exp(load(row + m) - lse[head * L + first + l]));
                    store(row + m, load_up_to(row, m, end));
                }
            }

            // y = p v, reversed
            add_transposed_product(p, dy_rows, rows, dv_sum);
            product<Word<Real>>(as_words(dy_rows), words<Real>(width_D), rows, transposed, packed_v_transposed, dp,
                                width_M);

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

            // s = q k^T scale, reversed; dk_sum waits for its factor
            add_transposed_product(dp, q_rows, rows, dk_sum);
            product<Word<Real>>(rows_as_words(dp, rows, width_M, words_M), words<Real>(width_M), rows, keys, packed_k,
                                dq_rows, width_D);
            for (int64_t l = 0; l < rows; ++l)
                for (int64_t d = 0; d < D; d += W)
                    store_part(dq + at + l * stride + d, scale * load(dq_rows + l * width_D + d), D - d);
        }
        for (int64_t m = 0; m < M; ++m)
            for (int64_t d = 0; d < D; d += W) {
                store_part(dk + tokens + m * stride + d, scale * load(dk_sum + m * width_D + d), D - d);
                store_part(dv + tokens + m * stride + d, load(dv_sum + m * width_D + d), D - d);
            }
        for (int64_t m = M; m < attention.M; ++m)
            for (int64_t d = 0; d < D; d += W) {
                store_part(dk + tokens + m * stride + d, Vec{}, D - d);
                store_part(dv + tokens + m * stride + d, Vec{}, D - d);
            }
    });
}

TINYDIFF_IN_BOTH(attention_forward)
TINYDIFF_IN_BOTH(attention_backward)

TINYDIFF_END
