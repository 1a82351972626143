// What WebAssembly's own parts know of each other.
#pragma once

#include <cstddef>

namespace tinydiff {

// New memory, never given back; null where there is no more.
void* grow(size_t bytes);

// Whether a kernel found no memory: then it has ended in a trap.
bool exhausted();

}  // namespace tinydiff
