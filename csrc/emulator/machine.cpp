#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "fiber.h"
#include "races.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace tinydiff::emulator {
namespace {

constexpr unsigned MOST_THREADS = 1024, MOST_Z = 64, MOST_GRID_YZ = 65535, MOST_GRID_X = 2147483647;
constexpr size_t MOST_SHARED_BYTES = 99 * 1024, SHARED_ALIGNMENT = 16;

constexpr size_t PAGE = 4096, STEP = 5 * 64;

struct Copy {
    void* to;
    const void* from;
    int valid;
};

struct Thread {
    uint3 index;
    int id;  // in the block
    Context context;
    char* stack = nullptr;
    bool ended = false;
    const char* came_to = nullptr;  // the latest barrier or collective, where it may still wait
    Site site{};
    Clocks clocks{};
    size_t arrays = 0;           // of shared memory, that it has asked for
    std::vector<Copy> copies;    // not yet arrived, oldest first
    std::vector<size_t> groups;  // how many of them each committed group has

    unsigned lane() const { return static_cast<unsigned>(id % WARP); }
};

// Lanes of one warp on their way to one collective.
struct Meeting {
    unsigned mask, arrived;
    const char* what;
    Site site;
    void* brought[WARP];
};

struct SharedArray {
    char* data;
    size_t bytes, offset;
};

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

std::string text(Site site) {
    const char* slash = std::strrchr(site.file, '/');
    return std::string(slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
}

// 0-31, 64 and the like
std::string text(const std::vector<int>& ids) {
    std::string out;
    for (size_t i = 0; i < ids.size();) {
        size_t last = i;
        while (last + 1 < ids.size() && ids[last + 1] == ids[last] + 1) ++last;
        out += (out.empty() ? "" : ", ") + std::to_string(ids[i]);
        if (last > i) out += "-" + std::to_string(ids[last]);
        i = last + 1;
    }
    return (ids.size() == 1 ? "thread " : "threads ") + out;
}

void thread_entry();

// The one block that runs, and the seed's stream.
class Machine {
   public:
    Thread* current = nullptr;
    const Launch* launch = nullptr;
    const std::function<void()>* body = nullptr;

    void run_grid(const Launch& given, const std::function<void()>& thread) {
        launch = &given;
        body = &thread;
        state_ = given.seed;
        blockDim = given.block;
        gridDim = given.grid;
        const uint64_t blocks = uint64_t{given.grid.x} * given.grid.y * given.grid.z;
        const uint64_t first = random(blocks);
        const bool forwards = random(2) == 0;
        for (uint64_t i = 0; i < blocks; ++i) {
            const uint64_t at = (first + (forwards ? i : blocks - i)) % blocks;
            blockIdx = {static_cast<unsigned>(at % given.grid.x),
                        static_cast<unsigned>(at / given.grid.x % given.grid.y),
                        static_cast<unsigned>(at / given.grid.x / given.grid.y)};
            run_block();
        }
    }

    // Of the current thread: let others run until it is ready again.
    void wait() { switch_context(current->context, scheduler_); }

    void make_ready(Thread& thread) {
        (thread.id / WARP == late_warp_ ? ready_late_ : ready_).push_back(&thread);
    }

    void sync_threads(Site site) {
        come_to("__syncthreads()", site);
        int here = 1;
        for (const auto& count : at_barrier_)
            if (same(count.site, site)) here += count.threads;
        if (here < static_cast<int>(threads_.size())) {
            arrive(site);
            wait();
            return;
        }
        at_barrier_.clear();
        ++epoch_;
        draw_late_warp();
        for (auto& thread : threads_) make_ready(thread);  // the last to come has no privilege
        switch_context(current->context, scheduler_);
    }

    void meet(unsigned mask, const char* what, Site site, void* mine, Work work) {
        come_to(what, site);
        const unsigned bit = 1u << current->lane();
        if (!(mask & bit)) fail(std::string(what) + " at " + text(site) + ": the mask does not name its own lane");
        auto& meetings = meetings_[static_cast<size_t>(current->id / WARP)];
        size_t at = 0;
        while (at < meetings.size() && !(meetings[at].mask == mask && same(meetings[at].site, site) &&
                                         meetings[at].what == what && !(meetings[at].arrived & bit)))
            ++at;
        if (at == meetings.size()) meetings.push_back({mask, 0, what, site, {}});
        meetings[at].arrived |= bit;
        meetings[at].brought[current->lane()] = mine;
        if (meetings[at].arrived != mask) {
            wait();
            return;
        }
        const Meeting meeting = meetings[at];
        meetings.erase(meetings.begin() + static_cast<std::ptrdiff_t>(at));
        work(meeting.brought, mask);
        const int first = current->id / WARP * WARP;
        for (int lane = 0; lane < WARP; ++lane)
            if ((mask >> lane & 1) && first + lane != current->id)
                make_ready(threads_[static_cast<size_t>(first + lane)]);
    }

    void* shared_array(size_t bytes) {
        const size_t at = current->arrays++;
        if (at == arrays_.size()) {
            const size_t offset = carved_;
            carved_ += (bytes + SHARED_ALIGNMENT - 1) / SHARED_ALIGNMENT * SHARED_ALIGNMENT;
            if (carved_ > launch->shared_bytes)
                fail("uses " + std::to_string(carved_) + " bytes of shared memory, was launched with " +
                     std::to_string(launch->shared_bytes));
            char* data = static_cast<char*>(std::malloc(bytes));
            std::memset(data, POISON, bytes);
            arrays_.push_back({data, bytes, offset});
        }
        if (arrays_[at].bytes != bytes) fail("the threads of a block divide shared memory differently");
        return arrays_[at].data;
    }

    void accessed(const void* address, size_t bytes, bool writes) {
        const char* const begin = static_cast<const char*>(address);
        for (size_t i = 0; i < arrays_.size(); ++i) {
            if (begin < arrays_[i].data || begin >= arrays_[i].data + arrays_[i].bytes) continue;
            if (bytes_.size() < carved_) bytes_.resize(carved_);
            const size_t at = static_cast<size_t>(begin - arrays_[i].data);
            for (size_t byte = at; byte < std::min(at + bytes, arrays_[i].bytes); ++byte) {
                const Access now{epoch_, current->id, &current->clocks};
                auto& known = bytes_[arrays_[i].offset + byte];
                const int other = writes ? known.write(now) : known.read(now);
                if (other >= 0) fail_by_race(i, byte, writes, other);
            }
        }
    }

    [[noreturn]] void fail(const std::string& message) {
        error_ = message + " (" + text(std::vector<int>{current->id}) + ")";
        switch_context(current->context, scheduler_);
        std::abort();  // a thread that failed is never run again
    }

    void end_thread() {
        current->ended = true;
        stacks_.push_back(current->stack);
        switch_context(current->context, scheduler_);
    }

   private:
    struct Count {
        Site site;
        int threads;
    };

    void come_to(const char* what, Site site) {
        current->came_to = what;
        current->site = site;
    }

    void arrive(Site site) {
        for (auto& count : at_barrier_)
            if (same(count.site, site)) {
                ++count.threads;
                return;
            }
        at_barrier_.push_back({site, 1});
    }

    void run_block() {
        const dim3 block = launch->block;
        const size_t count = size_t{block.x} * block.y * block.z;
        if (threads_.size() != count) {
            threads_.clear();
            threads_.resize(count);
        }
        meetings_.assign((count + WARP - 1) / WARP, {});
        at_barrier_.clear();
        ready_.clear();
        ready_late_.clear();
        draw_late_warp();
        ++epoch_;
        for (size_t id = 0; id < count; ++id) {
            Thread& thread = threads_[id];
            const auto i = static_cast<unsigned>(id);
            thread.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
            thread.id = static_cast<int>(id);
            thread.stack = nullptr;
            thread.ended = false;
            thread.came_to = nullptr;
            thread.clocks = {};
            thread.clocks[thread.lane()] = 1;
            thread.arrays = 0;
            thread.copies.clear();
            thread.groups.clear();
            make_ready(thread);
        }
        carved_ = 0;
        error_.clear();

        while (error_.empty() && !(ready_.empty() && ready_late_.empty())) {
            auto& ready = ready_.empty() ? ready_late_ : ready_;
            const size_t at = random(ready.size());
            current = ready[at];
            ready[at] = ready.back();
            ready.pop_back();
            if (!current->stack) start(*current);
            threadIdx = current->index;
            switch_context(scheduler_, current->context);
        }
        for (const auto& array : arrays_) std::free(array.data);
        arrays_.clear();
        if (error_.empty()) error_ = who_still_waits();
        if (!error_.empty()) {
            take_back_stacks();
            throw std::runtime_error(launch->kernel + ", block (" + std::to_string(blockIdx.x) + ", " +
                                     std::to_string(blockIdx.y) + ", " + std::to_string(blockIdx.z) + "): " + error_);
        }
    }

    // Until the next barrier one warp, half of the time, runs only when all others must wait: warps that are chosen
    // fairly never get far apart, and what one does to the values that another has yet to read would not show.
    void draw_late_warp() { late_warp_ = static_cast<int>(random(2 * meetings_.size())); }

    [[noreturn]] void fail_by_race(size_t array, size_t byte, bool writes, int other) {
        fail("a race for byte " + std::to_string(byte) + " of array " + std::to_string(array) +
             " of shared memory: between " + (writes ? "a write" : "a read") + " by thread " +
             std::to_string(current->id) + ", " +
             (current->came_to ? "after " + std::string(current->came_to) + " at " + text(current->site) : "at once") +
             ", and an access by thread " + std::to_string(other) + " there is no barrier");
    }

    // Empty if nobody does.
    std::string who_still_waits() const {
        std::vector<int> ended;
        struct Group {
            const char* what;
            Site site;
            std::vector<int> ids;
        };
        std::vector<Group> groups;
        for (const auto& thread : threads_) {
            if (thread.ended) {
                ended.push_back(thread.id);
                continue;
            }
            size_t at = 0;
            while (at < groups.size() && !(groups[at].what == thread.came_to && same(groups[at].site, thread.site)))
                ++at;
            if (at == groups.size()) groups.push_back({thread.came_to, thread.site, {}});
            groups[at].ids.push_back(thread.id);
        }
        std::string out;
        for (const auto& group : groups)
            out += (out.empty() ? "not all come to " : "; ") + std::string(group.what) + " at " + text(group.site) +
                   ": " + text(group.ids) + (group.ids.size() == 1 ? " waits" : " wait");
        if (!out.empty() && !ended.empty())
            out += "; " + text(ended) + (ended.size() == 1 ? " has" : " have") + " ended";
        return out;
    }

    // A thread that never waits gives its stack, warm, to the next.
    void start(Thread& thread) {
        if (stacks_.empty()) {
            all_stacks_.push_back(std::make_unique<char[]>(STACK_BYTES + PAGE));
            stacks_.push_back(inside_page(all_stacks_.size() - 1));
        }
        thread.stack = stacks_.back();
        stacks_.pop_back();
#ifdef __SANITIZE_ADDRESS__
        __asan_unpoison_memory_region(thread.stack, STACK_BYTES);  // a thread that failed left its variables behind
#endif
        begin(thread.context, thread.stack, thread_entry);
    }

    void take_back_stacks() {
        stacks_.clear();
        for (size_t i = 0; i < all_stacks_.size(); ++i) stacks_.push_back(inside_page(i));
    }

    // Stacks that all began at the same place of a page would share a few lines of the cache.
    char* inside_page(size_t i) const { return all_stacks_[i].get() + i * STEP % PAGE; }

    // splitmix64
    uint64_t random(uint64_t below) {
        uint64_t z = state_ += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        z ^= z >> 31;
        return below >> 32 ? z % below : ((z >> 32) * below) >> 32;
    }

    std::vector<Thread> threads_;
    std::vector<Thread*> ready_, ready_late_;
    int late_warp_ = 0;
    std::vector<Count> at_barrier_;
    std::vector<std::vector<Meeting>> meetings_;  // of each warp
    std::vector<SharedArray> arrays_;
    size_t carved_ = 0;
    uint64_t epoch_ = 0;  // grows for ever, so that what is known of bytes need never be cleared
    std::vector<Byte> bytes_;
    std::string error_;
    std::vector<std::unique_ptr<char[]>> all_stacks_;
    std::vector<char*> stacks_;  // those free
    Context scheduler_;
    uint64_t state_ = 0;
};

Machine machine;
bool accesses_are_seen = false;

void thread_entry() {
    (*machine.body)();
    machine.end_thread();
}

}  // namespace

void run(const Launch& launch, const std::function<void()>& thread) {
    auto require = [&](bool condition, const std::string& message) {
        if (!condition) throw std::runtime_error(launch.kernel + ": " + message);
    };
    auto text = [](dim3 d) {
        return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
    };
    const dim3 grid = launch.grid, block = launch.block;
    const uint64_t threads = uint64_t{block.x} * block.y * block.z;
    require(threads >= 1 && threads <= MOST_THREADS && block.z <= MOST_Z,
            "a block has 1 to 1024 threads, 64 at most in z, got " + text(block));
    require(grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= MOST_GRID_X && grid.y <= MOST_GRID_YZ &&
                grid.z <= MOST_GRID_YZ,
            "a grid has 1 to 2147483647 blocks in x and 1 to 65535 in y and z, got " + text(grid));
    require(launch.shared_bytes <= MOST_SHARED_BYTES,
            "a block has 101376 bytes of shared memory at most, got " + std::to_string(launch.shared_bytes));
    machine.run_grid(launch, thread);
}

void sync_threads(Site site) { machine.sync_threads(site); }

void meet(unsigned mask, const char* what, Site site, void* mine, Work work) {
    machine.meet(mask, what, site, mine, work);
}

void sync_warp(unsigned mask, Site site) {
    machine.meet(mask, "__syncwarp()", site, &machine.current->clocks, [](void* const brought[WARP], unsigned named) {
        Clocks* lanes[WARP];
        for (int lane = 0; lane < WARP; ++lane) lanes[lane] = static_cast<Clocks*>(brought[lane]);
        join(lanes, named);
    });
}

void see_accesses() { accesses_are_seen = true; }

void accessed(const void* address, size_t bytes, bool writes) {
    if (accesses_are_seen) machine.accessed(address, bytes, writes);
}

void* shared_array(size_t bytes) { return machine.shared_array(bytes); }

void copy_async(void* to, const void* from, int valid) {
    require_aligned(to, 16);
    require_aligned(from, 16);
    accessed(to, 16, true);
    std::memset(to, POISON, 16);
    machine.current->copies.push_back({to, from, valid});
}

void commit_copies() {
    Thread& thread = *machine.current;
    size_t earlier = 0;
    for (const size_t size : thread.groups) earlier += size;
    thread.groups.push_back(thread.copies.size() - earlier);
}

void wait_copies(int all_but_latest) {
    Thread& thread = *machine.current;
    const size_t latest = static_cast<size_t>(all_but_latest);
    const size_t arriving = thread.groups.size() > latest ? thread.groups.size() - latest : 0;
    size_t copies = 0;
    for (size_t i = 0; i < arriving; ++i) copies += thread.groups[i];
    for (size_t i = 0; i < copies; ++i) {
        const Copy& copy = thread.copies[i];
        accessed(copy.to, 16, true);
        std::memset(copy.to, 0, 16);
        if (copy.valid) std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.valid));
    }
    thread.copies.erase(thread.copies.begin(), thread.copies.begin() + static_cast<std::ptrdiff_t>(copies));
    thread.groups.erase(thread.groups.begin(), thread.groups.begin() + static_cast<std::ptrdiff_t>(arriving));
}

void require_aligned(const void* address, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(address) % bytes)
        fail("an access of " + std::to_string(bytes) + " bytes at an address that is not aligned to them");
}

void fail(const std::string& message) { machine.fail(message); }

}  // namespace tinydiff::emulator
