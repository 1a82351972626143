// Memory that is kept and handed out again.
//
// A training step takes and frees the same large arrays again and again. Returned to the system, each comes back
// as fresh pages that the kernel must zero; kept here, a steady state has no page faults at all.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinydiff {

// At least ``bytes`` bytes, aligned to a cache line, contents undefined. Throws std::bad_alloc.
void* take_memory(size_t bytes);
void give_memory(void* memory) noexcept;

// The same for what is given back on the thread that took it, the last taken first.
void* take_scratch(size_t bytes);
void give_scratch(void* memory) noexcept;

struct MemoryState {
    size_t in_use;  // bytes handed out
    size_t kept;    // bytes waiting to be handed out again
};
MemoryState memory_state();

// Values, floats unless said otherwise, for the length of a scope.
template <class T = float>
class Scratch {
   public:
    explicit Scratch(int64_t count) : values(static_cast<T*>(take_scratch(count * sizeof(T)))) {}
    ~Scratch() { give_scratch(values); }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    operator T*() const { return values; }

   private:
    T* values;
};

}  // namespace tinydiff
