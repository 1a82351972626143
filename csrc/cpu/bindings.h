// What the files of bindings share.
#pragma once

#include <exception>

#include "array.h"
#include "kernels.h"

namespace tinydiff {

using py::object;
using Array = py::array_t<float>;

// Those of the chosen instruction set, and of them those of a model in a precision.
extern const Kernels* kernels;
template <class Real>
const ModelKernels<Real>& kernels_of() {
    if constexpr (std::is_same<Real, float>::value)
        return kernels->fp32;
    else
        return kernels->bf16;
}

// What PyEval_RestoreThread does, except that a daemon thread whose interpreter has ended meanwhile stays here until
// the process ends. Python before 3.14 ends such a thread by unwinding its stack, and the frames below are C++ that
// must not be left so: they would free arrays without the interpreter's lock, and then end the process with an error.
void lock_again(PyThreadState* thread);

// Run a kernel while other Python threads may go on.
template <class Kernel>
void unlocked(const Kernel& kernel) {
    PyThreadState* const thread = PyEval_SaveThread();
    std::exception_ptr failure;
    try {
        kernel();
    } catch (...) {  // memory ran out
        failure = std::current_exception();
    }
    lock_again(thread);
    if (failure) std::rethrow_exception(failure);
}

// The ops of a transformer's blocks in one precision, into its module.
template <class Real>
void add_transformer_ops(py::module_& m);

// The ops of training that are no part of a model, into the module.
void add_training_ops(py::module_& m);

// The class that runs programs.
void add_programs(py::module_& m);

}  // namespace tinydiff
