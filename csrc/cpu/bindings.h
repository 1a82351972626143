// What the files of bindings share.
#pragma once

#include "array.h"
#include "kernels.h"

namespace tinydiff {

using py::object;
using Array = py::array_t<float>;

// Those of the chosen instruction set.
extern const Kernels* kernels;

// Run a kernel while other Python threads may go on.
template <class Kernel>
void unlocked(const Kernel& kernel) {
    py::gil_scoped_release release;
    kernel();
}

// The ops of training that are no part of a model, into the module.
void add_training_ops(py::module_& m);

// The class that runs programs.
void add_programs(py::module_& m);

}  // namespace tinydiff
