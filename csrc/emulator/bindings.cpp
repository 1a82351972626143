// The Python module ``tinydiff.backends._emulator``: launches kernels of csrc/cuda on NumPy arrays.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <string>
#include <vector>

#include "kernel_table.h"
#include "machine.h"

#ifndef TINYDIFF_MODULE
#define TINYDIFF_MODULE _emulator
#endif

namespace tinydiff::emulator {
namespace {

namespace py = pybind11;

uint64_t seed = 0;

std::string name_of(const Parameter& parameter) {
    if (parameter.kind == 'b') return "bool";
    if (parameter.kind == 'V') return "bfloat16";
    const std::string kind = parameter.kind == 'f' ? "float" : parameter.kind == 'i' ? "int" : "uint";
    return kind + std::to_string(8 * parameter.size);
}

// Room for one argument's value: a pointer or a number.
union Value {
    void* pointer;
    unsigned char number[8];
};

// A GPU would take any bits; here what does not fit the kernel's declaration is a TypeError.
Value convert(const std::string& what, const Parameter& parameter, const py::object& given) {
    Value value{nullptr};
    if (parameter.pointer && given.is_none()) return value;
    auto require = [&](bool condition, const std::string& expected) {
        if (condition) return;
        const std::string type = Py_TYPE(given.ptr())->tp_name;
        throw py::type_error(what + " must be " + expected + ", got " +
                             (py::hasattr(given, "dtype") ? std::string(py::str(given.attr("dtype"))) + " " : "") +
                             type);
    };
    const bool array = py::isinstance<py::array>(given);
    require(array == parameter.pointer && (array || py::hasattr(given, "dtype")),
            (parameter.pointer ? "an array of " : "a NumPy scalar of ") + name_of(parameter));
    const auto values = py::array::ensure(given);
    const auto dtype = values.dtype();
    require(dtype.kind() == parameter.kind && static_cast<size_t>(dtype.itemsize()) == parameter.size &&
                (dtype.kind() != 'V' || std::string(py::str(dtype)) == name_of(parameter)),
            name_of(parameter));
    if (!parameter.pointer) {
        std::memcpy(value.number, values.data(), parameter.size);
        return value;
    }
    require(values.flags() & py::array::c_style, "C-contiguous");
    require(!parameter.writes || values.writeable(), "writeable");
    value.pointer = const_cast<void*>(values.data());
    return value;
}

void launch(const std::string& name, std::array<unsigned, 3> grid, std::array<unsigned, 3> block, size_t shared_bytes,
            const std::vector<py::object>& given) {
    const auto found = kernels().find(name);
    if (found == kernels().end()) throw py::key_error("no kernel is called " + name);
    const Kernel& kernel = found->second;
    if (given.size() != kernel.parameters.size())
        throw py::type_error(name + " takes " + std::to_string(kernel.parameters.size()) + " arguments, got " +
                             std::to_string(given.size()));
    std::vector<Value> values;
    for (size_t i = 0; i < given.size(); ++i)
        values.push_back(convert(name + ": argument " + std::to_string(i), kernel.parameters[i], given[i]));
    std::vector<void*> arguments;
    for (auto& value : values) arguments.push_back(&value);
    run({name, {grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, shared_bytes, seed},
        [&] { kernel.thread(arguments.data()); });
}

}  // namespace
}  // namespace tinydiff::emulator

PYBIND11_MODULE(TINYDIFF_MODULE, m) {
    using namespace tinydiff::emulator;
    m.doc() = "csrc/cuda on a CPU; used through tinydiff.backends.cuda.";
    m.def("launch", &launch, "kernel, grid, block, shared_bytes, arguments: arrays, None or NumPy scalars.");
    m.def("use_seed", [](uint64_t number) { seed = number; }, "The seed of the order in which threads run.");
    m.def("kernels", [] {
        std::vector<std::string> names;
        for (const auto& each : kernels()) names.push_back(each.first);
        return names;
    });
}
