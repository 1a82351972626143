// array: what models and samplers do with arrays besides ops. Each value of a result is one operation of IEEE's,
// rounded once, as NumPy's is: so a program has the bits of the Python that it was recorded from.
#include <cstring>

#include "kernels.h"
#include "parallel.h"
#include "vector.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t CHUNK = 16 << 10;  // values a task

template <class Body>
void for_each(int64_t count, const Body& body) {
    parallel_for(ceil_div(count, CHUNK), [&](int64_t chunk) {
        const int64_t last = smaller(count, (chunk + 1) * CHUNK);
        for (int64_t i = chunk * CHUNK; i < last; ++i) body(i);
    });
}

// body(i, n): n <= W values from i on
template <class Body>
void for_each_vector(int64_t count, const Body& body) {
    parallel_for(ceil_div(count, CHUNK), [&](int64_t chunk) {
        const int64_t last = smaller(count, (chunk + 1) * CHUNK);
        for (int64_t i = chunk * CHUNK; i < last; i += W) body(i, smaller(W, last - i));
    });
}

}  // namespace

template <class Real>
void array_add(const Real* a, const Real* b, Real* y, Shape count) {
    for_each_vector(count,
                    [=](int64_t i, int64_t n) { store_as_numpy(y + i, load_part(a + i, n) + load_part(b + i, n), n); });
}

void array_subtract(const float* a, const float* b, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = a[i] - b[i]; });
}

void array_add_number(const float* x, float number, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = x[i] + number; });
}

void array_multiply_number(const float* x, float number, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = x[i] * number; });
}

void array_divide_number(const float* x, float number, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = x[i] / number; });
}

// NaN stays NaN.
void array_clip(const float* x, float low, float high, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = x[i] < low ? low : x[i] > high ? high : x[i]; });
}

void array_fill(float value, float* y, Shape count) {
    for_each(count, [=](int64_t i) { y[i] = value; });
}

void array_fill_integers(int64_t value, int64_t* y, Shape count) {
    for (int64_t i = 0; i < count; ++i) y[i] = value;
}

void array_add_integer(const int64_t* x, int64_t number, int64_t* y, Shape count) {
    for (int64_t i = 0; i < count; ++i) y[i] = x[i] + number;
}

void array_cast(const int64_t* x, float* y, Shape count) {
    for (int64_t i = 0; i < count; ++i) y[i] = static_cast<float>(x[i]);
}

void array_round(const float* x, bfloat16* y, Shape count) {
    for_each_vector(count, [=](int64_t i, int64_t n) { store_as_numpy(y + i, load_part(x + i, n), n); });
}

void array_widen(const bfloat16* x, float* y, Shape count) {
    for_each_vector(count, [=](int64_t i, int64_t n) { store_part(y + i, load_part(x + i, n), n); });
}

// Rows of so many bytes, ``from`` bytes apart in x and ``to`` in y; the same row again and again where ``from`` is 0.
void array_copy(const uint8_t* x, uint8_t* y, Shape rows, Shape bytes, Shape from, Shape to) {
    const int64_t at_once = larger(1, 4 * CHUNK / bytes), whole = 4 * CHUNK;
    if (rows == 1) {
        parallel_for(ceil_div(bytes, whole), [=](int64_t task) {
            std::memcpy(y + task * whole, x + task * whole, smaller(whole, bytes - task * whole));
        });
        return;
    }
    parallel_for(ceil_div(rows, at_once), [=](int64_t task) {
        for (int64_t row = task * at_once; row < smaller(rows, (task + 1) * at_once); ++row)
            std::memcpy(y + row * to, x + row * from, bytes);
    });
}

// y[i] = table[index[i]], rows of so many bytes; index lies within the table.
void array_take(const uint8_t* table, const int64_t* index, uint8_t* y, Shape count, Shape bytes) {
    for (int64_t i = 0; i < count; ++i) std::memcpy(y + i * bytes, table + index[i] * bytes, bytes);
}

TINYDIFF_IN_BOTH(array_add)

TINYDIFF_END
