// Programs, run without Python between their calls.
#include <pybind11/stl.h>

#include <chrono>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "bindings.h"
#include "program.h"

namespace tinydiff {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto BETWEEN_SIGNALS = std::chrono::milliseconds(50);

// Looks from time to time whether a signal waits for Python, such as that of Ctrl-C.
struct Signals {
    PyThreadState* thread;  // this one, which let go of the interpreter
    Clock::time_point looked = Clock::now();
    bool raised = false;

    static bool go_on(void* self) { return static_cast<Signals*>(self)->look(); }
    bool look() {
        const auto now = Clock::now();
        if (now - looked < BETWEEN_SIGNALS) return true;
        looked = now;
        lock_again(thread);
        raised = PyErr_CheckSignals() != 0;
        PyEval_SaveThread();
        return !raised;
    }
};

// Words whose pointers count from ``base``. Whoever made them keeps the arrays they point to.
class Program {
 public:
    Program(std::vector<int64_t> words, uintptr_t base) : words_(std::move(words)), base_(base) {}

    // The position of the check that failed, or -1. One thread at a time: they would share the arena.
    int64_t run() {
        Signals signals{PyThreadState_Get()};
        int64_t reached = 0;
        const int64_t count = static_cast<int64_t>(words_.size());
        unlocked([&] {
            const std::lock_guard<std::mutex> lock(running_);
            reached = run_program(*kernels, words_.data(), count, base_, &Signals::go_on, &signals);
        });
        if (signals.raised) throw py::error_already_set();
        return reached == count ? -1 : reached;
    }

 private:
    const std::vector<int64_t> words_;
    const uintptr_t base_;
    std::mutex running_;
};

// The bytes that the filters of a convolution take once they are prepared, 0 where they are used as they stand.
template <class Real>
int64_t prepared_bytes(const std::vector<int64_t>& geometry) {
    const auto& g = geometry;
    const Conv conv{g.at(0), g.at(1), g.at(2), g.at(3), g.at(4),  g.at(5),
                    g.at(6), g.at(7), g.at(8), g.at(9), g.at(10), static_cast<Conv2dVersion>(g.at(11))};
    int64_t bytes = 0;
    kernels_of<Real>().conv2d_prepared_bytes(&bytes, conv);
    return bytes;
}

}  // namespace

void add_programs(py::module_& m) {
    m.def("prepared_bytes", [](const std::string& dtype, const std::vector<int64_t>& geometry) {
        return dtype == "bfloat16" ? prepared_bytes<bfloat16>(geometry) : prepared_bytes<float>(geometry);
    });
    m.def(
        "program_kernels",
        [] {
            std::vector<std::string> names;
            while (const char* name = program_kernel(static_cast<int64_t>(names.size()))) names.emplace_back(name);
            return names;
        },
        "The names of a program's kernels, in the order of their numbers.");
    py::class_<Program>(m, "Program")
        .def(py::init<std::vector<int64_t>, uintptr_t>(), py::arg("words"), py::arg("base") = 0)
        .def("run", &Program::run);
}

}  // namespace tinydiff
