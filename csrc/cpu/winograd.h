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
// A tile one output shorter needs one point less. So 7 outputs are cut into 4 + 3, with 6 + 5 points, not into 4 + 4;
// and it meets the same filters at the points it keeps, 0, +-a, b and infinity: G holds Lagrange's factors
// 1 / prod (p_i - p_j) of all points, and what they are too small by, p_i + b, goes into B^T.
//
// Source: Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016; Barabasz et al., "Error
// analysis and improving the accuracy of Winograd convolution for deep neural networks", 2020, on the points.
#pragma once

#include "vector.h"

TINYDIFF_BEGIN

// The one-dimensional transforms, on vectors of channels: of filters to the m + 2 points, and of tiles of ``size``
// outputs to those of the points that they have.
template <int m>
struct Filter;
template <int m, int size>
struct Tile;

template <>
struct Filter<2> {
    // u = G g
    static void points(const Vec (&g)[3], Vec (&u)[4]) {
        const Vec even = 0.5f * (g[0] + g[2]), odd = 0.5f * g[1];
        u[0] = g[0];
        u[1] = even + odd;
        u[2] = even - odd;
        u[3] = g[2];
    }
    // dg = G^T du
    static void adjoint(const Vec (&du)[4], Vec (&dg)[3]) {
        const Vec even = 0.5f * (du[1] + du[2]);
        dg[0] = du[0] + even;
        dg[1] = 0.5f * (du[1] - du[2]);
        dg[2] = even + du[3];
    }
};

template <>
struct Tile<2, 2> {
    static constexpr int size = 2, points[] = {0, 1, 2, 3};

    // t = B^T d
    static void input(const Vec (&d)[4], Vec (&t)[4]) {
        t[0] = d[0] - d[2];
        t[1] = d[1] + d[2];
        t[2] = d[2] - d[1];
        t[3] = d[3] - d[1];
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
};

struct Points4 {
    static constexpr float a = 0.70710678118654752f, b = 1.41421356237309505f;  // a^2 = 1/2, b^2 = 2, a b = 1
};

template <>
struct Filter<4> : Points4 {
    static void points(const Vec (&g)[3], Vec (&u)[6]) {
        const Vec even_a = (-2.0f / 3) * g[0] + (-1.0f / 3) * g[2], odd_a = (-2.0f / 3 * a) * g[1];
        const Vec even_b = (1.0f / 6) * g[0] + (1.0f / 3) * g[2], odd_b = (1.0f / 6 * b) * g[1];
        u[0] = g[0];
        u[1] = even_a + odd_a;
        u[2] = even_a - odd_a;
        u[3] = even_b + odd_b;
        u[4] = even_b - odd_b;
        u[5] = g[2];
    }
    static void adjoint(const Vec (&du)[6], Vec (&dg)[3]) {
        const Vec sum_a = (-2.0f / 3) * (du[1] + du[2]), difference_a = (-2.0f / 3 * a) * (du[1] - du[2]);
        const Vec sum_b = (1.0f / 6) * (du[3] + du[4]), difference_b = (1.0f / 6 * b) * (du[3] - du[4]);
        dg[0] = du[0] + (sum_a + sum_b);
        dg[1] = difference_a + difference_b;
        dg[2] = 0.5f * sum_a + 2.0f * sum_b + du[5];
    }
};

template <>
struct Tile<4, 4> : Points4 {
    static constexpr int size = 4, points[] = {0, 1, 2, 3, 4, 5};

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
};

// The points 0, a, -a, b and infinity: all but -b.
template <>
struct Tile<4, 3> : Points4 {
    static constexpr int size = 3, points[] = {0, 1, 2, 3, 5};

    static void input(const Vec (&d)[5], Vec (&t)[5]) {
        t[0] = (d[0] - 2.0f * d[2]) + (b * d[3] - a * d[1]);
        t[1] = (3 * a) * (d[3] - d[1]) - 1.5f * d[2];
        t[2] = a * (d[1] + d[3]) - 1.5f * d[2];
        t[3] = b * (2.0f * d[3] - d[1]);
        t[4] = (d[4] - 0.5f * d[2]) + (a * d[1] - b * d[3]);
    }
    static void output(const Vec (&t)[5], Vec (&y)[3]) {
        const Vec sum = t[1] + t[2], difference = t[1] - t[2];
        y[0] = (t[0] + t[3]) + sum;
        y[1] = a * difference + b * t[3];
        y[2] = 0.5f * sum + 2.0f * t[3] + t[4];
    }
    static void output_adjoint(const Vec (&dy)[3], Vec (&dt)[5]) {
        const Vec even = dy[0] + 0.5f * dy[2], odd = a * dy[1];
        dt[0] = dy[0];
        dt[1] = even + odd;
        dt[2] = even - odd;
        dt[3] = dy[0] + b * dy[1] + 2.0f * dy[2];
        dt[4] = dy[2];
    }
};

// Transform every row of a rectangle, then every column of the result: OUT_H x OUT_W from IN_H x IN_W.
// The transforms name their types: a type that a template works out for itself forgets that Vec is aligned to a float.
template <int IN_H, int IN_W, int OUT_H, int OUT_W, class Rows, class Columns, class Read, class Write>
inline void along_both_axes(const Rows& rows, const Columns& columns, const Read& read, const Write& write) {
    Vec half[IN_H][OUT_W];
#pragma GCC unroll 6
    for (int i = 0; i < IN_H; ++i) {
        Vec row[IN_W];
#pragma GCC unroll 6
        for (int j = 0; j < IN_W; ++j) row[j] = read(i, j);
        rows(row, half[i]);
    }
#pragma GCC unroll 6
    for (int j = 0; j < OUT_W; ++j) {
        Vec column[IN_H], result[OUT_H];
#pragma GCC unroll 6
        for (int i = 0; i < IN_H; ++i) column[i] = half[i][j];
        columns(column, result);
#pragma GCC unroll 6
        for (int i = 0; i < OUT_H; ++i) write(i, j, result[i]);
    }
}

TINYDIFF_END
