#include "parallel.h"

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace tinydiff {
namespace {

thread_local bool inside_task = false;

void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// How often an idle thread looks for work before it sleeps: some tens of microseconds, the usual gap between
// two operations of a training step.
constexpr int SPINS = 2000;

class Pool {
   public:
    // Where the system gives fewer threads, for want of memory or by a limit, those it gives do all the work.
    explicit Pool(int count) {
        try {
            workers_.reserve(static_cast<size_t>(count - 1));
            for (int i = 1; i < count; ++i) workers_.emplace_back([this, i] { work(i % 2 ? BACK : FRONT); });
        } catch (const std::exception& error) {
            static bool said = false;
            if (!said)
                std::fprintf(stderr, "tinydiff: %d of %d threads could be made (%s); computing goes on with those\n",
                             size(), count, error.what());
            said = true;
        }
    }

    ~Pool() {
        stopping_ = true;
        announce();
        for (auto& worker : workers_) worker.join();
    }

    int size() const { return static_cast<int>(workers_.size()) + 1; }

    void run(int64_t count, void (*task)(const void*, int64_t), const void* context) {
        task_ = task;
        context_ = context;
        count_ = count;
        at_once_ = (count + MOST - 1) / MOST;
        const int64_t claims = (count + at_once_ - 1) / at_once_;
        finished_.store(0, std::memory_order_relaxed);
        left_.store(job_after(left_.load(std::memory_order_relaxed)) | static_cast<uint64_t>(claims),
                    std::memory_order_release);
        announce();
        take_tasks(FRONT);
        for (int spin = 0; finished_.load(std::memory_order_acquire) != claims; ++spin)
            spin < SPINS ? pause() : std::this_thread::yield();  // the worker may be waiting for this very core
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

   private:
    // One word holds the job's number and which claims are left to take, from its first to before its last: so a thread
    // that comes late cannot take one of a job that is over.
    static constexpr int BITS = 16;  // of first and of last
    static constexpr int64_t MOST = (1 << BITS) - 1;
    static uint64_t job_after(uint64_t left) { return ((left >> 2 * BITS) + 1) << 2 * BITS; }

    // Half of the threads take from either end: most of what one of two works on in a job is where it worked in the job
    // before, and in its cache.
    enum End { FRONT, BACK };

    void take_tasks(End end) {
        inside_task = true;
        uint64_t left = left_.load(std::memory_order_acquire);
        for (;;) {
            const int64_t first = left >> BITS & MOST, last = left & MOST;
            if (first == last) break;
            const uint64_t after = end == FRONT ? left + (uint64_t{1} << BITS) : left - 1;
            if (!left_.compare_exchange_weak(left, after, std::memory_order_acq_rel, std::memory_order_acquire))
                continue;
            // the job cannot end, nor its fields change, before this claim is finished
            const int64_t begin = (end == FRONT ? first : last - 1) * at_once_;
            try {
                for (int64_t i = begin; i < begin + at_once_ && i < count_; ++i) task_(context_, i);
            } catch (...) {  // memory ran out: the caller hears of it when all tasks are over
                std::lock_guard<std::mutex> lock(failure_mutex_);
                failure_ = std::current_exception();
            }
            finished_.fetch_add(1, std::memory_order_release);
            left = left_.load(std::memory_order_acquire);
        }
        inside_task = false;
    }

    void work(End end) {
        uint64_t seen = 0;
        for (;;) {
            for (int spin = 0; spin < SPINS && announced_.load(std::memory_order_acquire) == seen; ++spin) pause();
            if (announced_.load(std::memory_order_acquire) == seen) {
                std::unique_lock<std::mutex> lock(sleep_mutex_);
                sleeping_.fetch_add(1, std::memory_order_seq_cst);
                wake_.wait(lock, [&] { return announced_.load(std::memory_order_seq_cst) != seen; });
                sleeping_.fetch_sub(1, std::memory_order_relaxed);
            }
            seen = announced_.load(std::memory_order_acquire);
            if (stopping_) return;
            take_tasks(end);
        }
    }

    void announce() {
        announced_.fetch_add(1, std::memory_order_seq_cst);
        if (sleeping_.load(std::memory_order_seq_cst) == 0) return;
        std::lock_guard<std::mutex> lock(sleep_mutex_);
        wake_.notify_all();
    }

    std::vector<std::thread> workers_;
    std::mutex failure_mutex_;
    std::exception_ptr failure_;
    std::mutex sleep_mutex_;
    std::condition_variable wake_;
    std::atomic<int> sleeping_{0};
    std::atomic<bool> stopping_{false};

    // in one cache line what a job is, in others what threads write while it lasts
    alignas(64) std::atomic<uint64_t> announced_{0};
    void (*task_)(const void*, int64_t) = nullptr;
    const void* context_ = nullptr;
    int64_t count_ = 0, at_once_ = 1;  // tasks, and how many a claim takes
    alignas(64) std::atomic<uint64_t> left_{0};
    alignas(64) std::atomic<int64_t> finished_{0};
};

std::mutex pool_mutex;  // held by whoever runs a job or replaces the pool
Pool* pool = nullptr;   // never deleted at exit: its threads may still be waiting
int wanted = 1;

#if defined(__unix__) || defined(__APPLE__)
// A forked child has the memory but not the threads: it starts a pool of its own when it needs one.
void after_fork_in_child() {
    pool = nullptr;
    new (&pool_mutex) std::mutex;
    inside_task = false;
}
const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork_in_child);
#endif

}  // namespace

int threads() {
    std::lock_guard<std::mutex> lock(pool_mutex);
    return pool ? pool->size() : wanted;
}

void use_threads(int count) {
    std::lock_guard<std::mutex> lock(pool_mutex);
    if (wanted == count) return;
    wanted = count;
    delete pool;
    pool = nullptr;
}

void run_tasks(int64_t count, void (*task)(const void* context, int64_t i), const void* context) {
    if (count > 1 && !inside_task) {
        std::unique_lock<std::mutex> lock(pool_mutex, std::try_to_lock);
        if (lock.owns_lock()) {
            if (!pool) pool = new Pool(wanted);
            if (pool->size() > 1) {
                pool->run(count, task, context);
                return;
            }
        }
    }
    for (int64_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace tinydiff
