// The products of gemm.h by AMX: 16 rows of a times 16 words times 16 columns of b, an instruction.
//
// Compiled and tested on a stand-in for the instructions (tests/kernels/amx), never run on a machine that has them. So
// nothing here is tuned, and what comments say of speed is expected, not measured.
//
// A packed panel is what an instruction takes for b: rows of words, each a pair of numbers that lie below one another.
// Of a it takes rows of words a fixed stride apart. Rows that lie anywhere, and columns, are copied first: that is a
// load and a store, or four shuffles, for 16 words, which AVX-512 would multiply in 32 instructions.
//
// Block by block of up to 32 rows, in two equal halves, by 32 columns:
//
//     tiles 0 1    sums of the upper rows        4    a, upper rows        6 7    b
//           2 3    sums of the lower rows        5    a, lower rows
//
// Every row is computed by itself, so its bits do not depend on the block it is in. They are not those of AVX-512: of
// 16 words the first and the second numbers are summed apart, then both are added to the sum.
#include "gemm.h"

#ifdef __AMX_BF16__
#include <immintrin.h>

#include <utility>

TINYDIFF_BEGIN
namespace {

constexpr int TILE_ROWS = 16, DEPTH = 16;  // rows of a tile, and words of one
constexpr int64_t BYTES = 4;               // of a word or a float, as strides count
constexpr int AT_ONCE = 8 * DEPTH;         // words of a row that is copied; with as many rows of b they stay in cache
static_assert(W == 16 && NV == 2 && MR <= 2 * TILE_ROWS);

// Not every compiler knows what tile instructions read and write: GCC 12 takes it to be 8 bytes of a configuration, and
// of a tile that is loaded nothing.
inline void memory_is_used() { asm volatile("" : : : "memory"); }

struct alignas(64) Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(Configuration) == 64);

// Tiles have the rows that a block has; a row has 64 bytes, where words are missing zeros (to configure shorter ones
// for the last words would clear the sums). To load a configuration takes as long as many products, to look at it does
// not, so it is loaded where it is another. To remember it instead would be wrong: between two calls another library
// may have configured tiles on this thread. For the next call like this one they are never released.
inline void configure(int upper, int lower) {
    Configuration wanted{}, current{};
    wanted.palette = 1;
    for (int tile = 0; tile < 8; ++tile) {
        const bool is_lower = tile == 2 || tile == 3 || tile == 5;
        wanted.row_bytes[tile] = 64;
        wanted.rows[tile] = static_cast<uint8_t>(tile >= 6 ? DEPTH : is_lower ? lower : upper);
    }
    const Configuration *from = &wanted, *to = &current;
    asm volatile("" : "+r"(from), "+r"(to) : : "memory");
    _tile_storeconfig(const_cast<Configuration*>(to));
    memory_is_used();
    if (std::memcmp(from, to, sizeof wanted) != 0) _tile_loadconfig(from);
}

// What a block is: its rows and columns as counts of tiles, known when compiled.
template <int HALVES, int VECTORS>
struct Block {
    int64_t upper;  // rows of the upper half

    void load_sums(const float* c, int64_t ldc, bool accumulate) const {
        const float* lower = c + upper * ldc;
        const int64_t stride = ldc * BYTES;
        memory_is_used();
        if (accumulate) {
            _tile_loadd(0, c, stride);
            if constexpr (VECTORS == 2) _tile_loadd(1, c + W, stride);
            if constexpr (HALVES == 2) _tile_loadd(2, lower, stride);
            if constexpr (HALVES == 2 && VECTORS == 2) _tile_loadd(3, lower + W, stride);
        } else {
            _tile_zero(0);
            if constexpr (VECTORS == 2) _tile_zero(1);
            if constexpr (HALVES == 2) _tile_zero(2);
            if constexpr (HALVES == 2 && VECTORS == 2) _tile_zero(3);
        }
    }

