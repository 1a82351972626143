#include "memory.h"

#include <pthread.h>
#include <sys/mman.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace tinydiff {
namespace {

constexpr size_t LINE = 64;
constexpr size_t HUGE_PAGE = 2 << 20;
constexpr size_t REGION = 256 << 20;  // addresses asked for at once; memory stands behind those in use alone

// Without recycling a block has exactly the size asked for and is gone once given back: so AddressSanitizer sees
// whatever reaches beyond it, or comes too late (tests/kernels/test_sanitizers.py).
#ifdef TINYDIFF_NO_RECYCLING
constexpr bool RECYCLING = false;
#else
constexpr bool RECYCLING = true;
#endif

size_t round_up(size_t bytes, size_t multiple) { return (bytes + multiple - 1) / multiple * multiple; }

// Blocks are cut from a few large regions: the smallest free block that is large enough, the lowest of such, gives its
// first part, and what is given back joins its free neighbours. So memory once touched serves arrays of any size, and a
// steady state takes nothing from the system. Regions ask for huge pages: a kernel that writes dozens of streams at
// once would else need an address translation for each.
class Recycler {
   public:
    void* take(size_t bytes) {
        bytes = round_up(bytes == 0 ? 1 : bytes, LINE);
        std::lock_guard<std::mutex> lock(mutex_);
        auto found = by_size_.lower_bound({bytes, nullptr});
        if (found == by_size_.end()) {
            add_region(bytes);
            found = by_size_.lower_bound({bytes, nullptr});
        }
        const auto [size, start] = *found;
        by_size_.erase(found);
        by_address_.erase(start);
        if (size > bytes) add_free(start + bytes, size - bytes);
        in_use_.emplace(start, bytes);
        state_.in_use += bytes;
        touch(start + bytes);
        return start;
    }

    void give(void* memory) {
        std::lock_guard<std::mutex> lock(mutex_);
        const auto found = in_use_.find(memory);
        char* start = static_cast<char*>(memory);
        size_t size = found->second;
        in_use_.erase(found);
        state_.in_use -= size;

        const auto after = by_address_.lower_bound(start);
        if (after != by_address_.end() && start + size == after->first) size += remove_free(after);
        const auto next = by_address_.lower_bound(start);
        if (next != by_address_.begin()) {
            const auto before = std::prev(next);
            if (before->first + before->second == start) {
                start = before->first;
                size += remove_free(before);
            }
        }
        add_free(start, size);
    }

    void lock() { mutex_.lock(); }
    void unlock() { mutex_.unlock(); }

    MemoryState state() {
        std::lock_guard<std::mutex> lock(mutex_);
        size_t touched = 0;
        for (const Region& region : regions_) touched += region.touched - region.start;
        return {state_.in_use, touched - state_.in_use};
    }

   private:
    struct Region {
        char *start, *touched, *end;  // no address from ``touched`` on was ever handed out
    };
    using ByAddress = std::map<char*, size_t>;

    void add_free(char* start, size_t size) {
        by_address_.emplace(start, size);
        by_size_.emplace(size, start);
    }

    size_t remove_free(ByAddress::iterator block) {
        const size_t size = block->second;
        by_size_.erase({size, block->first});
        by_address_.erase(block);
        return size;
    }

    void touch(char* end) {
        for (Region& region : regions_)
            if (region.start < end && end <= region.end && end > region.touched) region.touched = end;
    }

    void add_region(size_t bytes) {
        for (size_t size : {bytes > REGION ? bytes : REGION, bytes}) {
            size = round_up(size, HUGE_PAGE) + HUGE_PAGE;
            void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
            if (memory == MAP_FAILED) continue;
            char* const start = reinterpret_cast<char*>(round_up(reinterpret_cast<uintptr_t>(memory), HUGE_PAGE));
            char* const end = static_cast<char*>(memory) + size;
#ifdef MADV_HUGEPAGE
            madvise(start, end - start, MADV_HUGEPAGE);
#endif
            regions_.push_back({start, start, end});
            add_free(start, end - start);
            return;
        }
        throw std::bad_alloc();
    }

    std::mutex mutex_;
    std::vector<Region> regions_;
    ByAddress by_address_;                        // the free blocks
    std::set<std::pair<size_t, char*>> by_size_;  // the same
    std::unordered_map<void*, size_t> in_use_;
    MemoryState state_{0, 0};
};

// never destroyed: arrays may be freed while the interpreter shuts down
Recycler& recycler() {
    static Recycler* the = new Recycler;
    return *the;
}

// Each thread's own memory for scratch: no thread waits for another's lock, and what one takes lies in its caches from
// the time before.
class Stack {
   public:
    ~Stack() {
        if (start_) recycler().give(start_);
    }

    // Null where there is no room for it.
    void* take(size_t bytes) {
        if (!start_) start_ = static_cast<char*>(recycler().take(SIZE));
        bytes = round_up(bytes == 0 ? 1 : bytes, LINE);
        if (bytes > SIZE - top_) return nullptr;
        top_ += bytes;
        return start_ + top_ - bytes;
    }

    // Whether it was taken here; then so was all that was taken since.
    bool give(void* memory) {
        const size_t at = static_cast<size_t>(static_cast<char*>(memory) - start_);
        if (!start_ || at >= SIZE) return false;
        top_ = at;
        return true;
    }

   private:
    static constexpr size_t SIZE = HUGE_PAGE;
    char* start_ = nullptr;
    size_t top_ = 0;
};

thread_local Stack stack;

// a forked child must not find the lock held by a thread it does not have
const int fork_handler =
    pthread_atfork([] { recycler().lock(); }, [] { recycler().unlock(); }, [] { recycler().unlock(); });

}  // namespace

void* take_memory(size_t bytes) {
    if (RECYCLING) return recycler().take(bytes);
    void* memory = nullptr;
    if (posix_memalign(&memory, LINE, bytes == 0 ? 1 : bytes) != 0) throw std::bad_alloc();
    return memory;
}

void give_memory(void* memory) noexcept { RECYCLING ? recycler().give(memory) : std::free(memory); }

void* take_scratch(size_t bytes) {
    if (RECYCLING)
        if (void* memory = stack.take(bytes)) return memory;
    return take_memory(bytes);
}

void give_scratch(void* memory) noexcept {
    if (!RECYCLING || !stack.give(memory)) give_memory(memory);
}

MemoryState memory_state() { return recycler().state(); }

}  // namespace tinydiff
