// dropout: values left out at random, the others made larger. Derivation: tinydiff/ops/dropout.py.
#include "kernels.h"
#include "parallel.h"
#include "philox.h"

TINYDIFF_BEGIN
namespace {

constexpr int PARTS = 8, APART = 16;  // halves of a block, and how far apart the values lie that they decide
constexpr int64_t GROUP = PARTS * APART, CHUNK = 64;  // values that so many neighbouring blocks decide; groups a task
static_assert(APART % W == 0, "a vector's blocks lie in one group");

}  // namespace

// Its backward too, which makes dx of dy. Without slot, sample n has place n.
template <class Real>
void dropout_forward(const Real* x, const int64_t* slot, const Drawn& drawn, uint32_t threshold, float scale, Real* y,
                     int64_t N, int64_t M) {
    const int64_t groups = ceil_div(M, GROUP), chunks = ceil_div(groups, CHUNK);
    const int lowest = static_cast<int>(threshold);
    parallel_for(N * chunks, [&](int64_t task) {
        const int64_t n = task / chunks, first = task % chunks * CHUNK;
        const auto place = static_cast<uint32_t>(slot ? slot[n] : n);
        for (int64_t group = first; group < smaller(groups, first + CHUNK); ++group)
            for (int64_t lane = 0; lane < APART; lane += W) {
                WordVec words[PARTS / 2];
                const auto block = static_cast<uint32_t>(group * APART + lane);
                encrypt_neighbours({{block, drawn.draw, place, drawn.purpose}}, drawn.seed, words);
                for (int part = 0; part < PARTS; ++part) {
                    const int64_t m = group * GROUP + part * APART + lane, count = M - m;
                    if (count <= 0) break;
                    const WordVec half = part % 2 ? words[part / 2] >> 16 : words[part / 2] & 0xFFFF;
                    const Vec factor = reinterpret_cast<IntVec>(half) >= lowest ? splat(scale) : Vec{};
                    store_part(y + n * M + m, load_part(x + n * M + m, count) * factor, count);
                }
            }
    });
}

TINYDIFF_IN_BOTH(dropout_forward)

TINYDIFF_END
