// 3x3 convolutions with stride 1 by minimal filtering; the mathematics is in winograd.h.
//
// Three stages: input patches to points, one matrix product a point (tiles x channels in times channels in x
// channels out), points to output tiles. Where the filters in points are small, one task takes a few tiles through all
// stages, so that its points stay in its core's own cache. Where they are large, a task would read all of them for
// its few tiles; then each stage is spread over the threads for many tiles at once, and every filter is read once.
#include "winograd.h"

#include "conv2d.h"
#include "gemm.h"
#include "memory.h"
#include "parallel.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t OWN_FLOATS = 144 << 10;          // points of one task's tiles: about half a core's second-level cache
constexpr int64_t SHARED_FLOATS = 2 << 20;         // points of all tiles of one round
constexpr int64_t LARGE_FILTER_FLOATS = 640 << 10;  // filters in points beyond this are shared by all tiles of a round
constexpr int64_t OWN_SUMS = 160 << 10;            // partial weight gradients in points, of one slice of tiles
constexpr int64_t SLICES = 8;

// The tiles of all images, and where their points lie: point p of tile t of a block at p * point_stride + t * width.
template <int m>
struct Tiles {
    static constexpr int n = m + 2, points = n * n;
    int64_t rows, columns, count;

    Tiles(int64_t N, int64_t H_out, int64_t W_out)
        : rows(ceil_div(H_out, m)), columns(ceil_div(W_out, m)), count(N * rows * columns) {}
    int64_t image(int64_t tile) const { return tile / (rows * columns); }
    int64_t h(int64_t tile) const { return tile / columns % rows * m; }
    int64_t w(int64_t tile) const { return tile % columns * m; }
};

// Not a multiple of a page apart, or all points of a tile would share few cache sets.
int64_t point_stride(int64_t tiles, int64_t width) { return tiles * width + 16; }

// Read a square of pixels, zeros outside the image, and transform each channel of it.
template <int IN, int OUT, class Transform>
void patch_to_points(const float* image, int64_t H, int64_t W_image, int64_t C, int64_t h0, int64_t w0,
                     const Transform& transform, float* to, int64_t stride) {
    const bool inside = h0 >= 0 && w0 >= 0 && h0 + IN <= H && w0 + IN <= W_image;
    const float* corner = image + (h0 * W_image + w0) * C;
    const int64_t row = W_image * C;
    auto write = [&](int64_t c) {
        return [=](int i, int j, Vec v) { store(to + (i * OUT + j) * stride + c, v); };
    };
    int64_t c = 0;
    if (inside)
        for (; c + W <= C; c += W)
            along_both_axes<IN, OUT>(transform, [=](int i, int j) { return load(corner + i * row + j * C + c); }, write(c));
    for (; c < C; c += W) {
        auto read = [=](int i, int j) {
            const bool there = h0 + i >= 0 && h0 + i < H && w0 + j >= 0 && w0 + j < W_image;
            return there ? load_part(corner + i * row + j * C + c, C - c) : Vec{};
        };
        along_both_axes<IN, OUT>(transform, read, write(c));
    }
}

template <int m>
void input_to_points(const Tiles<m>& tiles, int64_t tile, const float* x, const Conv& conv, float* to, int64_t stride) {
    patch_to_points<m + 2, m + 2>(x + tiles.image(tile) * conv.H * conv.W * conv.C, conv.H, conv.W, conv.C,
                                  tiles.h(tile) - conv.before, tiles.w(tile) - conv.before,
                                  [](const auto& d, auto& t) { Winograd<m>::input(d, t); }, to, stride);
}

template <int m>
void upstream_to_points(const Tiles<m>& tiles, int64_t tile, const float* dy, const Conv& conv, float* to,
                        int64_t stride) {
    patch_to_points<m, m + 2>(dy + tiles.image(tile) * conv.H_out * conv.W_out * conv.O, conv.H_out, conv.W_out, conv.O,
                              tiles.h(tile), tiles.w(tile),
                              [](const auto& d, auto& t) { Winograd<m>::output_adjoint(d, t); }, to, stride);
}

template <int m>
void points_to_output(const Tiles<m>& tiles, int64_t tile, const float* from, int64_t stride, const Epilogue& epilogue,
                      const Conv& conv) {
    const int64_t h0 = tiles.h(tile), w0 = tiles.w(tile);
    const int64_t corner = (tiles.image(tile) * conv.H_out + h0) * conv.W_out + w0;
    Epilogue::Pixel pixels[m][m];
    bool there[m][m];
    for (int i = 0; i < m; ++i)
        for (int j = 0; j < m; ++j) {
            there[i][j] = h0 + i < conv.H_out && w0 + j < conv.W_out;
            if (there[i][j]) pixels[i][j] = epilogue.pixel(corner + i * conv.W_out + j);
        }
    for (int64_t o = 0; o < conv.O; o += W)
        along_both_axes<m + 2, m>([](const auto& t, auto& y) { Winograd<m>::output(t, y); },
                                  [&](int i, int j) { return load(from + (i * (m + 2) + j) * stride + o); },
                                  [&](int i, int j, Vec v) {
                                      if (there[i][j]) pixels[i][j].finish(o, v);
                                  });
}

