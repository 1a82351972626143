// One pool of threads for all kernels.
//
// A kernel splits its work into tasks by the shapes alone, never by the number of threads, and no task reads what
// another writes: so results have the same bits on one thread and on many.
#pragma once

#include <cstdint>

namespace tinydiff {

// How many threads work, this one included; at first only this one. They are made when there is work for them: as many
// as the system gives, which is said on stderr where it gives fewer.
int threads();
void use_threads(int count);

// Call task(context, i) for every i in [0, count), on all threads; returns when all are done, and throws what one of
// them threw. From within a task, or while another caller holds the pool, the calls are made here one after another.
void run_tasks(int64_t count, void (*task)(const void* context, int64_t i), const void* context);

template <class Body>
void parallel_for(int64_t count, const Body& body) {
    run_tasks(count, [](const void* context, int64_t i) { (*static_cast<const Body*>(context))(i); }, &body);
}

}  // namespace tinydiff
