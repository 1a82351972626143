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
// winograd_gradient.cpp has the gradient with respect to filters. Tried without gain on 2 cores: a third to three
// halves as many tiles at once, and one to two and a half times as large rounds, all within 5 %. Points prepared
// before, where the same filters come again, take a fifth off one evaluation of the small network at batch 1 (6.2
// to 5.1 ms on one thread, AMD EPYC with AVX-512, 2026-11) for 29 MB.
#include "memory.h"
#include "parallel.h"
#include "winograd_tiles.h"

TINYDIFF_BEGIN
namespace {

constexpr int64_t SMALL_FILTERS = 640 << 10;  // floats of a small filter's points,
constexpr int64_t FEW_TILES = 64;             // too few for every task to meet all filters

// Number i of a vector of words: of a pair the first waits until the second comes.
void store_number(float* to, int, Vec v, HalfVec&) { store(to, v); }
void store_number(Pair* to, int i, Vec v, HalfVec& waiting) {
    if (i == 0)
        waiting = rounded(v);
    else
        store_words(to, waiting, rounded(v));
}

template <int m, class Real>
void input_to_points(const Tiles<m, Real>& tiles, int64_t tile, const Real* x, const Real* zeros, const Conv& conv,
                     Real* to, int64_t stride) {
    const auto place = tiles.place(tile);
    tile_to_points<m, Input>(place, input_patch<m>(place, x, zeros, conv), conv.C, to, stride);
}

// Channels first .. last - 1 of a tile of outputs; ``from`` points to the first of them.
template <int m, class Real>
void points_to_output(const Tiles<m, Real>& tiles, int64_t tile, const float* from, int64_t stride, int64_t first,
                      int64_t last, const Epilogue<Real>& epilogue, const Conv& conv) {
    const auto place = tiles.place(tile);
    const auto corner = epilogue.pixel((place.image * conv.H_out + place.h) * conv.W_out + place.w);
    const int64_t high = conv.H_out - place.h, wide = conv.W_out - place.w;
    with_shape<m, Real>(place, [&](auto rows, auto columns) {
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

// One panel of w (3,3,C,O), the rows first .. last - 1 of words of it, as points, which lie ``stride`` apart in ``to``.
template <int m, class Real>
void filters_to_points(const Real* w, int64_t C, const Panels& panels, int64_t panel, int64_t first, int64_t last,
                       Word<Real>* to, int64_t stride) {
    constexpr int n = m + 2, numbers = NUMBERS<Real>;
    const int64_t O = panels.O;
    auto transform = [](const Vec(&g)[3], Vec(&u)[n]) { Filter<m>::points(g, u); };
    HalfVec waiting[n * n];
    for (int64_t k = first; k < last; ++k)
        for (int j = 0; j < panels.vectors(panel); ++j)
            for (int number = 0; number < numbers; ++number) {
                const int64_t o = panel * NR + j * W, c = k * numbers + number;
                along_both_axes<3, 3, n, n>(
                    transform, transform,
                    [&](int r, int s) { return c < C ? load_part(w + ((r * 3 + s) * C + c) * O + o, O - o) : Vec{}; },
                    [&](int i, int l, Vec v) {
                        const int p = i * n + l;
                        store_number(to + p * stride + k * NR + j * W, number, v, waiting[p]);
                    });
            }
}

// The same in two halves, for filters too large to be points all at once: first along their columns, into
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
void row_to_points(const float* row, int64_t C, const Panels& panels, int64_t panel, Word<Real>* to, int64_t stride) {
    constexpr int numbers = NUMBERS<Real>;
    HalfVec waiting[m + 2];
    for (int64_t k = 0; k < panels.K; ++k)
        for (int j = 0; j < panels.vectors(panel); ++j)
            for (int number = 0; number < numbers; ++number) {
                const int64_t c = k * numbers + number;
                Vec g[3], u[m + 2];
                for (int s = 0; s < 3; ++s) g[s] = c < C ? load(row + (c * 3 + s) * NR + j * W) : Vec{};
                Filter<m>::points(g, u);
                for (int i = 0; i < m + 2; ++i)
                    store_number(to + i * stride + k * NR + j * W, number, u[i], waiting[i]);
            }
}

// Whether all of the filters' points are made at once: for many tiles, or one panel.
template <int m, class Real>
bool are_small(const Panels& panels, const Tiles<m, Real>& tiles) {
    return tiles.points * panels.words() <= SMALL_FILTERS && (tiles.count > FEW_TILES || panels.count() == 1);
}

// All points of small filters: point p of a panel begins at p * panels.words() + panels.start(panel).
template <int m, class Real>
void small_filters_to_points(const Real* w, int64_t C, const Panels& panels, Word<Real>* points) {
    constexpr int64_t ROWS = 16;
    const int64_t parts = ceil_div(panels.K, ROWS);
    parallel_for(panels.count() * parts, [&](int64_t task) {
        const int64_t panel = task / parts, first = task % parts * ROWS;
        filters_to_points<m>(w, C, panels, panel, first, smaller(panels.K, first + ROWS), points + panels.start(panel),
                             panels.words());
    });
}

// All points of large filters, each panel's together: point p of it begins at p * K * NR.
template <int m, class Real>
void large_filters_to_points(const Real* w, int64_t C, const Panels& panels, Word<Real>* points) {
    constexpr int n = m + 2;
    const int64_t size = panels.K * NR;
    parallel_for(panels.count(), [&](int64_t panel) {
        Scratch half(n * 3 * C * NR);
        filters_to_rows<m>(w, C, panels, panel, half);
        for (int row = 0; row < n; ++row)
            row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel, points + (panel * n * n + row * n) * size,
                                   size);
    });
}

template <int m, class Real>
void correlate(const Real* x, const Real* w, const Word<Real>* prepared, const Epilogue<Real>& epilogue,
               const Conv& conv) {
    constexpr int points = Tiles<m, Real>::points;
    const Tiles<m, Real> tiles(conv.N, conv.H_out, conv.W_out);
    const int64_t C = conv.C, width_in = round_up(C, W), width_out = round_up(conv.O, W);
    const int64_t words_in = words<Real>(width_in);
    const Panels panels{words<Real>(C), conv.O};
    const Zeros<Real> zeros(C);
    if (are_small(panels, tiles)) {
        Scratch<Word<Real>> own(prepared ? 0 : points * panels.words());
        if (!prepared) small_filters_to_points<m>(w, C, panels, static_cast<Word<Real>*>(own));
        const Word<Real>* filters = prepared ? prepared : own;
        const int64_t floats_a_tile = points * (words_in + width_out);
        const int64_t fit = larger(MR, OWN_FLOATS / floats_a_tile / MR * MR);
        const int64_t spread = round_up(ceil_div(tiles.count, 8), MR);  // at least about eight tasks
        const int64_t tasks = round_up(ceil_div(tiles.count, smaller(fit, spread)), threads());
        const int64_t at_once = ceil_div(tiles.count, tasks);
        parallel_for(ceil_div(tiles.count, at_once), [&](int64_t task) {
            const int64_t first = task * at_once, count = smaller(at_once, tiles.count - first);
            const int64_t stride_in = point_stride(count, width_in), stride_out = point_stride(count, width_out);
            Scratch<Real> in(points * stride_in);
            Scratch out(points * stride_out);
            for (int64_t t = 0; t < count; ++t)
                input_to_points<m, Real>(tiles, first + t, x, zeros, conv, in + t * width_in, stride_in);
            for (int p = 0; p < points; ++p) {
                const Part part = tiles.with_point(p, first, count);
                const Word<Real>* rows = as_words(in + p * stride_in + part.skip * width_in);
                for (int64_t panel = 0; panel < panels.count(); ++panel)
                    multiply(part.number, panels.vectors(panel), rows, words_in, panels.K,
                             filters + p * panels.words() + panels.start(panel), NR,
                             out + p * stride_out + part.skip * width_out + panel * NR, width_out);
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * width_out, stride_out, 0, conv.O, epilogue, conv);
        });
        return;
    }
    const int64_t at_once = smaller(tiles.count, larger(4 * MR, SHARED_FLOATS / (points * words_in) / MR * MR));
    const int64_t stride_in = point_stride(at_once, width_in), stride_out = point_stride(at_once, NR);
    Scratch<Real> in(points * stride_in);
    for (int64_t first = 0; first < tiles.count; first += at_once) {
        const int64_t count = smaller(at_once, tiles.count - first);
        parallel_for(count, [&](int64_t t) {
            input_to_points<m, Real>(tiles, first + t, x, zeros, conv, in + t * width_in, stride_in);
        });
        parallel_for(panels.count(), [&](int64_t panel) {
            const int64_t size = panels.K * NR, stride = prepared ? size : point_stride(panels.K, NR);
            Scratch half(prepared ? 0 : (m + 2) * 3 * C * NR);
            Scratch<Word<Real>> own(prepared ? 0 : (m + 2) * stride);
            Scratch out(points * stride_out);
            if (!prepared) filters_to_rows<m>(w, C, panels, panel, half);
            for (int row = 0; row < m + 2; ++row) {
                if (!prepared) row_to_points<m, Real>(half + row * 3 * C * NR, C, panels, panel, own, stride);
                const Word<Real>* filters = prepared ? prepared + (panel * points + row * (m + 2)) * size : own;
                for (int p = row * (m + 2), j = 0; j < m + 2; ++p, ++j) {
                    const Part part = tiles.with_point(p, first, count);
                    multiply(part.number, panels.vectors(panel), as_words(in + p * stride_in + part.skip * width_in),
                             words_in, panels.K, filters + j * stride, NR, out + p * stride_out + part.skip * NR, NR);
                }
            }
            for (int64_t t = 0; t < count; ++t)
                points_to_output(tiles, first + t, out + t * NR, stride_out, panel * NR,
                                 panel * NR + panels.width(panel), epilogue, conv);
        });
    }
}

template <int m, class Real>
void all_points(const Real* w, Word<Real>* points, const Conv& conv) {
    const Panels panels{words<Real>(conv.C), conv.O};
    if (are_small(panels, Tiles<m, Real>(conv.N, conv.H_out, conv.W_out)))
        small_filters_to_points<m>(w, conv.C, panels, points);
    else
        large_filters_to_points<m>(w, conv.C, panels, points);
}

// Multiply-adds a channel pair, of the products and, in the same unit, of making the filters' points.
template <int m, class Real>
struct Cost {
    static constexpr int64_t making = m == 4 ? 360 : 190;
    int64_t products;

    explicit Cost(const Conv& conv)
        : products(conv.N * Axis<m, Real>(conv.H_out).points() * Axis<m, Real>(conv.W_out).points()) {}
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
    const int tile = NUMBERS<Real> == 1 && four <= two ? 4 : 2;  // in bfloat16 four loses too many digits
    // where both take as long, as for one image of 7x7, tiles: they gain from filters prepared before
    return 20 * (tile == 4 ? four : two) > 21 * direct ? 0 : tile;
}

template <class Real>
void winograd_correlate(int tile, const Real* x, const Real* w, const Word<Real>* points,
                        const Epilogue<Real>& epilogue, const Conv& conv) {
    tile == 4 ? correlate<4>(x, w, points, epilogue, conv) : correlate<2>(x, w, points, epilogue, conv);
}

template <class Real>
void winograd_points(int tile, const Real* w, Word<Real>* points, const Conv& conv) {
    tile == 4 ? all_points<4>(w, points, conv) : all_points<2>(w, points, conv);
}

template <class Real>
int64_t winograd_points_worth_keeping(int tile, const Conv& conv) {
    if (tile == 4 ? Cost<4, Real>(conv).is_mostly_products() : Cost<2, Real>(conv).is_mostly_products()) return 0;
    return (tile + 2) * (tile + 2) * Panels{words<Real>(conv.C), conv.O}.words();
}

TINYDIFF_IN_BOTH(winograd_tile)
TINYDIFF_IN_BOTH(winograd_correlate)
TINYDIFF_IN_BOTH(winograd_points)
TINYDIFF_IN_BOTH(winograd_points_worth_keeping)

TINYDIFF_END
