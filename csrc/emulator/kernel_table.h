// Every kernel by its name, to be called with untyped arguments as cudaLaunchKernel does. wrap.py writes one
// registration for each kernel that it finds in a .cu file.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace tinydiff::emulator {

// A parameter as a kernel declares it. The kind is NumPy's: f, i, u or b, and V for the bfloat16 of ml_dtypes.
struct Parameter {
    bool pointer, writes;
    char kind;  // of the value, or of what the pointer points to
    size_t size;
};

struct Kernel {
    std::vector<Parameter> parameters;
    std::function<void(void* const* arguments)> thread;  // what one thread does; arguments point to the values
};

inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> table;
    return table;
}

template <class T>
Parameter describe() {
    using Value = std::remove_cv_t<std::remove_pointer_t<T>>;
    constexpr bool pointer = std::is_pointer_v<T>;
    constexpr char kind = std::is_same_v<Value, bool> ? 'b'
                          : std::is_unsigned_v<Value> ? 'u'
                          : std::is_integral_v<Value> ? 'i'
                          : std::is_class_v<Value>    ? 'V'
                                                      : 'f';
    return {pointer, pointer && !std::is_const_v<std::remove_pointer_t<T>>, kind, sizeof(Value)};
}

template <class T>
T value_at(const void* address) {
    T value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

template <class... P, size_t... I>
void call(void (*kernel)(P...), void* const* arguments, std::index_sequence<I...>) {
    kernel(value_at<P>(arguments[I])...);
}

template <class... P>
bool add(const char* name, void (*kernel)(P...)) {
    kernels()[name] = {{describe<P>()...},
                       [kernel](void* const* arguments) { call(kernel, arguments, std::index_sequence_for<P...>{}); }};
    return true;
}

}  // namespace tinydiff::emulator
