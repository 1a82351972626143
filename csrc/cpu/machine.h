// What this machine can do, where compilers do not know how to ask.
#pragma once

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__) && defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#elif defined(__APPLE__) && defined(__aarch64__)
#include <sys/sysctl.h>
#endif

namespace tinydiff {

// AVX-512's products of bfloat16, whether or not the compiler knows their name, and those of 16-bit integers (VNNI).
inline bool has_avx512_bf16() {
#if defined(__x86_64__)
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) || !(eax >> 5 & 1)) return false;
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx >> 11 & 1;
#else
    return false;
#endif
}

// Tiles, their products of bfloat16, and leave to use them. Linux gives it to a process that asks, once for all its
// threads and children; not where the stack that one of them has for signals is too small for what tiles hold.
inline bool has_amx() {
#if defined(__linux__) && defined(__x86_64__)
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return false;
    const bool has_tiles = edx >> 24 & 1, has_products = edx >> 22 & 1;
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return has_tiles && has_products && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

// Arm's products of bfloat16.
inline bool has_neon_bf16() {
#if defined(__linux__) && defined(__aarch64__)
    constexpr unsigned long BF16 = 1 << 14;  // HWCAP2_BF16
    return (getauxval(AT_HWCAP2) & BF16) != 0;
#elif defined(__APPLE__) && defined(__aarch64__)
    int found = 0;
    size_t size = sizeof found;
    return sysctlbyname("hw.optional.arm.FEAT_BF16", &found, &size, nullptr, 0) == 0 && found;
#else
    return false;
#endif
}

}  // namespace tinydiff
