// Accesses to shared memory that nothing puts in an order: races, whatever the threads happened to do this time.
//
// Two threads that touch the same byte, one of them writing, must have a barrier between them: a __syncthreads, or in
// one warp a __syncwarp that names both, or several of them in a row. Shuffles, votes, ldmatrix and mma let lanes meet
// and pass values, but order no memory.
//
// Accesses are seen in kernels compiled with -fsanitize=thread: at each the compiler calls a function, which is looked
// for here, not in the sanitizer's own library (which knows threads of the system, and no fibers).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "machine.h"

namespace tinydiff::emulator {

// Of each lane of a warp, which of its stretches, from one __syncwarp to the next, a lane knows to be over; of its own,
// which it is in.
using Clocks = std::array<uint32_t, WARP>;

// Who accesses shared memory, and when. `epoch` grows at every __syncthreads and with every block.
struct Access {
    uint64_t epoch;
    int thread;
    const Clocks* clocks;
};

// What is known of one byte. Of readers only those since the last write count, and of those before a barrier of the
// block none.
class Byte {
   public:
    // Of a thread whose access has no barrier between itself and this one; -1 if there is none.
    int read(const Access& now);
    int write(const Access& now);

   private:
    int unordered_writer(const Access& now) const;
    int unordered_reader(const Access& now) const;

    uint64_t written_in = 0, read_in = 0;  // epochs
    int writer = -1;
    uint32_t writers_clock = 0;
    int reader = -1, reader_elsewhere = -1;  // the first, and the first of another warp
    Clocks read_at{};                        // by the lanes of the first reader's warp
};

// Those of a block's shared memory, by their offset.
using Bytes = std::vector<Byte>;

// A __syncwarp of these lanes.
void join(Clocks* const (&lanes)[WARP], unsigned mask);

}  // namespace tinydiff::emulator
