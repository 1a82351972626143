#include "fiber.h"

#include <cstdint>

namespace tinydiff::emulator {

#ifdef TINYDIFF_UCONTEXT

void begin(Context& context, char* stack, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = STACK_BYTES;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

#else

// swapcontext asks the system to change the signal mask, twice, at every switch; this only changes the registers
// that a called function must preserve, and takes some 50 times less.
extern "C" void tinydiff_switch_stack(void** from, void* to);
asm(R"(
.text
.hidden tinydiff_switch_stack
.globl tinydiff_switch_stack
tinydiff_switch_stack:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

void begin(Context& context, char* stack, void (*entry)()) {
    constexpr int PRESERVED = 6;
    auto top = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(stack + STACK_BYTES) / 16 * 16);
    *--top = 0;  // where entry would return to; also aligns the stack as at a call
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < PRESERVED; ++i) *--top = 0;
    context.stack_pointer = top;
}

void switch_context(Context& from, Context& to) { tinydiff_switch_stack(&from.stack_pointer, to.stack_pointer); }

#endif

}  // namespace tinydiff::emulator
