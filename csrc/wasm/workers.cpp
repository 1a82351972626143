// parallel.h for Workers that share one memory: JavaScript starts them, each with its own instance of the module, and
// they enter ``help``, which never returns. The page's own Worker is one of the threads.
#include <atomic>

#include "engine.h"
#include "parallel.h"

#define EXPORT(name) extern "C" __attribute__((export_name(#name)))

namespace tinydiff {
namespace {

// How often a thread looks for work before it sleeps: some tens of microseconds, as in csrc/cpu/parallel.cpp.
constexpr int SPINS = 4000;

std::atomic<int32_t> announced{0}, sleeping{0};
std::atomic<int> helpers{0};
alignas(64) std::atomic<uint64_t> left{0};  // the job's number, and how many of its tasks are left
alignas(64) std::atomic<int64_t> finished{0};
void (*job)(const void*, int64_t) = nullptr;
const void* job_context = nullptr;
int64_t job_count = 0;
thread_local bool inside_task = false;

void take_tasks() {
    inside_task = true;
    uint64_t now = left.load(std::memory_order_acquire);
    while (static_cast<uint32_t>(now) > 0) {
        if (!left.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        // the job cannot end, nor its fields change, before this task is finished
        job(job_context, job_count - static_cast<uint32_t>(now));
        finished.fetch_add(1, std::memory_order_release);
        now = left.load(std::memory_order_acquire);
    }
    inside_task = false;
}

}  // namespace

int threads() { return helpers.load(std::memory_order_relaxed) + 1; }

void use_threads(int) {}

void run_tasks(int64_t count, void (*task)(const void* context, int64_t i), const void* context) {
    constexpr int64_t MOST = INT32_MAX;  // tasks of one job
    if (count <= 1 || count > MOST || inside_task || threads() == 1) {
        for (int64_t i = 0; i < count; ++i) task(context, i);
        return;
    }
    job = task, job_context = context, job_count = count;
    finished.store(0, std::memory_order_relaxed);
    // one word, so that a thread that comes late cannot take a task of a job that is over
    const uint64_t number = (left.load(std::memory_order_relaxed) >> 32) + 1;
    left.store(number << 32 | static_cast<uint64_t>(count), std::memory_order_seq_cst);
    announced.fetch_add(1, std::memory_order_seq_cst);
    if (sleeping.load(std::memory_order_seq_cst) > 0)
        __builtin_wasm_memory_atomic_notify(reinterpret_cast<int32_t*>(&announced), 1 << 30);
    take_tasks();
    while (finished.load(std::memory_order_acquire) != count)
        if (exhausted()) __builtin_trap();  // a helper that found no memory finishes nothing any more
}

EXPORT(help) void help() {
    constexpr int64_t FOR_EVER = -1;
    helpers.fetch_add(1);
    for (int32_t seen = 0;;) {
        for (int spin = 0; spin < SPINS && announced.load(std::memory_order_acquire) == seen; ++spin) {
        }
        if (announced.load(std::memory_order_acquire) == seen) {
            sleeping.fetch_add(1, std::memory_order_seq_cst);
            __builtin_wasm_memory_atomic_wait32(reinterpret_cast<int32_t*>(&announced), seen, FOR_EVER);
            sleeping.fetch_sub(1, std::memory_order_seq_cst);
        }
        seen = announced.load(std::memory_order_acquire);
        take_tasks();
    }
}

}  // namespace tinydiff
