#include "memory.h"

#include <cstdlib>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <unordered_map>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace tinydiff {
namespace {

constexpr size_t LINE = 64;

// Without recycling a block has exactly the size asked for and is gone once given back: so AddressSanitizer sees
// whatever reaches beyond it, or comes too late (tests/kernels/test_sanitizers.py).
#ifdef TINYDIFF_NO_RECYCLING
constexpr bool RECYCLING = false;
#else
constexpr bool RECYCLING = true;
#endif

struct Block {
    size_t bytes;
    void* memory;
};

class Recycler {
   public:
    void* take(size_t bytes) {
        if (RECYCLING) bytes = rounded(bytes);
        std::lock_guard<std::mutex> lock(mutex_);
        void* memory;
        auto found = free_by_size_.lower_bound(bytes);
        if (found != free_by_size_.end() && found->first <= bytes + bytes / 4) {
            bytes = found->first;
            memory = found->second->memory;
            free_by_age_.erase(found->second);
            free_by_size_.erase(found);
            state_.kept -= bytes;
        } else {
            memory = fresh(bytes);
        }
        in_use_[memory] = bytes;
        state_.in_use += bytes;
        if (state_.in_use > most_in_use_) most_in_use_ = state_.in_use;
        return memory;
    }

    void give(void* memory) {
        std::lock_guard<std::mutex> lock(mutex_);
        auto found = in_use_.find(memory);
        const size_t bytes = found->second;
        in_use_.erase(found);
        free_by_age_.push_back({bytes, memory});
        free_by_size_.emplace(bytes, std::prev(free_by_age_.end()));
        state_.in_use -= bytes;
        state_.kept += bytes;
        if (!RECYCLING) drop_oldest();
    }

    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }

    MemoryState state() {
        std::lock_guard<std::mutex> lock(mutex_);
        return state_;
    }

   private:
    using ByAge = std::list<Block>;

    // Sizes in eighths of a power of two, so that arrays of about one size share blocks.
    static size_t rounded(size_t bytes) {
        size_t step = LINE;
        while (step * 16 <= bytes) step *= 2;
        return bytes == 0 ? LINE : (bytes + step - 1) / step * step;
    }

    // New memory from the system. What is kept may make the whole an eighth larger than was ever in use at once;
    // beyond that the block that waited longest goes back first.
    void* fresh(size_t bytes) {
        const size_t in_use = state_.in_use + bytes;
        const size_t most = in_use > most_in_use_ ? in_use : most_in_use_;
        while (in_use + state_.kept > most + most / 8 && !free_by_age_.empty()) drop_oldest();
        for (;;) {
            void* memory = nullptr;
            if (posix_memalign(&memory, LINE, bytes) == 0) return memory;
            if (free_by_age_.empty()) throw std::bad_alloc();
            drop_oldest();
        }
    }

    void drop_oldest() {
        const auto oldest = free_by_age_.begin();
        auto found = free_by_size_.lower_bound(oldest->bytes);
        while (found->second != oldest) ++found;
        state_.kept -= oldest->bytes;
        std::free(oldest->memory);
        free_by_size_.erase(found);
        free_by_age_.pop_front();
    }

    std::mutex mutex_;
    ByAge free_by_age_;
    std::multimap<size_t, ByAge::iterator> free_by_size_;
    std::unordered_map<void*, size_t> in_use_;
    size_t most_in_use_ = 0;
    MemoryState state_{0, 0};
};

// never destroyed: arrays may be freed while the interpreter shuts down
Recycler& recycler() {
    static Recycler* the = new Recycler;
    return *the;
}

#if defined(__unix__) || defined(__APPLE__)
// a forked child must not find the lock held by a thread it does not have
const int fork_handler =
    pthread_atfork([] { recycler().lock(); }, [] { recycler().unlock(); }, [] { recycler().unlock(); });
#endif

}  // namespace

void* take_memory(size_t bytes) { return recycler().take(bytes); }
void give_memory(void* memory) noexcept { recycler().give(memory); }
MemoryState memory_state() { return recycler().state(); }

}  // namespace tinydiff
