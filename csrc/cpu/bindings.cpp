// The Python module ``tinydiff.backends._cpu``: which kernels run, and the ops of a model. The bindings and array.h
// are all that knows Python: they check arguments, make outputs, and run a kernel with the interpreter's lock released.
#include "bindings.h"

#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <string>
#include <thread>

#ifdef __GLIBCXX__
#include <cxxabi.h>
#endif

#include "instruction_sets.h"
#include "parallel.h"

namespace tinydiff {

// as in conv2d.h, which only kernel files can include
namespace baseline {
template <class Real>
int winograd_tile(const Conv& conv);
}

namespace {

// Of those, what can run here.
std::vector<const Kernels*> available() {
    std::vector<const Kernels*> found;
    for (const InstructionSet& each : sets_of_machine())
        if (each.kernels) found.push_back(each.kernels);
    return found;
}

}  // namespace

const Kernels* kernels = available().back();

void lock_again(PyThreadState* thread) {
#ifdef __GLIBCXX__  // the one library that unwinds a thread that ends itself
    try {
        PyEval_RestoreThread(thread);
    } catch (abi::__forced_unwind&) {
        for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
#else
    PyEval_RestoreThread(thread);
#endif
}

namespace {

constexpr int MOST_THREADS = 1024;  // more than any machine has cores; a slip of the finger asks for more

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const Kernels* each : available()) names.push_back(each->instruction_set);
    return names;
}

// {name: why} of the sets that this machine has and cannot run.
std::map<std::string, std::string> lacking_instruction_sets() {
    std::map<std::string, std::string> why;
    for (const InstructionSet& each : sets_of_machine())
        if (!each.kernels)
            why[each.name] = "the compiler that built tinydiff lacked its instructions; " +
                             std::string(each.compilers) + " have them: install tinydiff again with such a one";
    return why;
}

void use_instruction_set(const std::string& name) {
    std::string known;
    for (const Kernels* each : available()) {
        if (name == each->instruction_set) {
            kernels = each;
            return;
        }
        known += (known.empty() ? "" : ", ") + std::string(each->instruction_set);
    }
    const auto lacking = lacking_instruction_sets();
    const auto why = lacking.find(name);
    throw py::value_error("the instruction set must be one of " + known + " on this machine, got '" + name + "'" +
                          (why == lacking.end() ? "" : ": " + why->second));
}

void use_checked_threads(int count) {
    if (count < 1 || count > MOST_THREADS)
        throw py::value_error("the number of threads must lie in 1 .. " + std::to_string(MOST_THREADS) + ", got " +
                              std::to_string(count));
    unlocked([&] { use_threads(count); });
}

// linear

template <class Real>
object linear_forward(const object& x, const object& w, const object& b) {
    Arguments given("linear");
    const Real *px = given.reals<Real>("x", x, "... C"), *pw = given.reals<Real>("w", w, "C O");
    const float* pb = given.floats_or_null("b", b, "O");
    Sizes shape = shape_of(x);
    shape.back() = given['O'];
    ArrayOf<Real> y = empty<Real>(shape);
    unlocked([&] {
        kernels_of<Real>().linear_forward(px, pw, pb, y.mutable_data(), y.size() / given['O'], given['C'], given['O']);
    });
    return y;
}

template <class Real>
py::tuple linear_backward(const object& dy, const object& x, const object& w, bool has_b, const object& dw_into,
                          const object& db_into) {
    Arguments given("linear");
    const Real *px = given.reals<Real>("x", x, "... C"), *pw = given.reals<Real>("w", w, "C O");
    Sizes shape = shape_of(x);
    shape.back() = given['O'];
    const Real* pdy = given.expect<Real>("dy", dy, shape);
    ArrayOf<Real> dx = empty_like<Real>(x);
    Array dw = output(given, "dw", dw_into, shape_of(w));
    Optional<> db(has_b, {given['O']}, given, "db", db_into);
    unlocked([&] {
        kernels_of<Real>().linear_backward(pdy, px, pw, dx.mutable_data(), dw.mutable_data(), db.data,
                                           dx.size() / given['C'], given['C'], given['O']);
    });
    return py::make_tuple(dx, dw, db.array);
}

// conv2d

constexpr const char* CONV2D_VERSIONS[] = {"fastest", "direct", "winograd_2", "winograd_4"};
Conv2dVersion conv2d_version = Conv2dVersion::fastest;

void use_conv2d_version(const std::string& name) {
    std::string known;
    for (int i = 0; i < 4; ++i) {
        if (name == CONV2D_VERSIONS[i]) {
            conv2d_version = static_cast<Conv2dVersion>(i);
            return;
        }
        known += (i ? ", " : "") + std::string(CONV2D_VERSIONS[i]);
    }
    throw py::value_error("the version of conv2d must be one of " + known + ", got '" + name + "'");
}

int64_t positive_stride(const Arguments& given, const object& stride) {
    const bool fits = py::isinstance<py::int_>(stride) && stride >= py::int_(1) && stride < py::int_(1 << 30);
    given.require(fits, "stride",
                  [&] { return "must be an integer of at least 1, got " + std::string(py::repr(stride)); });
    return stride.cast<int64_t>();
}

// (before, after) of a padding given as one number or two
std::pair<int64_t, int64_t> both_paddings(const Arguments& given, const object& padding) {
    object before = padding, after = padding;
    if (py::isinstance<py::tuple>(padding) && py::len(padding) == 2) {
        before = padding[py::int_(0)];
        after = padding[py::int_(1)];
    }
    for (const object& each : {before, after})
        given.require(
            py::isinstance<py::int_>(each) && each >= py::int_(0) && each < py::int_(1 << 30), "padding",
            [&] { return "must be an integer of at least 0 or two of them, got " + std::string(py::repr(padding)); });
    return {before.cast<int64_t>(), after.cast<int64_t>()};
}

Conv geometry(const Arguments& given, const object& stride, const object& padding) {
    const auto step = positive_stride(given, stride);
    const auto [before, after] = both_paddings(given, padding);
    Conv conv{given['N'], given['H'], given['W'], given['C'], given['R'], given['S'],
              given['O'], step,       before,     0,          0,          conv2d_version};
    const int64_t free_h = conv.H + before + after - conv.R, free_w = conv.W + before + after - conv.S;
    auto by = [](int64_t a, int64_t b) { return std::to_string(a) + "x" + std::to_string(b); };
    given.require(free_h >= 0 && free_w >= 0, "w", [&, before = before, after = after] {
        return "of " + by(conv.R, conv.S) + " is larger than x of " + by(conv.H, conv.W) + " padded by (" +
               std::to_string(before) + ", " + std::to_string(after) + ")";
    });
    conv.H_out = free_h / step + 1;
    conv.W_out = free_w / step + 1;
    return conv;
}

// Which of the versions computes it. winograd_tile says the same in every instruction set.
template <class Real>
const char* conv2d_version_of(const object& x, const object& w, const object& stride, const object& padding) {
    Arguments given("conv2d");
    given.reals<Real>("x", x, "N H W C");
    given.reals<Real>("w", w, "R S C O");
    const int tile = baseline::winograd_tile<Real>(geometry(given, stride, padding));
    return CONV2D_VERSIONS[tile == 4 ? 3 : tile == 2 ? 2 : 1];
}

template <class Real>
object conv2d_forward(const object& x, const object& w, const object& b, const object& add, const object& stride,
                      const object& padding) {
    Arguments given("conv2d");
    const Real *px = given.reals<Real>("x", x, "N H W C"), *pw = given.reals<Real>("w", w, "R S C O");
    const float* pb = given.floats_or_null("b", b, "O");
    const Conv conv = geometry(given, stride, padding);
    const Sizes shape{conv.N, conv.H_out, conv.W_out, conv.O}, shift{conv.N, 1, 1, conv.O};
    const Real* padd = nullptr;
    Add kind = Add::none;
    if (!add.is_none()) {
        kind = shape_of(given.require_array("add", add)) == shift ? Add::time_shift : Add::residual;
        padd = given.expect<Real>("add", add, kind == Add::time_shift ? shift : shape);
    }
    ArrayOf<Real> y = empty<Real>(shape);
    unlocked([&] { kernels_of<Real>().conv2d_forward(px, pw, nullptr, pb, padd, kind, y.mutable_data(), conv); });
    return y;
}

template <class Real>
py::tuple conv2d_backward(const object& dy, const object& x, const object& w, bool has_b, bool has_time_shift,
                          const object& stride, const object& padding, const object& dw_into, const object& db_into) {
    Arguments given("conv2d");
    const Real *px = given.reals<Real>("x", x, "N H W C"), *pw = given.reals<Real>("w", w, "R S C O");
    const Conv conv = geometry(given, stride, padding);
    const Real* pdy = given.expect<Real>("dy", dy, {conv.N, conv.H_out, conv.W_out, conv.O});
    ArrayOf<Real> dx = empty_like<Real>(x);
    Array dw = output(given, "dw", dw_into, shape_of(w));
    Optional<> db(has_b, {conv.O}, given, "db", db_into);
    Optional<Real> dtime_shift(has_time_shift, {conv.N, 1, 1, conv.O});
    unlocked([&] {
        kernels_of<Real>().conv2d_backward(pdy, px, pw, dx.mutable_data(), dw.mutable_data(), db.data, dtime_shift.data,
                                           conv);
    });
    return py::make_tuple(dx, dw, db.array, dtime_shift.array);
}

// group_norm

template <class Real>
py::tuple group_norm_forward(const object& x, const object& gamma, const object& beta, const object& scale,
                             const object& shift, const object& groups, const object& eps, bool silu) {
    Arguments given("group_norm");
    const Real* px = given.reals<Real>("x", x, "N H W C");
    const float *pgamma = given.floats("gamma", gamma, "C"), *pbeta = given.floats("beta", beta, "C");
    const Real* pscale = given.reals_or_null<Real>("scale", scale, "N C");
    const Real* pshift = given.reals_or_null<Real>("shift", shift, "N C");
    if (scale.is_none() != shift.is_none()) throw py::value_error("group_norm: scale and shift must be given together");
    const int64_t G = py::isinstance<py::int_>(groups) ? groups.cast<int64_t>() : 0;
    given.require(G >= 1 && given['C'] % G == 0, "groups", [&] {
        return "must divide the " + std::to_string(given['C']) + " channels of x, got " + std::string(py::repr(groups));
    });
    given.require(eps > py::float_(0.0), "eps", [&] { return "must be positive, got " + std::string(py::repr(eps)); });
    const GroupNorm norm{given['N'], given['H'] * given['W'], given['C'], G, eps.cast<float>(), silu};
    ArrayOf<Real> y = empty_like<Real>(x);
    Array mean = empty({norm.N, G}), rstd = empty({norm.N, G});
    unlocked([&] {
        kernels_of<Real>().group_norm_forward(px, pgamma, pbeta, pscale, pshift, y.mutable_data(), mean.mutable_data(),
                                              rstd.mutable_data(), norm);
    });
    return py::make_tuple(y, mean, rstd);
}

template <class Real>
py::tuple group_norm_backward(const object& dy, const object& x, const object& gamma, const object& beta,
                              const object& scale, const object& shift, const object& mean, const object& rstd,
                              bool silu, const object& add, const object& dgamma_into, const object& dbeta_into) {
    Arguments given("group_norm");
    const Real* px = given.reals<Real>("x", x, "N H W C");
    const float *pgamma = given.floats("gamma", gamma, "C"), *pbeta = given.floats("beta", beta, "C");
    const float *pmean = given.floats("mean", mean, "N G"), *prstd = given.floats("rstd", rstd, "N G");
    const Real* pdy = given.expect<Real>("dy", dy, shape_of(x));
    const Real* pscale = given.reals_or_null<Real>("scale", scale, "N C");
    const Real* pshift = given.reals_or_null<Real>("shift", shift, "N C");
    const GroupNorm norm{given['N'], given['H'] * given['W'], given['C'], given['G'], 0, silu};
    const Real* padd = add.is_none() ? nullptr : given.expect<Real>("add", add, shape_of(x));
    given.require(norm.C % norm.G == 0, "mean", "must have as many columns as x has groups");
    ArrayOf<Real> dx = empty_like<Real>(x);
    Array dgamma = output(given, "dgamma", dgamma_into, {norm.C});
    Array dbeta = output(given, "dbeta", dbeta_into, {norm.C});
    Optional<Real> dscale(pscale, {norm.N, norm.C}), dshift(pscale, {norm.N, norm.C});
    unlocked([&] {
        kernels_of<Real>().group_norm_backward(pdy, px, pgamma, pbeta, pscale, pshift, pmean, prstd, padd,
                                               dx.mutable_data(), dgamma.mutable_data(), dbeta.mutable_data(),
                                               dscale.data, dshift.data, norm);
    });
    return py::make_tuple(dx, dgamma, dbeta, dscale.array, dshift.array);
}

// silu

template <class Real>
object silu_forward(const object& x) {
    const Real* px = Arguments("silu").reals<Real>("x", x, "...");
    ArrayOf<Real> y = empty_like<Real>(x);
    unlocked([&] { kernels_of<Real>().silu_forward(px, y.mutable_data(), y.size()); });
    return y;
}

template <class Real>
object silu_backward(const object& dy, const object& x) {
    Arguments given("silu");
    const Real *px = given.reals<Real>("x", x, "..."), *pdy = given.expect<Real>("dy", dy, shape_of(x));
    ArrayOf<Real> dx = empty_like<Real>(x);
    unlocked([&] { kernels_of<Real>().silu_backward(pdy, px, dx.mutable_data(), dx.size()); });
    return dx;
}

// dropout, of x or for its backward of dy: options and the values of slot are checked by the reference's own functions

template <class Real>
object dropout_forward(const char* name, const object& x, const object& slot, uint64_t seed, uint32_t purpose,
                       uint32_t draw, uint32_t threshold, float scale) {
    Arguments given("dropout");
    const Real* px = given.reals<Real>(name, x, "...");
    std::vector<int64_t> slots;
    if (!slot.is_none()) slots = integers(given, "slot", slot);
    const int64_t *pslot = slot.is_none() ? nullptr : slots.data(), N = shape_of(x)[0];
    const Drawn drawn{seed, purpose, draw};
    ArrayOf<Real> y = empty_like<Real>(x);
    unlocked([&] {
        kernels_of<Real>().dropout_forward(px, pslot, drawn, threshold, scale, y.mutable_data(), N, y.size() / N);
    });
    return y;
}

// upsample2x

template <class Real>
object upsample2x_forward(const object& x) {
    Arguments given("upsample2x");
    const Real* px = given.reals<Real>("x", x, "N H W C");
    ArrayOf<Real> y = empty<Real>({given['N'], 2 * given['H'], 2 * given['W'], given['C']});
    unlocked([&] {
        kernels_of<Real>().upsample2x_forward(px, y.mutable_data(), given['N'], given['H'], given['W'], given['C']);
    });
    return y;
}

template <class Real>
object upsample2x_backward(const object& dy, const Sizes& shape) {
    const Arguments given("upsample2x");
    const int64_t N = shape.at(0), H = shape.at(1), W = shape.at(2), C = shape.at(3);
    const Real* pdy = given.expect<Real>("dy", dy, {N, 2 * H, 2 * W, C});
    ArrayOf<Real> dx = empty<Real>(shape);
    unlocked([&] { kernels_of<Real>().upsample2x_backward(pdy, dx.mutable_data(), N, H, W, C); });
    return dx;
}

// concat

template <class Real>
object concat_forward(const object& a, const object& b) {
    Arguments given("concat");
    const Real *pa = given.reals<Real>("a", a, "N H W C"), *pb = given.reals<Real>("b", b, "N H W B");
    ArrayOf<Real> y = empty<Real>({given['N'], given['H'], given['W'], given['C'] + given['B']});
    const int64_t pixels = given['N'] * given['H'] * given['W'];
    unlocked([&] { kernels_of<Real>().concat_forward(pa, pb, y.mutable_data(), pixels, given['C'], given['B']); });
    return y;
}

template <class Real>
py::tuple concat_backward(const object& dy, const Sizes& a_shape, const Sizes& b_shape) {
    const Arguments given("concat");
    const int64_t A = a_shape.at(3), B = b_shape.at(3), pixels = a_shape[0] * a_shape[1] * a_shape[2];
    const Real* pdy = given.expect<Real>("dy", dy, {a_shape[0], a_shape[1], a_shape[2], A + B});
    ArrayOf<Real> da = empty<Real>(a_shape), db = empty<Real>(b_shape);
    unlocked([&] { kernels_of<Real>().concat_backward(pdy, da.mutable_data(), db.mutable_data(), pixels, A, B); });
    return py::make_tuple(da, db);
}

// class_embedding

template <class Real>
object class_embedding_forward(const object& table, const object& labels) {
    Arguments given("class_embedding");
    const float* ptable = given.floats("table", table, "K E");
    const auto rows = integers(given, "labels", labels);
    const auto [low, high] = std::minmax_element(rows.begin(), rows.end());
    given.require(*low >= 0 && *high < given['K'], "labels", [&, low = *low, high = *high] {
        return "must lie in [0, " + std::to_string(given['K']) + "), got " + std::to_string(low) + " .. " +
               std::to_string(high);
    });
    ArrayOf<Real> y = empty<Real>({static_cast<py::ssize_t>(rows.size()), given['E']});
    unlocked([&] {
        kernels_of<Real>().class_embedding_forward(ptable, rows.data(), y.mutable_data(), y.shape(0), given['E']);
    });
    return y;
}

template <class Real>
object class_embedding_backward(const object& dy, const object& labels, const Sizes& table_shape, const object& into) {
    const Arguments given("class_embedding");
    const auto rows = integers(given, "labels", labels);
    const Real* pdy = given.expect<Real>("dy", dy, {static_cast<py::ssize_t>(rows.size()), table_shape.at(1)});
    Array dtable = output(given, "dtable", into, table_shape);
    unlocked([&] {
        kernels_of<Real>().class_embedding_backward(pdy, rows.data(), dtable.mutable_data(), rows.size(),
                                                    table_shape[0], table_shape[1]);
    });
    return dtable;
}

// timestep_embedding

template <class Real>
object timestep_embedding_forward(const object& step, const object& width) {
    Arguments given("timestep_embedding");
    const float* pstep = given.floats("step", step, "N");
    const int64_t E = py::isinstance<py::int_>(width) ? width.cast<int64_t>() : 0;
    given.require(E >= 2 && E % 2 == 0, "width",
                  [&] { return "must be an even integer of at least 2, got " + std::string(py::repr(width)); });
    ArrayOf<Real> y = empty<Real>({given['N'], E});
    unlocked([&] { kernels_of<Real>().timestep_embedding_forward(pstep, y.mutable_data(), given['N'], E / 2); });
    return y;
}

// All of these in one precision.
template <class Real>
void add_model_ops(py::module_ m) {
    m.def("linear_forward", &linear_forward<Real>);
    m.def("linear_backward", &linear_backward<Real>);
    m.def("conv2d_version_of", &conv2d_version_of<Real>);
    m.def("conv2d_forward", &conv2d_forward<Real>);
    m.def("conv2d_backward", &conv2d_backward<Real>);
    m.def("group_norm_forward", &group_norm_forward<Real>);
    m.def("group_norm_backward", &group_norm_backward<Real>);
    m.def("silu_forward", &silu_forward<Real>);
    m.def("silu_backward", &silu_backward<Real>);
    m.def("dropout_forward", &dropout_forward<Real>);
    m.def("upsample2x_forward", &upsample2x_forward<Real>);
    m.def("upsample2x_backward", &upsample2x_backward<Real>);
    m.def("concat_forward", &concat_forward<Real>);
    m.def("concat_backward", &concat_backward<Real>);
    m.def("class_embedding_forward", &class_embedding_forward<Real>);
    m.def("class_embedding_backward", &class_embedding_backward<Real>);
    m.def("timestep_embedding_forward", &timestep_embedding_forward<Real>);
    add_transformer_ops<Real>(m);
}

}  // namespace
}  // namespace tinydiff

PYBIND11_MODULE(_cpu, m) {
    using namespace tinydiff;
    m.doc() = "C++ kernels; used through tinydiff.backends.cpu.";
    m.def("instruction_sets", &instruction_sets, "Those this machine can run, slowest first.");
    m.def("instruction_set", [] { return kernels->instruction_set; }, "The one in use.");
    m.def("use_instruction_set", &use_instruction_set);
    m.def("lacking_instruction_sets", &lacking_instruction_sets,
          "{name: why} of those that this machine has and this build has not.");
    m.attr("MOST_THREADS") = MOST_THREADS;
    m.def("threads", &threads, "How many threads work.");
    m.def("use_threads", &use_checked_threads);
    m.def("use_conv2d_version", &use_conv2d_version);
    m.def(
        "memory", [] { return py::make_tuple(memory_state().in_use, memory_state().kept); },
        "Bytes of arrays in use, and kept to be used again.");
    m.def("empty", [](const Sizes& shape) { return empty(shape); }, "A float32 array of recycled memory.");

    add_model_ops<float>(m.def_submodule("fp32"));
    add_model_ops<bfloat16>(m.def_submodule("bf16"));
    add_training_ops(m);
    add_programs(m);
}
