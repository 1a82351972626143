// What the two ways of convolving, directly (conv2d.cpp) and by Winograd (winograd.cpp), share.
#pragma once

#include "gemm.h"
#include "kernels.h"
#include "memory.h"

TINYDIFF_BEGIN

// Zeros for what lies outside an image.
template <class Real>
struct Zeros : Scratch<Real> {
    explicit Zeros(int64_t count) : Scratch<Real>(count) {
        std::memset(static_cast<Real*>(*this), 0, sizeof(Real) * count);
    }
};

// How an output is finished as it leaves the registers: y = result + b + add.
template <class Real>
struct Epilogue {
    Real* y;
    const float* b;   // or null
    const Real* add;  // or null
    Add kind;
    int64_t O, pixels_per_sample;

    // One output pixel's row.
    struct Pixel {
        Real* y;
        const float* b;
        const Real* add;
        int64_t O;
        bool add_moves;  // or is the same for all pixels of a sample
        // another pixel of the sample, so many values on
        Pixel moved(int64_t values) const { return {y + values, b, add_moves ? add + values : add, O, add_moves}; }
        void finish(int64_t o, Vec result) const {
            const int64_t n = O - o;
            if (n >= W) {
                if (b) result += load(b + o);
                if (add) result += load(add + o);
                return store(y + o, result);
            }
            if (b) result += load_part(b + o, n);
            if (add) result += load_part(add + o, n);
            store_part(y + o, result, n);
        }
    };
    Pixel pixel(int64_t index) const {
        const Real* row = nullptr;
        if (kind == Add::time_shift) row = add + index / pixels_per_sample * O;
        if (kind == Add::residual) row = add + index * O;
        return {y + index * O, b, row, O, kind == Add::residual};
    }
};

// The words that points are multiplied as: floats, or where activations are bfloat16 pairs of 16-bit integers, with the
// scales of filters' points, as many floats, behind them.
template <class Real>
using PointWord = std::conditional_t<std::is_same_v<Real, bfloat16>, Fixed, float>;

// The tile size, 4 or 2, with which Winograd computes this convolution fastest, or 0 if directly is faster.
template <class Real>
int winograd_tile(const Conv& conv);

// y = the correlation of x with w (3,3,C,O), stride 1, in tiles of ``tile``; ``points`` are those of the filters, made
// before by winograd_points, or null.
template <class Real>
void winograd_correlate(int tile, const Real* x, const Real* w, const PointWord<Real>* points,
                        const Epilogue<Real>& epilogue, const Conv& conv);
template <class Real>
void winograd_points(int tile, const Real* w, PointWord<Real>* points, const Conv& conv);

// How many words the points are, with their scales, or 0 where making them is less than a twentieth of the work.
template <class Real>
int64_t winograd_points_worth_keeping(int tile, const Conv& conv);

// dw (3,3,C,O) from x and dy.
template <class Real>
void winograd_weight_gradient(int tile, const Real* dy, const Real* x, float* dw, const Conv& conv);

TINYDIFF_END
