// Winograd's minimal filtering: an m x m tile of outputs of a 3x3 filter from (m + 2)^2 multiplications.
//
// A row of m outputs of a 3-tap filter is a polynomial product. Evaluated at m + 1 points and infinity, the product
// costs one multiplication a point; so with the matrices G (filter to points), B^T (input to points) and A^T
// (points to outputs), and in two dimensions each applied along rows and columns,
//
//     y = A^T [ (G g G^T) * (B^T d B) ] A            d the (m + 2)^2 patch under the tile, * elementwise
//
// and the sum over input channels makes each of the (m + 2)^2 elementwise products a matrix product over tiles.
// The multiplications per output fall from 9 to 4 with m = 2 and to 2.25 with m = 4. The weight gradient is the
// adjoint with respect to g, the sum over tiles making the matrix product:
//
//     dg = G^T [ (B^T d B) * (A dy A^T) ] G
//
// Points: 0, +-1, infinity for m = 2. For m = 4 it is 0, +-a, +-b, infinity with a = 1/sqrt(2), b = sqrt(2): of the
// sets tried (0 +-1 +-2, 0 +-1 +-1/2, 0 1 -1 2 -1/2, 0 +-3/4 +-3/2, 0 +-2/3 +-3/2, ...) it loses the fewest digits: the
// largest error is 2 to 8 times that of direct summation in float32, where 0 +-1 +-2 costs 8 to 32 times.
//
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et al., "Error
// analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020, on the points.
#pragma once

#include "vector.h"

TINYDIFF_BEGIN

// The one-dimensional transforms, on vectors of channels.
template <int m>
struct Winograd;

template <>
struct Winograd<2> {
    // t = B^T d
    static void input(const Vec (&d)[4], Vec (&t)[4]) {
        t[0] = d[0] - d[2];
        t[1] = d[1] + d[2];
        t[2] = d[2] - d[1];
        t[3] = d[3] - d[1];
    }
    // u = G g
    static void filter(const Vec (&g)[3], Vec (&u)[4]) {
        const Vec even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
        u[0] = g[0];
        u[1] = even + odd;
        u[2] = even - odd;
        u[3] = g[2];
    }
    // y = A^T t
    static void output(const Vec (&t)[4], Vec (&y)[2]) {
        y[0] = t[0] + (t[1] + t[2]);
        y[1] = (t[1] - t[2]) + t[3];
    }
    // dt = A dy
    static void output_adjoint(const Vec (&dy)[2], Vec (&dt)[4]) {
        dt[0] = dy[0];
        dt[1] = dy[0] + dy[1];
        dt[2] = dy[0] - dy[1];
        dt[3] = dy[1];
    }
    // dg = G^T du
    static void filter_adjoint(const Vec (&du)[4], Vec (&dg)[3]) {
        const Vec even = 0.5f * (du[1] + du[2]);
        dg[0] = du[0] + even;
        dg[1] = 0.5f * (du[1] - du[2]);
        dg[2] = even + du[3];
    }
};

template <>
struct Winograd<4> {
    static constexpr float a = 0.70710678118654752f, b = 1.41421356237309505f;  // a^2 = 1/2, b^2 = 2, a b = 1

    static void input(const Vec (&d)[6], Vec (&t)[6]) {
        const Vec even_a = d[4] - 2.0f * d[2], odd_a = d[3] - 2.0f * d[1];
        const Vec even_b = d[4] - 0.5f * d[2], odd_b = d[3] - 0.5f * d[1];
        t[0] = (d[0] + d[4]) - 2.5f * d[2];
        t[1] = even_a + a * odd_a;
        t[2] = even_a - a * odd_a;
        t[3] = even_b + b * odd_b;
        t[4] = even_b - b * odd_b;
        t[5] = (d[1] + d[5]) - 2.5f * d[3];
    }
    static void filter(const Vec (&g)[3], Vec (&u)[6]) {
        const Vec even_a = (-2.0f / 3) * g[0] + (-1.0f / 3) * g[2], odd_a = (-2.0f / 3 * a) * g[1];
        const Vec even_b = (1.0f / 6) * g[0] + (1.0f / 3) * g[2], odd_b = (1.0f / 6 * b) * g[1];
        u[0] = g[0];
        u[1] = even_a + odd_a;
        u[2] = even_a - odd_a;
        u[3] = even_b + odd_b;
        u[4] = even_b - odd_b;
        u[5] = g[2];
    }
    static void output(const Vec (&t)[6], Vec (&y)[4]) {
        const Vec sum_a = t[1] + t[2], difference_a = t[1] - t[2];
        const Vec sum_b = t[3] + t[4], difference_b = t[3] - t[4];
        y[0] = t[0] + (sum_a + sum_b);
        y[1] = a * difference_a + b * difference_b;
        y[2] = 0.5f * sum_a + 2.0f * sum_b;
        y[3] = (a / 2) * difference_a + (2 * b) * difference_b + t[5];
    }
    static void output_adjoint(const Vec (&dy)[4], Vec (&dt)[6]) {
        const Vec sum_a = dy[0] + 0.5f * dy[2], difference_a = a * dy[1] + (a / 2) * dy[3];
        const Vec sum_b = dy[0] + 2.0f * dy[2], difference_b = b * dy[1] + (2 * b) * dy[3];
        dt[0] = dy[0];
        dt[1] = sum_a + difference_a;
        dt[2] = sum_a - difference_a;
        dt[3] = sum_b + difference_b;
        dt[4] = sum_b - difference_b;
        dt[5] = dy[3];
    }
    static void filter_adjoint(const Vec (&du)[6], Vec (&dg)[3]) {
        const Vec sum_a = (-2.0f / 3) * (du[1] + du[2]), difference_a = (-2.0f / 3 * a) * (du[1] - du[2]);
        const Vec sum_b = (1.0f / 6) * (du[3] + du[4]), difference_b = (1.0f / 6 * b) * (du[3] - du[4]);
        dg[0] = du[0] + (sum_a + sum_b);
        dg[1] = difference_a + difference_b;
        dg[2] = 0.5f * sum_a + 2.0f * sum_b + du[5];
    }
};

// Apply a one-dimensional transform along both axes of a square: OUT x OUT from IN x IN.
template <int IN, int OUT, class Transform, class Read, class Write>
inline void along_both_axes(const Transform& transform, const Read& read, const Write& write) {
    Vec half[IN][OUT];
#pragma GCC unroll 6
    for (int i = 0; i < IN; ++i) {
        Vec row[IN];
#pragma GCC unroll 6
        for (int j = 0; j < IN; ++j) row[j] = read(i, j);
        transform(row, half[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < OUT; ++j) {
        Vec column[IN], result[OUT];
#pragma GCC unroll 6
        for (int i = 0; i < IN; ++i) column[i] = half[i][j];
        transform(column, result);
#pragma GCC unroll 6
        for (int i = 0; i < OUT; ++i) write(i, j, result[i]);
    }
}

TINYDIFF_END
