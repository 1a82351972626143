// A program: calls of kernels, one after another, as words of 64 bits. tinydiff/program/kernel_calls.py writes them:
//
//     a header     kernel + 2^8 arguments + 2^16 kinds, two bits an argument: 0 it is the next word, 1 a float32, 2 a
//                  64-bit integer that lies where the next word points
//     arguments    in the order of the kernel's signature, structures field by field: an integer; a number as the bits
//                  of a float64; a pointer as bytes from ``base`` on, -1 for null
//
// Nothing here knows Python, or where the words came from.
#pragma once

#include <cstdint>

#include "kernels.h"

namespace tinydiff {

// The name of the kernel of this number, or null where there are no more. The last is the check of a range of integers.
const char* program_kernel(int64_t number);

// Run the words on one set of kernels. ``go_on`` is asked between calls. Returns ``count`` at the end; or else the
// position of the call before which go_on said no, or of the check of a range that failed.
int64_t run_program(const Kernels& kernels, const int64_t* words, int64_t count, uintptr_t base, bool (*go_on)(void*),
                    void* context);

}  // namespace tinydiff
