// 3x3 convolutions with stride 1 by minimal filtering; the mathematics is in winograd.h.
//
// Three stages: input patches to points, one matrix product a point (tiles x channels in times channels in x
// channels out), points to output tiles. Everything is arranged so that points live in a core's own cache:
//
//     small filters   a task takes a few tiles through all stages, with the filters' points made beforehand
//     large filters   the points of many tiles are made first, by all threads; then a task takes one panel of output
//                     channels through the other two, making the filters' points a row of points at a time, just
//                     before they are used: their 36 values for every 9 weights are never in memory together
//
// Where activations are bfloat16, points are integers (fixed_point.h): a tile's channels are a row, and so are those of
// a filter for one output. winograd_gradient.cpp has the gradient with respect to filters. Tried without gain on 2
// cores: a third to three halves as many tiles at once, and one to two and a half times as large rounds, all within 5
// %. Points prepared before, where the same filters come again, take a fifth off one evaluation of the small network at
// batch 1 (6.2 to 5.1 ms on one thread, AMD EPYC with AVX-512, 2026-11) for 29 MB.
#include "memory.h"
#include "parallel.h"
#include "winograd_tiles.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SMALL_FILTERS = 640 << 10;  // floats of a small filter's points,
constexpr int64_t FEW_TILES = 64;             // too few for every task to meet all filters

template <class Real>
constexpr bool FIXED = std::is_same_v<PointWord<Real>, Fixed>;

// What points of tiles are stored as.
template <class Real>
using PointNumber = std::conditional_t<FIXED<Real>, int16_t, float>;

// The points of so many tiles: channel c of point p of tile t at numbers[p * stride + t * width + c], of integers the
// scale at scales[p * count + t].
template <int m, class Real>
struct TilePoints {
    static constexpr int n = m + 2, points = n * n;
    const Tiles<m>& tiles;
    const Real *x, *zeros;
    const Conv& conv;
    int64_t count, width, stride;
    Scratch<PointNumber<Real>> numbers;
    Scratch<float> scales;

    TilePoints(const Tiles<m>& tiles, const Real* x, const Real* zeros, const Conv& conv, int64_t count)
        : tiles(tiles),
          x(x),
          zeros(zeros),
          conv(conv),
          count(count),
          width(round_up(conv.C, W)),
          stride(point_stride(count, width)),
          numbers(points * stride),
          scales(FIXED<Real> ? points * count : 0) {}

    // Make those of the tiles begin .. end - 1, of which ``first`` of all is number 0 here.
    void make(int64_t first, int64_t begin, int64_t end) const {
        Scratch floats(FIXED<Real> ? points * width : 0);  // of one tile
        for (int64_t t = begin; t < end; ++t) make_one(t, first + t, floats);
    }

    void make_one(int64_t t, int64_t tile, float* floats) const {
        const auto place = tiles.place(tile);
        const auto patch = input_patch<m>(place, x, zeros, conv);
        PointNumber<Real>* to = numbers + t * width;
        if constexpr (!FIXED<Real>) {
            tile_to_points<m, Input>(place, patch, conv.C,
                                     [&](int p, int64_t c, Vec v) { store(to + p * stride + c, v); });
        } else {
            tile_to_points<m, Input>(place, patch, conv.C,
                                     [&](int p, int64_t c, Vec v) { store(floats + p * width + c, v); });
            // one row of numbers a point
            constexpr int all = round_up(points, W);
            Vec squares[all];
            float there[all], back[all];
            const int64_t width = this->width, stride = this->stride, count = this->count;
            float* scale = scales + t;
            with_shape<m>(place, [&](auto rows, auto columns) {
                using Rows = decltype(rows);
                using Columns = decltype(columns);
                auto each_point = [&](const auto& body) {
                    for (int i : Rows::points)
                        for (int j : Columns::points) body(i * n + j);
                };
                constexpr bool has_all = Rows::size == m && Columns::size == m;
                for (int p = has_all ? points : 0; p < all; ++p) squares[p] = Vec{};
                each_point([&](int p) {
                    const float* row = floats + p * width;
                    Vec sum{};
                    for (int64_t c = 0; c < width; c += W) sum += load(row + c) * load(row + c);
                    squares[p] = sum;
                });
                for (int p = 0; p < all; p += W) {
                    const Scales made(sums_of_lanes(squares + p));
                    store(there + p, made.there);
                    store(back + p, made.back);
                }
                each_point([&](int p) {
                    const float* row = floats + p * width;
                    int16_t* integers = to + p * stride;
                    const Vec factor = splat(there[p]);
                    for (int64_t c = 0; c < width; c += W) store_short(integers + c, nearest(load(row + c), factor));
                    scale[p * count] = back[p];
                });
            });
        }
    }

