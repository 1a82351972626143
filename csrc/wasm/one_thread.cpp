// parallel.h for one thread.
#include "parallel.h"

namespace tinydiff {

int threads() { return 1; }

void use_threads(int) {}

void run_tasks(int64_t count, void (*task)(const void* context, int64_t i), const void* context) {
    for (int64_t i = 0; i < count; ++i) task(context, i);
}

}  // namespace tinydiff
