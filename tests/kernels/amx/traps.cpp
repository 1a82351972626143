// Computes by the stand-in what tile instructions of a compiled program would, where the machine has none: each is an
// illegal instruction to it, and the signal's handler does the work. So what is tested is what compilers make of
// csrc/cpu/tiles.cpp. On Linux and x86-64.
#include <signal.h>
#include <ucontext.h>

#include "immintrin.h"

namespace {

const int REGISTERS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

template <class T>
T take(const unsigned char*& at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    at += sizeof value;
    return value;
}

void compute(int, siginfo_t*, void* context) {
    using namespace amx_stand_in;
    greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    const auto* at = reinterpret_cast<const unsigned char*>(registers[REG_RIP]);
    // C4, then inverted bits of registers' numbers with the map, 0F38; the second source, inverted, with the prefix
    const unsigned char escape = at[0], numbers = at[1], source = at[2], operation = at[3], form = at[4];
    fault_unless(escape == 0xC4 && (numbers & 31) == 2 && (source & 0x84) == 0, "an illegal instruction");
    at += 5;
    const int prefix = source & 3, mode = form >> 6, tile = form >> 3 & 7, low = form & 7;
    const int of_index = numbers & 0x40 ? 0 : 8, of_base = numbers & 0x20 ? 0 : 8;
    int64_t address = 0, index = 0;
    if (mode != 3) {
        int base = low;
        if (low == 4) {
            const int scaled = take<uint8_t>(at), number = (scaled >> 3 & 7) + of_index;
            base = scaled & 7;
            if (number != 4) index = registers[REGISTERS[number]] << (scaled >> 6);
        }
        const bool is_absolute = base == 5 && mode == 0;  // or relative to the next instruction
        if (!is_absolute) address = registers[REGISTERS[base + of_base]];
        if (mode == 1) address += take<int8_t>(at);
        if (mode == 2 || is_absolute) address += take<int32_t>(at);
        if (is_absolute && low != 4) address += reinterpret_cast<int64_t>(at);
    }
    void* memory = reinterpret_cast<void*>(address);
    enum { NONE, P66, PF3, PF2 };
    if (operation == 0x49 && mode != 3 && prefix == NONE)
        load_configuration(memory);
    else if (operation == 0x49 && mode != 3 && prefix == P66)
        store_configuration(memory);
    else if (operation == 0x49 && mode == 3 && prefix == PF2)
        zero(tile);
    else if (operation == 0x4B && low == 4 && mode != 3 && prefix == PF2)
        load(tile, memory, index);
    else if (operation == 0x4B && low == 4 && mode != 3 && prefix == PF3)
        store(tile, memory, index);
    else if (operation == 0x5C && mode == 3 && prefix == PF3)
        multiply(tile, low, ~(source >> 3) & 7);
    else
        fault_unless(false, "an illegal instruction");
    registers[REG_RIP] = reinterpret_cast<greg_t>(at);
}

const int installed = [] {
    struct sigaction action{};
    action.sa_sigaction = compute;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, nullptr);
}();

}  // namespace