// w (3,3,C,O) -> for every point panels over O of rows c
template <int m>
void filters_to_points(const float* w, int64_t C, int64_t O, const Panels& panels, float* to) {
    constexpr int n = m + 2;
    constexpr int64_t ROWS = 8;
    parallel_for(ceil_div(C, ROWS), [&](int64_t task) {
        for (int64_t panel = 0; panel < panels.count(); ++panel)
            for (int64_t c = task * ROWS; c < smaller(C, (task + 1) * ROWS); ++c)
                for (int j = 0; j < panels.vectors(panel); ++j) {
                    const int64_t o = panel * NR + j * W;
                    float* at = to + panels.start(panel) + c * NR + j * W;
                    along_both_axes<3, n>(
                        [](const auto& g, auto& u) { Winograd<m>::filter(g, u); },
                        [&](int r, int s) { return load_part(w + ((r * 3 + s) * C + c) * O + o, O - o); },
                        [&](int r, int s, Vec v) { store(at + (r * n + s) * panels.floats(), v); });
                }
    });
}

// One point's product for some tiles and one panel: to[tile] = from[tile] panel.
void multiply_panel(const float* from, int64_t tiles, int64_t C, int64_t width_in, const Panels& panels, int64_t panel,
                    const float* filters, float* to, int64_t width_out) {
    const RowGroups groups(tiles);
    for (int64_t g = 0; g < groups.count; ++g)
        multiply(groups.size(g), panels.vectors(panel), from + groups.start(g) * width_in, width_in, C,
                 filters + panels.start(panel), NR, to + groups.start(g) * width_out + panel * NR, width_out);
}

template <int m>
void correlate(const float* x, const float* w, const Epilogue& epilogue, const Conv& conv) {
    constexpr int points = Tiles<m>::points;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t width_in = round_up(conv.C, W), width_out = round_up(conv.O, W);
    const Panels panels{conv.C, conv.O};
    Scratch filters(points * panels.floats());
    filters_to_points<m>(w, conv.C, conv.O, panels, filters);

    const int64_t floats_a_tile = points * (width_in + width_out);
    if (points * panels.floats() <= LARGE_FILTER_FLOATS) {
        const int64_t fit = larger(MR, OWN_FLOATS / floats_a_tile / MR * MR);
        const int64_t spread = round_up(ceil_div(tiles.count, 8), MR);  // at least about eight tasks
        const int64_t at_once = smaller(fit, spread);
        parallel_for(ceil_div(tiles.count, at_once), [&](int64_t task) {
            const int64_t first = task * at_once, count = smaller(at_once, tiles.count - first);
            const int64_t stride_in = point_stride(count, width_in), stride_out = point_stride(count, width_out);
            Scratch in(points * stride_in), out(points * stride_out);
            for (int64_t t = 0; t < count; ++t) input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
            for (int p = 0; p < points; ++p)
                for (int64_t panel = 0; panel < panels.count(); ++panel)
                    multiply_panel(in + p * stride_in, count, conv.C, width_in, panels, panel,
                                   filters + p * panels.floats(), out + p * stride_out, width_out);
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * width_out, stride_out, epilogue, conv);
        });
        return;
    }
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / floats_a_tile / MR * MR));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, width_out);
    Scratch in(points * stride_in), out(points * stride_out);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        parallel_for(count, [&](int64_t t) { input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in); });
        parallel_for(points * panels.count(), [&](int64_t task) {
            const int64_t p = task / panels.count();
            multiply_panel(in + p * stride_in, count, conv.C, width_in, panels, task % panels.count(),
                           filters + p * panels.floats(), out + p * stride_out, width_out);
        });
        parallel_for(count, [&](int64_t t) {
            points_to_output(tiles, first + t, out + t * width_out, stride_out, epilogue, conv);
        });
    }
}

// One point's part of the weight gradient, for some rows of channels in: sum = or += in^T upstream.
void multiply_points(const float* in, int64_t width_in, const float* upstream, int64_t width_out, int64_t tiles,
                     const RowGroups& groups, int64_t first_group, int64_t last_group, float* sum, bool accumulate) {
    for (int64_t o = 0; o < width_out; o += NR)
        for (int64_t g = first_group; g < last_group; ++g) {
            const Run run{in + groups.start(g), upstream + o, tiles};
            multiply_transposed(groups.size(g), static_cast<int>(smaller(NV, (width_out - o) / W)), &run, 1, width_in,
                                width_out, sum + groups.start(g) * width_out + o, width_out, accumulate);
        }
}

