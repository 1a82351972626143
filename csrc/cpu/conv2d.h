// What the two ways of convolving, directly (conv2d.cpp) and by Winograd (winograd.cpp), share.
#pragma once

#include "kernels.h"
#include "vector.h"

TINYDIFF_BEGIN

// How an output is finished as it leaves the registers: y = result + b + add.
struct Epilogue {
    float* y;
    const float* b;    // or null
    const float* add;  // or null
    Add kind;
    int64_t O, pixels_per_sample;

    // One output pixel's row.
    struct Pixel {
        float* y;
        const float *b, *add;
        int64_t O;
        void finish(int64_t o, Vec result) const {
            const int64_t n = O - o;
            if (b) result += load_part(b + o, n);
            if (add) result += load_part(add + o, n);
            store_part(y + o, result, n);
        }
    };
    Pixel pixel(int64_t index) const {
        const float* row = nullptr;
        if (kind == Add::time_shift) row = add + index / pixels_per_sample * O;
        if (kind == Add::residual) row = add + index * O;
        return {y + index * O, b, row, O};
    }
};

// The tile size, 4 or 2, with which Winograd computes this convolution fastest, or 0 if directly is faster.
int winograd_tile(const Conv& conv);

// y = the correlation of x with w (3,3,C,O), stride 1, in tiles of ``tile``; ``points`` are those of the filters, made
// before by winograd_points, or null.
void winograd_correlate(int tile, const float* x, const float* w, const float* points, const Epilogue& epilogue,
                        const Conv& conv);
void winograd_points(int tile, const float* w, float* points, const Conv& conv);

// How many floats the points are, or 0 where making them is less than a twentieth of the work.
int64_t winograd_points_worth_keeping(int tile, const Conv& conv);

// dw (3,3,C,O) from x and dy.
void winograd_weight_gradient(int tile, const float* dy, const float* x, float* dw, const Conv& conv);

TINYDIFF_END
