// Which kernels there are for this machine.
#pragma once

#include <vector>

#include "kernels.h"
#include "machine.h"

namespace tinydiff {

// An instruction set that this machine has.
struct InstructionSet {
    const char* name;
    const Kernels* kernels;  // null where the compiler that built this lacked the instructions
    const char* compilers;   // that have them
};

// The kernels of a set that not every compiler has: setup.py says which there are.
#ifdef TINYDIFF_WITH_AVX512_BF16
constexpr const Kernels* avx512_bf16_kernels = &avx512_bf16::kernels;
#else
constexpr const Kernels* avx512_bf16_kernels = nullptr;
#endif
#ifdef TINYDIFF_WITH_AMX
constexpr const Kernels* amx_kernels = &amx::kernels;
#else
constexpr const Kernels* amx_kernels = nullptr;
#endif
#ifdef TINYDIFF_WITH_NEON_BF16
constexpr const Kernels* neon_bf16_kernels = &neon_bf16::kernels;
#else
constexpr const Kernels* neon_bf16_kernels = nullptr;
#endif

// Those of this machine, slowest first.
inline std::vector<InstructionSet> sets_of_machine() {
    std::vector<InstructionSet> found{{"baseline", &baseline::kernels, ""}};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back({"avx2", &avx2::kernels, ""});
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
        found.push_back({"avx512", &avx512::kernels, ""});
        if (has_avx512_bf16()) {
            found.push_back({"avx512_bf16", avx512_bf16_kernels, "GCC 10 and Clang 9, or newer,"});
            if (has_amx()) found.push_back({"amx", amx_kernels, "GCC 11 and Clang 11, or newer,"});
        }
    }
#elif defined(__aarch64__)
    if (has_neon_bf16()) found.push_back({"neon_bf16", neon_bf16_kernels, "GCC 10 and Clang 11, or newer,"});
#endif
    return found;
}

}  // namespace tinydiff