template <int m>
void weight_gradient(const float* dy, const float* x, float* dw, const Conv& conv) {
    constexpr int n = m + 2, points = n * n;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, O = conv.O;
    const int64_t width_in = round_up(C, W), width_out = round_up(O, W);
    const int64_t size = C * width_out, floats_a_tile = points * (width_in + width_out);
    const RowGroups groups(C);
    const bool own = points * size <= OWN_SUMS;
    const int64_t slices = own ? smaller(SLICES, ceil_div(tiles.count, MR)) : 1;
    Scratch sums(slices * points * size);

    if (own) {
        const int64_t at_once = larger(MR, OWN_FLOATS / floats_a_tile);
        parallel_for(slices, [&](int64_t slice) {
            const int64_t begin = slice * tiles.count / slices, end = (slice + 1) * tiles.count / slices;
            const int64_t rounds = ceil_div(end - begin, at_once);
            const int64_t most = ceil_div(end - begin, rounds);
            const int64_t stride_in = point_stride(most, width_in), stride_out = point_stride(most, width_out);
            Scratch in(points * stride_in), upstream(points * stride_out);
            for (int64_t round = 0; round < rounds; ++round) {
                const int64_t first = begin + round * (end - begin) / rounds;
                const int64_t count = begin + (round + 1) * (end - begin) / rounds - first;
                for (int64_t t = 0; t < count; ++t) {
                    input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
                    upstream_to_points(tiles, first + t, dy, conv, upstream + t * width_out, stride_out);
                }
                for (int p = 0; p < points; ++p)
                    multiply_points(in + p * stride_in, width_in, upstream + p * stride_out, width_out, count, groups, 0,
                                    groups.count, sums + (slice * points + p) * size, round > 0);
            }
        });
    } else {
        const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / floats_a_tile));
        const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, width_out);
        Scratch in(points * stride_in), upstream(points * stride_out);
        constexpr int64_t GROUPS = 4;  // of rows a task
        const int64_t parts = ceil_div(groups.count, GROUPS);
        for (int64_t first = 0; first < tiles.count; first += at_once) {
            const int64_t count = smaller(at_once, tiles.count - first);
            parallel_for(count, [&](int64_t t) {
                input_to_points(tiles, first + t, x, conv, in + t * width_in, stride_in);
                upstream_to_points(tiles, first + t, dy, conv, upstream + t * width_out, stride_out);
            });
            parallel_for(points * parts, [&](int64_t task) {
                const int64_t p = task / parts, part = task % parts;
                multiply_points(in + p * stride_in, width_in, upstream + p * stride_out, width_out, count, groups,
                                part * GROUPS, smaller(groups.count, (part + 1) * GROUPS), sums + p * size, first > 0);
            });
        }
    }

    constexpr int64_t ROWS = 4;
    parallel_for(ceil_div(C, ROWS), [&](int64_t task) {
        for (int64_t c = task * ROWS; c < smaller(C, (task + 1) * ROWS); ++c)
            for (int64_t o = 0; o < O; o += W)
                along_both_axes<n, 3>(
                    [](const auto& du, auto& dg) { Winograd<m>::filter_adjoint(du, dg); },
                    [&](int i, int j) {
                        const float* at = sums + (i * n + j) * size + c * width_out + o;
                        Vec total = load(at);
                        for (int64_t slice = 1; slice < slices; ++slice) total += load(at + slice * points * size);
                        return total;
                    },
                    [&](int r, int s, Vec v) { store_part(dw + ((r * 3 + s) * C + c) * O + o, v, O - o); });
    });
}

// Multiply-adds a channel pair, of the products and, in the same unit, of making the filters' points.
template <int m>
int64_t cost(const Conv& conv, int64_t making_filters) {
    return Tiles<m>(conv.N, conv.H_out, conv.W_out).count * Tiles<m>::points + making_filters;
}

}  // namespace

int winograd_tile(const Conv& conv) {
    if (conv.R != 3 || conv.S != 3 || conv.stride != 1 || conv.before > 2) return 0;
    if (conv.version != Conv2dVersion::fastest)
        return conv.version == Conv2dVersion::winograd_4 ? 4 : conv.version == Conv2dVersion::winograd_2 ? 2 : 0;
    if (conv.C < 8 || conv.O < 8) return 0;  // then the transforms cost more than they save
    const int64_t direct = 9 * conv.N * conv.H_out * conv.W_out;
    const int64_t four = cost<4>(conv, 360), two = cost<2>(conv, 190);
    if (smaller(four, two) >= direct) return 0;
    return four <= two ? 4 : 2;
}

void winograd_correlate(int tile, const float* x, const float* w, const Epilogue& epilogue, const Conv& conv) {
    tile == 4 ? correlate<4>(x, w, epilogue, conv) : correlate<2>(x, w, epilogue, conv);
}

void winograd_weight_gradient(int tile, const float* dy, const float* x, float* dw, const Conv& conv) {
    tile == 4 ? weight_gradient<4>(dy, x, dw, conv) : weight_gradient<2>(dy, x, dw, conv);
}

TINYDIFF_END
