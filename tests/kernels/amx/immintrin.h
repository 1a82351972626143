// A stand-in for the AMX intrinsics that csrc/cpu/tiles.cpp uses: what Intel's manual says of each instruction (volume
// 2, LDTILECFG, STTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBF16PS), in plain C++. What would be a fault aborts.
//
// Found in the place of the compiler's header by being in an earlier folder of the search path.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace amx_stand_in {

constexpr int TILES = 8, ROWS = 16, ROW_BYTES = 64;

struct Configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};
static_assert(sizeof(Configuration) == 64, "as the instruction reads it");

inline thread_local Configuration configuration{};
inline thread_local unsigned char tiles[TILES][ROWS][ROW_BYTES];

inline void fault_unless(bool allowed, const char* what) {
    if (allowed) return;
    std::fprintf(stderr, "fault: %s\n", what);
    std::abort();
}

inline void load_configuration(const void* from) {
    Configuration made;
    std::memcpy(&made, from, sizeof made);
    fault_unless(made.palette <= 1, "LDTILECFG of an unknown palette");
    bool reserved = made.start_row != 0;  // only a load or a store that is interrupted leaves one
    for (unsigned char byte : made.reserved) reserved |= byte != 0;
    for (int i = 0; i < 16; ++i) {
        if (i >= TILES) reserved |= made.row_bytes[i] || made.rows[i];
        fault_unless(made.row_bytes[i] <= ROW_BYTES && made.rows[i] <= ROWS, "LDTILECFG of a tile too large");
        fault_unless(!made.row_bytes[i] == !made.rows[i], "LDTILECFG of half a tile");
    }
    fault_unless(!reserved, "LDTILECFG with reserved bytes");
    configuration = made.palette ? made : Configuration{};
    std::memset(tiles, 0, sizeof tiles);
}

inline void store_configuration(void* to) { std::memcpy(to, &configuration, sizeof configuration); }

inline void fault_unless_configured(int tile) {
    fault_unless(configuration.palette == 1, "no tiles are configured");
    fault_unless(tile >= 0 && tile < TILES && configuration.rows[tile], "a tile is not configured");
}

inline void zero(int tile) {
    fault_unless_configured(tile);
    std::memset(tiles[tile], 0, sizeof tiles[tile]);
}

inline void load(int tile, const void* from, int64_t stride) {
    zero(tile);  // beyond the configured rows, and beyond the bytes of each
    for (int row = 0; row < configuration.rows[tile]; ++row)
        std::memcpy(tiles[tile][row], static_cast<const char*>(from) + row * stride, configuration.row_bytes[tile]);
}

inline void store(int tile, void* to, int64_t stride) {
    fault_unless_configured(tile);
    for (int row = 0; row < configuration.rows[tile]; ++row)
        std::memcpy(static_cast<char*>(to) + row * stride, tiles[tile][row], configuration.row_bytes[tile]);
}

// Numbers too small to be normal are zeros, on their way in and out.
inline float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
inline float multiply_add(float a, float b, float sum) { return flushed(std::fma(a, b, sum)); }

inline float number_16(const unsigned char* row, int i) {
    uint16_t half;
    std::memcpy(&half, row + 2 * i, sizeof half);
    const uint32_t bits = uint32_t{half} << 16;
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return flushed(number);
}

inline void multiply(int sums, int a, int b) {
    fault_unless_configured(sums);
    fault_unless_configured(a);
    fault_unless_configured(b);
    const Configuration& of = configuration;
    fault_unless(sums != a && sums != b && a != b, "TDPBF16PS of one tile twice");
    fault_unless(of.row_bytes[sums] % 4 == 0 && of.row_bytes[a] % 4 == 0 && of.row_bytes[b] % 4 == 0,
                 "TDPBF16PS of half a word");
    fault_unless(
        of.rows[sums] == of.rows[a] && of.row_bytes[sums] == of.row_bytes[b] && of.row_bytes[a] == 4 * of.rows[b],
        "TDPBF16PS of tiles that do not fit");
    for (int m = 0; m < of.rows[sums]; ++m) {
        float even[ROWS] = {}, odd[ROWS] = {};
        for (int k = 0; k < of.row_bytes[a] / 4; ++k)
            for (int n = 0; n < of.row_bytes[sums] / 4; ++n) {
                even[n] = multiply_add(number_16(tiles[a][m], 2 * k), number_16(tiles[b][k], 2 * n), even[n]);
                odd[n] = multiply_add(number_16(tiles[a][m], 2 * k + 1), number_16(tiles[b][k], 2 * n + 1), odd[n]);
            }
        for (int n = 0; n < of.row_bytes[sums] / 4; ++n) {
            float sum;
            std::memcpy(&sum, tiles[sums][m] + 4 * n, sizeof sum);
            sum = flushed(flushed(sum) + flushed(even[n] + odd[n]));
            std::memcpy(tiles[sums][m] + 4 * n, &sum, sizeof sum);
        }
    }
}

}  // namespace amx_stand_in

#define _tile_loadconfig(from) amx_stand_in::load_configuration(from)
#define _tile_storeconfig(to) amx_stand_in::store_configuration(to)
#define _tile_zero(tile) amx_stand_in::zero(tile)
#define _tile_loadd(tile, from, stride) amx_stand_in::load(tile, from, stride)
#define _tile_stored(tile, to, stride) amx_stand_in::store(tile, to, stride)
#define _tile_dpbf16ps(sums, a, b) amx_stand_in::multiply(sums, a, b)
