#include "program.h"

#include <cstring>
#include <tuple>
#include <type_traits>

namespace tinydiff {
namespace {

// Reads the arguments of one call.
class Reader {
 public:
    Reader(const int64_t* header, uintptr_t base) : at_(header + 1), base_(base), kinds_(*header >> 16) {}

    template <class T>
    T next() {
        const int64_t word = *at_++;
        const int kind = static_cast<int>(kinds_ & 3);
        kinds_ >>= 2;
        if constexpr (std::is_pointer<T>::value) {
            return word < 0 ? nullptr : static_cast<T>(address(word));
        } else {
            if (kind == IN_MEMORY_FLOAT) return static_cast<T>(read<float>(address(word)));
            if (kind == IN_MEMORY_INTEGER) return static_cast<T>(read<int64_t>(address(word)));
            if constexpr (std::is_floating_point<T>::value)
                return static_cast<T>(read<double>(&word));
            else
                return static_cast<T>(word);
        }
    }

 private:
    enum Kind { WORD, IN_MEMORY_FLOAT, IN_MEMORY_INTEGER };

    void* address(int64_t word) const { return reinterpret_cast<void*>(base_ + static_cast<uintptr_t>(word)); }

    template <class T>
    static T read(const void* from) {
        T value;
        std::memcpy(&value, from, sizeof value);
        return value;
    }

    const int64_t* at_;
    uintptr_t base_;
    uint64_t kinds_;
};

// Becomes whatever a field or an argument is.
struct Next {
    Reader& reader;
    template <class T>
    operator T() const {
        return reader.next<T>();
    }
};

// Structures field by field; braces are read from left to right.
#define NEXT \
    Next { reader }
template <class T>
struct Argument {
    static T get(Reader& reader) { return reader.next<T>(); }
};
template <>
struct Argument<Conv> {
    static Conv get(Reader& reader) { return {NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<GroupNorm> {
    static GroupNorm get(Reader& reader) { return {NEXT, NEXT, NEXT, NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<Attention> {
    static Attention get(Reader& reader) { return {NEXT, NEXT, NEXT, NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<BatchOptions> {
    static BatchOptions get(Reader& reader) { return {NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<Drawn> {
    static Drawn get(Reader& reader) { return {NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<Flip> {
    static Flip get(Reader& reader) { return {NEXT, NEXT, NEXT}; }
};
template <>
struct Argument<AdamW> {
    static AdamW get(Reader& reader) { return {NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT}; }
};
#undef NEXT

template <class... A>
void call(void (*kernel)(A...), Reader& reader) {
    const std::tuple<std::decay_t<A>...> arguments{Argument<std::decay_t<A>>::get(reader)...};
    std::apply(kernel, arguments);
}

using Step = void (*)(const Kernels& kernels, Reader& reader);
const Step steps[] = {
#define K(name, arguments) [](const Kernels& kernels, Reader& reader) { call(kernels.name, reader); },
#define F(name, arguments) [](const Kernels& kernels, Reader& reader) { call(kernels.fp32.name, reader); },
#define B(name, arguments) [](const Kernels& kernels, Reader& reader) { call(kernels.bf16.name, reader); },
    TINYDIFF_KERNELS(K) TINYDIFF_MODEL_KERNELS(F)
#ifndef __wasm__
        TINYDIFF_MODEL_KERNELS(B)
#endif
#undef B
#undef F
#undef K
};
constexpr int64_t CHECK = sizeof steps / sizeof *steps;

bool within(Reader& reader) {
    const auto values = reader.next<const int64_t*>();
    const auto count = reader.next<int64_t>(), low = reader.next<int64_t>(), high = reader.next<int64_t>();
    for (int64_t i = 0; i < count; ++i)
        if (values[i] < low || values[i] >= high) return false;
    return true;
}

}  // namespace

const char* program_kernel(int64_t number) {
    static const char* const names[] = {
#define K(name, arguments) #name,
#define B(name, arguments) #name "_bf16",
        TINYDIFF_KERNELS(K) TINYDIFF_MODEL_KERNELS(K)
#ifndef __wasm__
            TINYDIFF_MODEL_KERNELS(B)
#endif
#undef B
#undef K
                "expect_within"};
    return number <= CHECK ? names[number] : nullptr;
}

int64_t run_program(const Kernels& kernels, const int64_t* words, int64_t count, uintptr_t base, bool (*go_on)(void*),
                    void* context) {
    int64_t at = 0;
    while (at < count) {
        if (!go_on(context)) return at;
        const int64_t header = words[at], kernel = header & 0xFF;
        Reader reader(words + at, base);
        if (kernel < CHECK)
            steps[kernel](kernels, reader);
        else if (!within(reader))
            return at;
        at += 1 + (header >> 8 & 0xFF);
    }
    return count;
}

}  // namespace tinydiff
