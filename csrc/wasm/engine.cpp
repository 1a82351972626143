// What tinydiff/site/engine.js calls: programs, run by the interpreter and the kernels of csrc/cpu.
#include "engine.h"

#include "parallel.h"
#include "program.h"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace tinydiff {

EXPORT(allocate) void* allocate(size_t bytes) { return grow(bytes); }

EXPORT(out_of_memory) bool out_of_memory() { return exhausted(); }

EXPORT(kernel_name) const char* kernel_name(int number) { return program_kernel(number); }

// Run so many words of a program whose memory begins at ``base``; how many it got through, all of them unless a check
// failed.
EXPORT(run) int run(const int64_t* words, int count, uintptr_t base) {
    return static_cast<int>(
        run_program(baseline::kernels, words, count, base, [](void*) { return true; }, nullptr));
}

}  // namespace tinydiff
