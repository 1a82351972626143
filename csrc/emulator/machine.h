// The CUDA execution model on one CPU core: what a thread of a kernel can ask for besides arithmetic.
//
// Every CUDA thread is a fiber, and one block runs at a time. A thread runs until it must wait for others; who runs
// next, which warp lags behind the others and which block comes next are drawn from a seed. So a result that depends on
// the seed is a race. What CUDA leaves undefined is made to hurt: shared memory starts as NaN, an asynchronous copy
// arrives as late as it may, and threads that wait for others that never come are an error that names the places in the
// source. Races that no order of the threads brings to light are seen where every access is: see races.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace tinydiff::emulator {

constexpr int WARP = 32;
constexpr unsigned char POISON = 0xFF;  // NaN in every floating-point type, -1 in every integer

struct Site {
    const char* file;
    int line;
};

// What a launch must obey; the limits are the tightest of any GPU from sm_80 on, which for shared memory are those of
// sm_86 and sm_89 (sm_80 has 163 KiB a block, sm_90 227).
struct Launch {
    std::string kernel;
    dim3 grid, block;
    size_t shared_bytes;
    uint64_t seed;
};

// Run `thread` for every thread of every block. Throws std::runtime_error, naming the kernel, for a launch beyond the
// limits and for whatever a thread does that is undefined and was noticed.
void run(const Launch& launch, const std::function<void()>& thread);

// Below: called by threads.

// __syncthreads: no thread goes on before all of the block have come to this place.
void sync_threads(Site site);

// __syncwarp: of the lanes named in `mask` none goes on before all have come, and what they did before is done.
void sync_warp(unsigned mask, Site site);

// The lanes of a warp named in `mask` come to this place; the last runs `work` on what each brought (null for the
// lanes not named), then all go on. It orders no memory.
using Work = void (*)(void* const brought[WARP], unsigned mask);
void meet(unsigned mask, const char* what, Site site, void* mine, Work work);

// The block's array of dynamic shared memory that each thread's first, second, ... call means.
void* shared_array(size_t bytes);

// From now on look for races: kernels tell of their accesses.
void see_accesses();

// The current thread reads or writes memory; what is not shared memory does not matter, nor when no thread runs.
void accessed(const void* address, size_t bytes, bool writes);

// cp.async: copy `valid` of 16 bytes and zeros for the rest. Until a wait, what is at `to` is poison.
void copy_async(void* to, const void* from, int valid);
void commit_copies();
void wait_copies(int all_but_latest);

// Whether an address is aligned to so many bytes; if not, an error, as it is on a GPU.
void require_aligned(const void* address, size_t bytes);

// End the launch with this error.
[[noreturn]] void fail(const std::string& message);

}  // namespace tinydiff::emulator
