// memory.h for WebAssembly. What kernels take is scratch, last in, first out: so each thread has a stack of its own. It
// lies in pieces, for memory grows at its end alone, where another thread's may be by then.
#include "memory.h"

#include <atomic>

#include "engine.h"

namespace tinydiff {
namespace {

constexpr size_t LINE = 64;
constexpr size_t PAGE = 64 << 10;  // what memory grows by
constexpr size_t FIRST_PIECE = 1 << 20;
constexpr int MOST_PIECES = 12;  // each at least twice the one before

struct Piece {
    uintptr_t start, end, top;
};

#ifdef TINYDIFF_THREADS
#define EACH_THREAD thread_local
#else
#define EACH_THREAD
#endif

EACH_THREAD Piece pieces[MOST_PIECES];
EACH_THREAD int made = 0, current = -1;
std::atomic<bool> is_exhausted{false};

// Another piece with so much room becomes the current one. Those that are too small stay empty meanwhile.
void next_piece(size_t bytes) {
    for (int next = current + 1; next < made; ++next)
        if (pieces[next].end - pieces[next].start >= bytes) {
            current = next;
            return;
        }
    size_t size = FIRST_PIECE << made;
    if (size < bytes) size = bytes;
    void* memory = made < MOST_PIECES ? grow(size) : nullptr;
    if (!memory) {
        is_exhausted = true;
        __builtin_trap();
    }
    const auto start = reinterpret_cast<uintptr_t>(memory);
    current = made++;
    pieces[current] = {start, start + (size + PAGE - 1) / PAGE * PAGE, start};
}

}  // namespace

void* grow(size_t bytes) {
    const size_t before = __builtin_wasm_memory_grow(0, (bytes + PAGE - 1) / PAGE);
    return before == SIZE_MAX ? nullptr : reinterpret_cast<void*>(before * PAGE);
}

bool exhausted() { return is_exhausted; }

void* take_scratch(size_t bytes) {
    bytes = (bytes / LINE + 1) * LINE;  // at least one line, so that no two blocks begin at the same place
    if (current < 0 || pieces[current].end - pieces[current].top < bytes) next_piece(bytes);
    Piece& piece = pieces[current];
    const uintptr_t at = piece.top;
    piece.top += bytes;
    return reinterpret_cast<void*>(at);
}

void give_scratch(void* memory) noexcept {
    const auto at = reinterpret_cast<uintptr_t>(memory);
    while (at < pieces[current].start || at >= pieces[current].end) --current;
    pieces[current].top = at;
    if (at == pieces[current].start && current > 0) --current;
}

}  // namespace tinydiff
