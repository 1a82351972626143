// A stack of its own for each CUDA thread of a block, and the switch from one to another.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(TINYDIFF_UCONTEXT)
#include <ucontext.h>
#define TINYDIFF_UCONTEXT
#endif

namespace tinydiff::emulator {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t STACK_BYTES = 256 * 1024;  // frames are larger
#else
constexpr size_t STACK_BYTES = 64 * 1024;
#endif

// Where a fiber left off.
struct Context {
#ifdef TINYDIFF_UCONTEXT
    ucontext_t state;
#else
    void* stack_pointer;
#endif
};

// Make a context that begins with `entry`, which must never return, on this stack.
void begin(Context& context, char* stack, void (*entry)());

// Leave off in `from` and go on in `to`.
void switch_context(Context& from, Context& to);

}  // namespace tinydiff::emulator