    void store_sums(float* c, int64_t ldc) const {
        float* lower = c + upper * ldc;
        const int64_t stride = ldc * BYTES;
        _tile_stored(0, c, stride);
        if constexpr (VECTORS == 2) _tile_stored(1, c + W, stride);
        if constexpr (HALVES == 2) _tile_stored(2, lower, stride);
        if constexpr (HALVES == 2 && VECTORS == 2) _tile_stored(3, lower + W, stride);
        memory_is_used();
    }

    // sums += a b over DEPTH words
    void add_product(const Pair* a, int64_t lda, const Pair* b, int64_t ldb) const {
        const int64_t stride_a = lda * BYTES, stride_b = ldb * BYTES;
        _tile_loadd(6, b, stride_b);
        _tile_loadd(4, a, stride_a);
        _tile_dpbf16ps(0, 4, 6);
        if constexpr (VECTORS == 2) {
            _tile_loadd(7, b + W, stride_b);
            _tile_dpbf16ps(1, 4, 7);
        }
        if constexpr (HALVES == 2) {
            _tile_loadd(5, a + upper * lda, stride_a);
            _tile_dpbf16ps(2, 5, 6);
        }
        if constexpr (HALVES == 2 && VECTORS == 2) _tile_dpbf16ps(3, 5, 7);
    }

    // The same over K; rows of a end with zeros, at a whole multiple of DEPTH.
    void add_products(const Pair* a, int64_t lda, int64_t K, const Pair* b, int64_t ldb) const {
        int64_t k = 0;
        memory_is_used();
        for (; k + DEPTH <= K; k += DEPTH) add_product(a + k, lda, b + k * ldb, ldb);
        if (k == K) return;
        alignas(64) Pair rest[DEPTH * NR] = {};
        for (int64_t i = 0; i < K - k; ++i) std::memcpy(rest + i * NR, b + (k + i) * ldb, sizeof(Pair) * VECTORS * W);
        memory_is_used();
        add_product(a + k, lda, rest, NR);
        memory_is_used();
    }
};

// body(Block) for a block of so many rows and vectors, tiles being configured for it
template <class Body>
inline void with_block(int rows, int vectors, const Body& body) {
    const int upper = (rows + 1) / 2;
    configure(upper, rows > 1 ? rows / 2 : 1);
    if (rows > 1)
        vectors == 2 ? body(Block<2, 2>{upper}) : body(Block<2, 1>{upper});
    else
        vectors == 2 ? body(Block<1, 2>{upper}) : body(Block<1, 1>{upper});
}

// Where rows of a are copied to, with zeros up to a multiple of DEPTH.
struct Copy {
    static constexpr int64_t lda = AT_ONCE;
    alignas(64) Pair words[2 * TILE_ROWS * AT_ONCE];

    void row(int i, const Pair* from, int64_t K) {
        for (int64_t k = 0; k < K; k += DEPTH)
            store(reinterpret_cast<float*>(words + i * lda + k),
                  load_part(reinterpret_cast<const float*>(from + k), K - k));
    }

    // Up to TILE_ROWS columns of K rows, from row i of the copy on.
    void columns(int i, int count, const Pair* from, int64_t stride, int64_t K) {
        for (int64_t k = 0; k < K; k += DEPTH) {
            IntVec block[DEPTH];
            for (int j = 0; j < DEPTH; ++j) {
                const Vec row =
                    k + j < K ? load_part(reinterpret_cast<const float*>(from + (k + j) * stride), count) : Vec{};
                std::memcpy(&block[j], &row, sizeof row);
            }
            transpose(block);
            for (int j = 0; j < count; ++j) *reinterpret_cast<IntVec*>(words + (i + j) * lda + k) = block[j];
        }
    }

 private:
    // The lanes ``from``, counted on through a and b.
    template <int... from>
    static IntVec lanes(IntVec a, IntVec b) {
#ifdef __clang__
        return __builtin_shufflevector(a, b, from...);
#else
        return __builtin_shuffle(a, b, IntVec{from...});
#endif
    }