    // c = point p of some tiles times that of a panel of filters, with their scales if there are any.
    void multiply_by(int p, const Part& part, int vectors, const PointWord<Real>* filters, const float* filter_scales,
                     float* c, int64_t ldc) const {
        const PointNumber<Real>* first = numbers + p * stride + part.skip * width;
        const auto* rows = reinterpret_cast<const PointWord<Real>*>(first);
        const int64_t K = words<Real>(conv.C), lda = words<Real>(width);
        if constexpr (FIXED<Real>)
            multiply_fixed(part.number, vectors, rows, lda, scales + p * count + part.skip, K, filters, NR,
                           filter_scales, c, ldc);
        else
            multiply(part.number, vectors, rows, lda, K, filters, NR, c, ldc);
    }
};

// Channels first .. last - 1 of a tile of outputs; ``from`` points to the first of them.
template <int m, class Real>
void points_to_output(const Tiles<m>& tiles, int64_t tile, const float* from, int64_t stride, int64_t first,
                      int64_t last, const Epilogue<Real>& epilogue, const Conv& conv) {
    const auto place = tiles.place(tile);
    const auto corner = epilogue.pixel((place.image * conv.H_out + place.h) * conv.W_out + place.w);
    const int64_t high = conv.H_out - place.h, wide = conv.W_out - place.w;
    with_shape<m>(place, [&](auto rows, auto columns) {
        using Rows = decltype(rows);
        using Columns = decltype(columns);
        for (int64_t o = first; o < last; o += W)
            along_both_axes<Rows::size + 2, Columns::size + 2, Rows::size, Columns::size>(
                [](const Vec(&in)[Columns::size + 2], Vec(&out)[Columns::size]) { Columns::output(in, out); },
                [](const Vec(&in)[Rows::size + 2], Vec(&out)[Rows::size]) { Rows::output(in, out); },
                [&](int i, int j) {
                    return load(from + (Rows::points[i] * (m + 2) + Columns::points[j]) * stride + o - first);
                },
                [&](int i, int j, Vec v) {
                    if (i < high && j < wide) corner.moved((i * conv.W_out + j) * conv.O).finish(o, v);
                });
    });
}

// The words first .. last - 1 of so many points of a vector of filters, with all of them their scales; points lie
// ``stride`` apart, their scales ``scale_stride``. points_of(c, write) makes those of channel c, of C: write(p, v).
template <int points, class Real, class PointsOf>
void write_points(int64_t C, int64_t first, int64_t last, const PointsOf& points_of, PointWord<Real>* to,
                  int64_t stride, float* scales, int64_t scale_stride) {
    if constexpr (!FIXED<Real>) {
        for (int64_t k = first; k < last; ++k) points_of(k, [&](int p, Vec v) { store(to + p * stride + k * NR, v); });
    } else {
        Vec squares[points] = {}, there[points];
        for (int64_t c = 0; c < C; ++c) points_of(c, [&](int p, Vec v) { squares[p] += v * v; });
        for (int p = 0; p < points; ++p) {
            const Scales made(squares[p]);
            there[p] = made.there;
            store(scales + p * scale_stride, made.back);
        }
        for (int64_t k = 0; k < words<Real>(C); ++k) {
            IntVec low[points], high[points] = {};
            points_of(2 * k, [&](int p, Vec v) { low[p] = nearest(v, there[p]); });
            if (2 * k + 1 < C) points_of(2 * k + 1, [&](int p, Vec v) { high[p] = nearest(v, there[p]); });
            for (int p = 0; p < points; ++p) store_pairs(to + p * stride + k * NR, low[p], high[p]);
        }
    }
}

// Filters too large to be points all at once go in two halves: first one panel of w (3,3,C,O) along its columns, into
// half (m + 2, C, 3, NR), ...
template <int m, class Real>
void filters_to_rows(const Real* w, int64_t C, const Panels& panels, int64_t panel, float* half) {
    const int64_t O = panels.O;
    for (int64_t c = 0; c < C; ++c)
        for (int s = 0; s < 3; ++s)
            for (int j = 0; j < panels.vectors(panel); ++j) {
                const int64_t o = panel * NR + j * W;
                Vec g[3], u[m + 2];
                for (int r = 0; r < 3; ++r) g[r] = load_part(w + ((r * 3 + s) * C + c) * O + o, O - o);
                Filter<m>::points(g, u);
                for (int i = 0; i < m + 2; ++i) store(half + ((i * C + c) * 3 + s) * NR + j * W, u[i]);
            }
}

