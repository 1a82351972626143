#include "races.h"

#include <algorithm>
#include <cstring>

namespace tinydiff::emulator {
namespace {

int lane_of(int thread) { return thread % WARP; }
bool same_warp(int a, int b) { return a / WARP == b / WARP; }

}  // namespace

int Byte::unordered_writer(const Access& now) const {
    if (written_in != now.epoch || writer == now.thread) return -1;
    const bool ordered = same_warp(writer, now.thread) && writers_clock <= (*now.clocks)[lane_of(writer)];
    return ordered ? -1 : writer;
}

int Byte::unordered_reader(const Access& now) const {
    if (read_in != now.epoch) return -1;
    if (!same_warp(reader, now.thread)) return reader;
    for (int lane = 0; lane < WARP; ++lane)
        if (lane != lane_of(now.thread) && read_at[lane] > (*now.clocks)[lane]) return reader / WARP * WARP + lane;
    return reader_elsewhere;
}

int Byte::read(const Access& now) {
    if (read_in != now.epoch) {
        read_in = now.epoch;
        reader = now.thread;
        reader_elsewhere = -1;
        read_at.fill(0);
    }
    if (same_warp(reader, now.thread))
        read_at[lane_of(now.thread)] = (*now.clocks)[lane_of(now.thread)];
    else
        reader_elsewhere = now.thread;
    return unordered_writer(now);
}

int Byte::write(const Access& now) {
    const int other = std::max(unordered_writer(now), unordered_reader(now));
    written_in = now.epoch;
    writer = now.thread;
    writers_clock = (*now.clocks)[lane_of(now.thread)];
    read_in = 0;
    return other;
}

void join(Clocks* const (&lanes)[WARP], unsigned mask) {
    Clocks all{};
    for (int lane = 0; lane < WARP; ++lane)
        if (mask >> lane & 1)
            for (int i = 0; i < WARP; ++i) all[i] = std::max(all[i], (*lanes[lane])[i]);
    for (int lane = 0; lane < WARP; ++lane)
        if (mask >> lane & 1) {
            *lanes[lane] = all;
            ++(*lanes[lane])[lane];
        }
}

}  // namespace tinydiff::emulator

// What -fsanitize=thread calls, as GCC and Clang name it.
extern "C" {

#define TINYDIFF_ACCESSES(name, bytes)                                                                              \
    void __tsan_read##name(const void* p) { tinydiff::emulator::accessed(p, bytes, false); }                        \
    void __tsan_write##name(const void* p) { tinydiff::emulator::accessed(p, bytes, true); }                        \
    void __tsan_unaligned_read##name(const void* p) { tinydiff::emulator::accessed(p, bytes, false); }              \
    void __tsan_unaligned_write##name(const void* p) { tinydiff::emulator::accessed(p, bytes, true); }
TINYDIFF_ACCESSES(1, 1)
TINYDIFF_ACCESSES(2, 2)
TINYDIFF_ACCESSES(4, 4)
TINYDIFF_ACCESSES(8, 8)
TINYDIFF_ACCESSES(16, 16)

void __tsan_read_range(const void* p, size_t bytes) { tinydiff::emulator::accessed(p, bytes, false); }
void __tsan_write_range(const void* p, size_t bytes) { tinydiff::emulator::accessed(p, bytes, true); }
unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return __atomic_load_n(p, __ATOMIC_ACQUIRE); }
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
    __tsan_read_range(from, bytes);
    __tsan_write_range(to, bytes);
    return std::memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, size_t bytes) {
    __tsan_write_range(to, bytes);
    return std::memset(to, value, bytes);
}
void __tsan_init() { tinydiff::emulator::see_accesses(); }  // before main, for every file so compiled
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}

}  // extern "C"