    // Of each two rows ``distance`` apart, and each two lanes, what lies off the diagonal changes places.
    template <int distance, int... lane>
    static void exchange(IntVec (&rows)[16], std::integer_sequence<int, lane...>) {
        for (int i = 0; i < 16; ++i) {
            if (i & distance) continue;
            const IntVec upper = rows[i], lower = rows[i + distance];
            rows[i] = lanes<(lane & distance ? 16 + lane - distance : lane)...>(upper, lower);
            rows[i + distance] = lanes<(lane & distance ? 16 + lane : lane + distance)...>(upper, lower);
        }
    }

    static void transpose(IntVec (&rows)[16]) {
        constexpr std::make_integer_sequence<int, 16> every;
        exchange<1>(rows, every);
        exchange<2>(rows, every);
        exchange<4>(rows, every);
        exchange<8>(rows, every);
    }
};

}  // namespace

template <>
void multiply(int64_t rows, int vectors, const Pair* a, int64_t lda, int64_t K, const Pair* b, int64_t ldb, float* c,
              int64_t ldc, bool accumulate) {
    const int64_t whole = K / DEPTH * DEPTH;
    const RowGroups blocks(rows, 2 * TILE_ROWS);
    Copy rest;
    for (int64_t g = 0; g < blocks.count; ++g) {
        const Pair* from = a + blocks.start(g) * lda;
        float* to = c + blocks.start(g) * ldc;
        if (whole < K)
            for (int i = 0; i < blocks.size(g); ++i) rest.row(i, from + i * lda + whole, K - whole);
        with_block(blocks.size(g), vectors, [&](const auto& block) {
            block.load_sums(to, ldc, accumulate);
            block.add_products(from, lda, whole, b, ldb);
            if (whole < K) block.add_products(rest.words, rest.lda, K - whole, b + whole * ldb, ldb);
            block.store_sums(to, ldc);
        });
    }
}

template <>
void multiply_gathered(int rows, int vectors, int64_t segments, const Pair* const* a, const Pair* const* b, int64_t K,
                       int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    Copy copy;
    with_block(rows, vectors, [&](const auto& block) {
        block.load_sums(c, ldc, accumulate);
        for (int64_t s = 0; s < segments; ++s, a += MR)
            for (int64_t k = 0; k < K; k += AT_ONCE) {
                const int64_t count = smaller(AT_ONCE, K - k);
                for (int i = 0; i < rows; ++i) copy.row(i, a[i] + k, count);
                block.add_products(copy.words, copy.lda, count, b[s] + k * ldb, ldb);
            }
        block.store_sums(c, ldc);
    });
}

template <>
void multiply_transposed(int64_t rows, int64_t columns, const Pair* a, int64_t lda, int64_t K, const Pair* b,
                         int64_t ldb, float* c, int64_t ldc, bool accumulate) {
    const RowGroups blocks(rows, 2 * TILE_ROWS);
    Copy copy;
    for (int64_t k = 0; k < larger(1, K); k += AT_ONCE) {
        const int64_t count = smaller(AT_ONCE, K - k);
        for (int64_t g = 0; g < blocks.count; ++g) {
            const int size = blocks.size(g);
            for (int i = 0; i < size; i += TILE_ROWS)
                copy.columns(i, static_cast<int>(smaller(TILE_ROWS, size - i)), a + k * lda + blocks.start(g) + i, lda,
                             count);
            for (int64_t o = 0; o < columns; o += NR) {
                float* to = c + blocks.start(g) * ldc + o;
                with_block(size, static_cast<int>(smaller(NV, (columns - o) / W)), [&](const auto& block) {
                    block.load_sums(to, ldc, accumulate || k > 0);
                    block.add_products(copy.words, copy.lda, count, b + k * ldb + o, ldb);
                    block.store_sums(to, ldc);
                });
            }
        }
    }
}

TINYDIFF_END
#endif