// ... then along one row, (C, 3, NR), for the m + 2 points in it.
template <int m, class Real>
void row_to_points(const float* row, int64_t C, const Panels& panels, int64_t panel, PointWord<Real>* to,
                   int64_t stride, float* scales) {
    for (int j = 0; j < panels.vectors(panel); ++j) {
        auto points_of = [&](int64_t c, const auto& write) {
            Vec g[3], u[m + 2];
            for (int s = 0; s < 3; ++s) g[s] = load(row + (c * 3 + s) * NR + j * W);
            Filter<m>::points(g, u);
            for (int i = 0; i < m + 2; ++i) write(i, u[i]);
        };
        write_points<m + 2, Real>(C, 0, panels.K, points_of, to + j * W, stride, scales + j * W, NR);
    }
}

// Whether all of the filters' points are made at once: for many tiles, or one panel.
template <int m>
bool are_small(const Panels& panels, const Tiles<m>& tiles) {
    return tiles.points * panels.words() <= SMALL_FILTERS && (tiles.count > FEW_TILES || panels.count() == 1);
}

// All points of filters: of small ones each point's panels together, of large ones each panel's points.
template <int m, class Real>
struct FilterPoints {
    static constexpr int n = m + 2, points = n * n;
    Panels panels;
    bool small;
    PointWord<Real>* all;

    int64_t number(int p, int64_t panel) const { return small ? p * panels.count() + panel : panel * points + p; }
    PointWord<Real>* at(int p, int64_t panel) const { return all + number(p, panel) * panels.K * NR; }
    float* scales(int p, int64_t panel) const {
        return reinterpret_cast<float*>(all + points * panels.words()) + number(p, panel) * NR;
    }
    static int64_t size(const Panels& panels) {
        return points * (panels.words() + (FIXED<Real> ? panels.count() * NR : 0));
    }

    void make(const Real* w, int64_t C) const { small ? make_small(w, C) : make_large(w, C); }

 private:
    void make_small(const Real* w, int64_t C) const {
        constexpr int64_t ROWS = 16;
        const int64_t O = panels.O, parts = FIXED<Real> ? 1 : ceil_div(panels.K, ROWS);
        auto transform = [](const Vec(&g)[3], Vec(&u)[n]) { Filter<m>::points(g, u); };
        parallel_for(ceil_div(O, W) * parts, [&](int64_t task) {
            const int64_t o = task / parts * W, panel = o / NR, first = task % parts * ROWS;
            auto points_of = [&](int64_t c, const auto& write) {
                along_both_axes<3, 3, n, n>(
                    transform, transform,
                    [&](int r, int s) { return load_part(w + ((r * 3 + s) * C + c) * O + o, O - o); },
                    [&](int i, int l, Vec v) { write(i * n + l, v); });
            };
            write_points<points, Real>(C, first, smaller(panels.K, first + ROWS), points_of, at(0, panel) + o % NR,
                                       panels.words(), scales(0, panel) + o % NR, panels.count() * NR);
        });
    }

    void make_large(const Real* w, int64_t C) const {
        parallel_for(panels.count(), [&](int64_t panel) {
            Scratch half(n * 3 * C * NR);
            filters_to_rows<m>(w, C, panels, panel, half);
            for (int row = 0; row < n; ++row)
                row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel, at(row * n, panel), panels.K * NR,
                                       scales(row * n, panel));
        });
    }
};

template <int m, class Real>
void correlate(const Real* x, const Real* w, const PointWord<Real>* prepared, const Epilogue<Real>& epilogue,
               const Conv& conv) {
    constexpr int n = m + 2, points = n * n;
    const Tiles<m> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, width_in = round_up(C, W), width_out = round_up(conv.O, W);
    const int64_t words_in = words<Real>(width_in);
    const Panels panels{words<Real>(C), conv.O};
    const Zeros<Real> zeros(C);
    const bool small = are_small(panels, tiles);
    Scratch<PointWord<Real>> made(small && !prepared ? FilterPoints<m, Real>::size(panels) : 0);
    const FilterPoints<m, Real> filters{panels, small, prepared ? const_cast<PointWord<Real>*>(prepared) : made};
    if (small) {
        if (!prepared) filters.make(w, C);
        const int64_t floats_a_tile = points * (words_in + width_out);
        const int64_t fit = larger(MR, OWN_FLOATS / floats_a_tile / MR * MR);
        const int64_t spread = round_up(ceil_div(tiles.count, 8), MR);  // at least about eight tasks
        const int64_t tasks = round_up(ceil_div(tiles.count, smaller(fit, spread)), threads());
        const int64_t at_once = ceil_div(tiles.count, tasks);
        parallel_for(ceil_div(tiles.count, at_once), [&](int64_t task) {
            const int64_t first = task * at_once, count = smaller(at_once, tiles.count - first);
            const int64_t stride_out = point_stride(count, width_out);
            const TilePoints<m, Real> in(tiles, x, zeros, conv, count);
            Scratch out(points * stride_out);
            in.make(first, 0, count);
            for (int p = 0; p < points; ++p) {
                const Part part = tiles.with_point(p, first, count);
                for (int64_t panel = 0; panel < panels.count(); ++panel)
                    in.multiply_by(p, part, panels.vectors(panel), filters.at(p, panel), filters.scales(p, panel),
                                   out + p * stride_out + part.skip * width_out + panel * NR, width_out);
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * width_out, stride_out, 0, conv.O, epilogue, conv);
        });
        return;
    }
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / (points * words_in) / MR * MR));
    const int64_t stride_out = point_stride(at_once, NR);
    const TilePoints<m, Real> in(tiles, x, zeros, conv, at_once);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        constexpr int64_t TILES = 4;  // of a task
        parallel_for(ceil_div(count, TILES),
                     [&](int64_t task) { in.make(first, task * TILES, smaller(count, (task + 1) * TILES)); });
        parallel_for(panels.count(), [&](int64_t panel) {
            const int64_t stride = point_stride(panels.K, NR);
            Scratch half(prepared ? 0 : n * 3 * C * NR);
            Scratch<PointWord<Real>> own(prepared ? 0 : n * stride);
            float own_scales[n * NR];
            Scratch out(points * stride_out);
            if (!prepared) filters_to_rows<m>(w, C, panels, panel, half);
            for (int row = 0; row < n; ++row) {
                if (!prepared)
                    row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel, own, stride, own_scales);
                for (int p = row * n, j = 0; j < n; ++p, ++j) {
                    const Part part = tiles.with_point(p, first, count);
                    in.multiply_by(p, part, panels.vectors(panel), prepared ? filters.at(p, panel) : own + j * stride,
                                   prepared ? filters.scales(p, panel) : own_scales + j * NR,
                                   out + p * stride_out + part.skip * NR, NR);
                }
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * NR, stride_out, panel * NR,
                                 panel * NR + panels.width(panel), epilogue, conv);
        });
    }
}

