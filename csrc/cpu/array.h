// NumPy arrays as kernels may use them: checked on the way in, recycled memory on the way out.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels.h"
#include "memory.h"

namespace tinydiff {

namespace py = pybind11;
using Sizes = std::vector<py::ssize_t>;

inline std::string text(const Sizes& shape) {
    std::ostringstream out;
    out << '(';
    for (size_t i = 0; i < shape.size(); ++i) out << (i ? ", " : "") << shape[i];
    out << (shape.size() == 1 ? ",)" : ")");
    return out.str();
}

inline Sizes shape_of(const py::array& array) { return Sizes(array.shape(), array.shape() + array.ndim()); }
inline Sizes shape_of(const py::object& array) { return shape_of(py::reinterpret_borrow<py::array>(array)); }
inline int64_t count_of(const py::object& array) { return py::reinterpret_borrow<py::array>(array).size(); }

// NumPy's dtype of bfloat16, which the package ml_dtypes brings.
inline const py::dtype& bfloat16_dtype() {
    static const auto* const dtype =
        new py::dtype(py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16")));
    return *dtype;
}

// An array of such numbers.
class Bfloat16Array : public py::array {
 public:
    Bfloat16Array() : py::array() {}
    explicit Bfloat16Array(py::array array) : py::array(std::move(array)) {}
    bfloat16* mutable_data() { return static_cast<bfloat16*>(py::array::mutable_data()); }
};
template <class Number>
using ArrayOf =
    typename std::conditional<std::is_same<Number, bfloat16>::value, Bfloat16Array, py::array_t<Number>>::type;

template <class Number>
bool has_numbers(const py::array& array) {
    if constexpr (std::is_same<Number, bfloat16>::value)
        return array.dtype().is(bfloat16_dtype()) || array.dtype().equal(bfloat16_dtype());
    else
        return py::isinstance<py::array_t<Number>>(array);
}

// The arguments of one call of an op. Shapes are written in letters, as in tinydiff/ops/contract.py, and mean the
// same: a letter is one size wherever it stands, a digit that size, a leading ``...`` any number of axes.
// Everything that does not fit is a ValueError that names the op and the argument; nothing is ever converted.
class Arguments {
 public:
    explicit Arguments(const char* op) : op_(op) {}

    template <class Real>
    const Real* reals(const char* name, const py::object& object, const char* letters) {
        return bind<Real>(name, object, letters);
    }
    template <class Real>
    const Real* reals_or_null(const char* name, const py::object& object, const char* letters) {
        return object.is_none() ? nullptr : bind<Real>(name, object, letters);
    }
    template <class Real>
    Real* reals_in_place(const char* name, const py::object& object, const char* letters) {
        Real* data = bind<Real>(name, object, letters);
        require(py::reinterpret_borrow<py::array>(object).writeable(), name, "must be writeable");
        return data;
    }
    const float* floats(const char* name, const py::object& object, const char* letters) {
        return reals<float>(name, object, letters);
    }
    const float* floats_or_null(const char* name, const py::object& object, const char* letters) {
        return reals_or_null<float>(name, object, letters);
    }
    float* floats_in_place(const char* name, const py::object& object, const char* letters) {
        return reals_in_place<float>(name, object, letters);
    }
    // Exactly this shape, as a gradient must have.
    template <class Real = float>
    const Real* expect(const char* name, const py::object& object, const Sizes& shape) const {
        const py::array array = require_array(name, object);
        require(shape_of(array) == shape, name,
                [&] { return "must have shape " + text(shape) + ", got " + text(shape_of(array)); });
        return data<Real>(name, array);
    }

    int64_t operator[](char letter) const { return find(letter); }

    // What was expected, as words or, where they take work to write, as a function that writes them.
    template <class Expected>
    void require(bool condition, const char* name, const Expected& expected) const {
        if (condition) return;
        if constexpr (std::is_invocable<Expected>::value)
            throw py::value_error(std::string(op_) + ": " + name + " " + expected());
        else
            throw py::value_error(std::string(op_) + ": " + name + " " + expected);
    }

    py::array require_array(const char* name, const py::object& object) const {
        require(py::isinstance<py::array>(object), name,
                [&] { return std::string("must be an array, got ") + Py_TYPE(object.ptr())->tp_name; });
        return py::reinterpret_borrow<py::array>(object);
    }

 private:
    struct Size {
        char letter;
        int64_t value;
        const char* source;
    };

    template <class Real>
    Real* bind(const char* name, const py::object& object, const char* letters) {
        const py::array array = require_array(name, object);
        Real* start = data<Real>(name, array);
        const bool leading = letters[0] == '.';
        std::string axes;
        for (const char* p = letters; *p; ++p)
            if (*p != '.' && *p != ' ') axes += *p;

        const py::ssize_t skipped = array.ndim() - static_cast<py::ssize_t>(axes.size());
        bool fits = leading ? skipped >= 0 : skipped == 0;
        for (size_t i = 0; fits && i < axes.size(); ++i) {
            const int64_t known = axes[i] >= '0' && axes[i] <= '9' ? axes[i] - '0' : find(axes[i]);
            fits = known < 0 || known == array.shape(skipped + i);
        }
        if (!fits) {
            std::string expected = "must have shape (";
            for (const char* p = letters; *p; ++p) expected += *p == ' ' ? std::string(", ") : std::string(1, *p);
            require(false, name, expected + ")" + because(axes) + ", got " + text(shape_of(array)));
        }
        require(array.size() > 0, name, [&] { return "must not be empty, got shape " + text(shape_of(array)); });
        for (size_t i = 0; i < axes.size(); ++i)
            if (!(axes[i] >= '0' && axes[i] <= '9') && find(axes[i]) < 0)
                sizes_.push_back({axes[i], array.shape(skipped + i), name});
        return start;
    }

    template <class Real>
    Real* data(const char* name, const py::array& array) const {
        const char* const expected = std::is_same<Real, float>::value ? "float32" : "bfloat16";
        require(has_numbers<Real>(array), name,
                [&] { return "must be " + std::string(expected) + ", got " + std::string(py::str(array.dtype())); });
        require(array.flags() & py::array::c_style, name, "must be C-contiguous");
        return static_cast<Real*>(const_cast<void*>(array.data()));
    }

    int64_t find(char letter) const {
        for (const auto& size : sizes_)
            if (size.letter == letter) return size.value;
        return -1;
    }

    std::string because(const std::string& axes) const {
        std::string known;
        for (size_t i = 0; i < axes.size(); ++i) {
            if (axes.find(axes[i]) != i) continue;
            for (const auto& size : sizes_)
                if (size.letter == axes[i])
                    known += (known.empty() ? " with " : ", ") + std::string(1, size.letter) + " = " +
                             std::to_string(size.value) + " from " + size.source;
        }
        return known;
    }

    const char* op_;
    std::vector<Size> sizes_;
};

// A new array whose memory is recycled when the last reference goes.
template <class Number = float>
ArrayOf<Number> empty(const Sizes& shape) {
    size_t count = 1;
    for (const auto size : shape) count *= static_cast<size_t>(size);
    void* memory = take_memory(count * sizeof(Number));
    py::capsule owner(memory, [](void* block) { give_memory(block); });
    if constexpr (std::is_same<Number, bfloat16>::value)
        return Bfloat16Array(py::array(bfloat16_dtype(), shape, memory, owner));
    else
        return py::array_t<Number>(shape, static_cast<Number*>(memory), owner);
}

// An output: the array the caller gave for it, which must fit, or where that is None a new one.
inline py::array_t<float> output(const Arguments& arguments, const char* name, const py::object& into,
                                 const Sizes& shape) {
    if (into.is_none()) return empty(shape);
    arguments.expect(name, into, shape);
    auto array = py::reinterpret_borrow<py::array_t<float>>(into);
    arguments.require(array.writeable(), name, "must be writeable");
    return array;
}

template <class Number = float>
ArrayOf<Number> empty_like(const py::object& object) {
    return empty<Number>(shape_of(object));
}

// An output for an optional input: an array, or None and a null pointer.
template <class Real = float>
struct Optional {
    py::object array = py::none();
    Real* data = nullptr;
    Optional(bool wanted, const Sizes& shape) {
        if (wanted) take(empty<Real>(shape));
    }
    Optional(bool wanted, const Sizes& shape, const Arguments& given, const char* name, const py::object& into) {
        if (wanted) take(output(given, name, into, shape));
    }

 private:
    void take(ArrayOf<Real> made) {
        data = made.mutable_data();
        array = made;
    }
};

// A one-dimensional integer array as int64, whatever its width.
inline std::vector<int64_t> integers(const Arguments& arguments, const char* name, const py::object& object) {
    const py::array array = arguments.require_array(name, object);
    const char kind = array.dtype().kind();
    arguments.require((kind == 'i' || kind == 'u') && array.ndim() == 1 && array.size() > 0, name, [&] {
        return "must be a non-empty integer array of shape (N,), got " + std::string(py::str(array.dtype())) + " " +
               text(shape_of(array));
    });
    const auto wide = py::array_t<int64_t, py::array::c_style | py::array::forcecast>(array);
    return std::vector<int64_t>(wide.data(), wide.data() + wide.size());
}

}  // namespace tinydiff
