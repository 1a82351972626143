// A program that computes products of bfloat16, and of 16-bit integers, with csrc/cpu/gemm.h, for test_products.py: problems come through
// stdin, their results leave through stdout. Nothing beyond an operand can be read or written.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "gemm.h"
#include "machine.h"

namespace tinydiff {
namespace TINYDIFF_ISA {
namespace {

enum Kind : int64_t { ROWS, GATHERED, TRANSPOSED, ROUNDING, FIXED };

// One problem, as it is read; sizes are those of gemm.h, ``columns`` are floats.
struct Problem {
    int64_t kind, rows, columns, segments, K, lda, ldb, ldc, accumulate;
    int64_t size_a, size_b, size_c;
};

// Values that end with a page that cannot be touched.
template <class T>
struct Values {
    int64_t count;
    char* pages;
    size_t size;
    T* values;

    explicit Values(int64_t count) : count(count) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(T);
        size = (bytes + page - 1) / page * page + page;
        pages = static_cast<char*>(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (pages == MAP_FAILED || mprotect(pages + size - page, page, PROT_NONE) != 0) std::abort();
        values = reinterpret_cast<T*>(pages + size - page - bytes);
        if (std::fread(values, sizeof(T), count, stdin) != static_cast<size_t>(count)) std::abort();
    }
    ~Values() { munmap(pages, size); }
    Values(const Values&) = delete;
};

void solve(const Problem& of) {
    const Values<int64_t> starts_a(of.kind == GATHERED ? of.segments * of.rows : 0);
    const Values<int64_t> starts_b(of.kind == GATHERED ? of.segments : 0);
    const Values<float> scales_a(of.kind == FIXED ? of.rows : 0), scales_b(of.kind == FIXED ? of.columns : 0);
    const Values<Pair> a(of.size_a), b(of.size_b);
    const Values<float> c(of.size_c);
    const int vectors = static_cast<int>(of.columns / W);
    if (of.kind == ROWS) {
        multiply<Pair>(of.rows, vectors, a.values, of.lda, of.K, b.values, of.ldb, c.values, of.ldc, of.accumulate);
    } else if (of.kind == FIXED) {
        multiply_fixed(of.rows, vectors, reinterpret_cast<const Fixed*>(a.values), of.lda, scales_a.values, of.K,
                       reinterpret_cast<const Fixed*>(b.values), of.ldb, scales_b.values, c.values, of.ldc);
    } else if (of.kind == TRANSPOSED) {
        multiply_transposed<Pair>(of.rows, of.columns, a.values, of.lda, of.K, b.values, of.ldb, c.values, of.ldc,
                                  of.accumulate);
    } else if (of.kind == GATHERED) {
        if (of.rows > MR) std::abort();
        const Pair** rows = static_cast<const Pair**>(std::malloc(sizeof(Pair*) * of.segments * (MR + 1)));
        const Pair** segments = rows + of.segments * MR;
        for (int64_t s = 0; s < of.segments; ++s) {
            segments[s] = b.values + starts_b.values[s];
            for (int64_t i = 0; i < of.rows; ++i) rows[s * MR + i] = a.values + starts_a.values[s * of.rows + i];
        }
        multiply_gathered<Pair>(static_cast<int>(of.rows), vectors, of.segments, rows, segments, of.K, of.ldb, c.values,
                                of.ldc, of.accumulate);
        std::free(rows);
    } else {
        for (int64_t i = 0; i < of.size_c; i += W) {
            bfloat16 halves[W];
            store(halves, load(c.values + i));
            store(c.values + i, load(halves));
        }
    }
    std::fwrite(c.values, sizeof(float), of.size_c, stdout);
}

}  // namespace
}  // namespace TINYDIFF_ISA
}  // namespace tinydiff

int main() {
    tinydiff::has_amx();  // and where it has, leave to use it
    tinydiff::TINYDIFF_ISA::Problem problem;
    while (std::fread(&problem, sizeof problem, 1, stdin) == 1) tinydiff::TINYDIFF_ISA::solve(problem);
}