template <int m, class Real>
void all_points(const Real* w, PointWord<Real>* points, const Conv& conv) {
    const Panels panels{words<Real>(conv.C), conv.O};
    const bool small = are_small(panels, Tiles<m>(conv.N, conv.H_out, conv.W_out));
    FilterPoints<m, Real>{panels, small, points}.make(w, conv.C);
}

// Multiply-adds a channel pair, of the products and, in the same unit, of making the filters' points.
template <int m, class Real>
struct Cost {
    static constexpr int64_t making = m == 4 ? 360 : FIXED<Real> ? 250 : 190;
    int64_t products;

    explicit Cost(const Conv& conv) : products(conv.N * Axis<m>(conv.H_out).points() * Axis<m>(conv.W_out).points()) {}
    int64_t all() const { return products + making; }
    bool is_mostly_products() const { return 20 * making < all(); }
};

}  // namespace

template <class Real>
int winograd_tile(const Conv& conv) {
    if (conv.R != 3 || conv.S != 3 || conv.stride != 1 || conv.before > 2) return 0;
    if (conv.version != Conv2dVersion::fastest)
        return conv.version == Conv2dVersion::winograd_4 ? 4 : conv.version == Conv2dVersion::winograd_2 ? 2 : 0;
    if (conv.C < 8 || conv.O < 8) return 0;  // then the transforms cost more than they save
    const int64_t direct = 9 * conv.N * conv.H_out * conv.W_out;
    const int64_t four = Cost<4, Real>(conv).all(), two = Cost<2, Real>(conv).all();
    const int tile = four <= two ? 4 : 2;
    // where both take as long, as for one image of 7x7, tiles: they gain from filters prepared before
    return 20 * (tile == 4 ? four : two) > 21 * direct ? 0 : tile;
}

template <class Real>
void winograd_correlate(int tile, const Real* x, const Real* w, const PointWord<Real>* points,
                        const Epilogue<Real>& epilogue, const Conv& conv) {
    tile == 4 ? correlate<4>(x, w, points, epilogue, conv) : correlate<2>(x, w, points, epilogue, conv);
}

template <class Real>
void winograd_points(int tile, const Real* w, PointWord<Real>* points, const Conv& conv) {
    tile == 4 ? all_points<4>(w, points, conv) : all_points<2>(w, points, conv);
}

template <class Real>
int64_t winograd_points_worth_keeping(int tile, const Conv& conv) {
    if (tile == 4 ? Cost<4, Real>(conv).is_mostly_products() : Cost<2, Real>(conv).is_mostly_products()) return 0;
    const Panels panels{words<Real>(conv.C), conv.O};
    return tile == 4 ? FilterPoints<4, Real>::size(panels) : FilterPoints<2, Real>::size(panels);
}

TINYDIFF_IN_BOTH(winograd_tile)
TINYDIFF_IN_BOTH(winograd_correlate)
TINYDIFF_IN_BOTH(winograd_points)
TINYDIFF_IN_BOTH(winograd_points_worth_keeping)

TINYDIFF_END
