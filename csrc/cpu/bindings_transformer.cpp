// The ops of a transformer's blocks.
#include <pybind11/stl.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bindings.h"

namespace tinydiff {
namespace {

// layer_norm

template <class Real>
py::tuple layer_norm_forward(const object& x, const object& gamma, const object& beta, const object& eps) {
    Arguments given("layer_norm");
    const Real* px = given.reals<Real>("x", x, "... C");
    const float *pgamma = given.floats("gamma", gamma, "C"), *pbeta = given.floats("beta", beta, "C");
    given.require(eps > py::float_(0.0), "eps", [&] { return "must be positive, got " + std::string(py::repr(eps)); });
    ArrayOf<Real> y = empty_like<Real>(x);
    const int64_t C = given['C'], M = y.size() / C;
    const float number = eps.cast<float>();
    Array mean = empty({M}), rstd = empty({M});
    unlocked([&] {
        kernels_of<Real>().layer_norm_forward(px, pgamma, pbeta, y.mutable_data(), mean.mutable_data(),
                                              rstd.mutable_data(), M, C, number);
    });
    return py::make_tuple(y, mean, rstd);
}

template <class Real>
py::tuple layer_norm_backward(const object& dy, const object& x, const object& gamma, const object& mean,
                              const object& rstd, const object& add, const object& dgamma_into,
                              const object& dbeta_into) {
    Arguments given("layer_norm");
    const Real* px = given.reals<Real>("x", x, "... C");
    const float* pgamma = given.floats("gamma", gamma, "C");
    const float *pmean = given.floats("mean", mean, "M"), *prstd = given.floats("rstd", rstd, "M");
    const Real* pdy = given.expect<Real>("dy", dy, shape_of(x));
    const Real* padd = add.is_none() ? nullptr : given.expect<Real>("add", add, shape_of(x));
    ArrayOf<Real> dx = empty_like<Real>(x);
    const int64_t C = given['C'], M = dx.size() / C;
    given.require(given['M'] == M, "mean", "must have as many values as x has tokens");
    Array dgamma = output(given, "dgamma", dgamma_into, {C}), dbeta = output(given, "dbeta", dbeta_into, {C});
    unlocked([&] {
        kernels_of<Real>().layer_norm_backward(pdy, px, pgamma, pmean, prstd, padd, dx.mutable_data(),
                                               dgamma.mutable_data(), dbeta.mutable_data(), M, C);
    });
    return py::make_tuple(dx, dgamma, dbeta);
}

// attention

// How many keys of each sample are looked at, or null for all; checked, as is that all may be seen by someone.
struct Lengths {
    std::vector<int64_t> values;
    const int64_t* data = nullptr;
    Lengths(const Arguments& given, const object& length, const Attention& sizes) {
        if (sizes.causal && sizes.L != sizes.M)
            throw py::value_error("attention: causal needs as many queries as keys, got " + std::to_string(sizes.L) +
                                  " and " + std::to_string(sizes.M));
        if (length.is_none()) return;
        values = integers(given, "length", length);
        given.require(static_cast<int64_t>(values.size()) == sizes.N, "length", [&] {
            return "must have shape (" + std::to_string(sizes.N) + ",), got (" + std::to_string(values.size()) + ",)";
        });
        const auto [low, high] = std::minmax_element(values.begin(), values.end());
        given.require(*low >= 1 && *high <= sizes.M, "length", [&, low = *low, high = *high] {
            return "must lie in 1 .. " + std::to_string(sizes.M) + ", got " + std::to_string(low) + " .. " +
                   std::to_string(high);
        });
        data = values.data();
    }
};

template <class Real>
py::tuple attention_forward(const object& q, const object& k, const object& v, const object& length, bool causal) {
    Arguments given("attention");
    const Real *pq = given.reals<Real>("q", q, "N L A D"), *pk = given.reals<Real>("k", k, "N M A D");
    const Real* pv = given.reals<Real>("v", v, "N M A D");
    const Attention sizes{given['N'], given['L'], given['M'], given['A'], given['D'], causal};
    const Lengths lengths(given, length, sizes);
    ArrayOf<Real> y = empty_like<Real>(q);
    Array lse = empty({sizes.N, sizes.A, sizes.L, 1});
    unlocked([&] {
        kernels_of<Real>().attention_forward(pq, pk, pv, lengths.data, y.mutable_data(), lse.mutable_data(), sizes);
    });
    return py::make_tuple(y, lse);
}

template <class Real>
py::tuple attention_backward(const object& dy, const object& q, const object& k, const object& v, const object& y,
                             const object& lse, const object& length, bool causal) {
    Arguments given("attention");
    const Real *pq = given.reals<Real>("q", q, "N L A D"), *pk = given.reals<Real>("k", k, "N M A D");
    const Real *pv = given.reals<Real>("v", v, "N M A D"), *saved_y = given.reals<Real>("y", y, "N L A D");
    const float* plse = given.floats("lse", lse, "N A L 1");
    const Real* pdy = given.expect<Real>("dy", dy, shape_of(q));
    const Attention sizes{given['N'], given['L'], given['M'], given['A'], given['D'], causal};
    const Lengths lengths(given, length, sizes);
    ArrayOf<Real> dq = empty_like<Real>(q), dk = empty_like<Real>(k), dv = empty_like<Real>(v);
    unlocked([&] {
        kernels_of<Real>().attention_backward(pdy, pq, pk, pv, saved_y, plse, lengths.data, dq.mutable_data(),
                                              dk.mutable_data(), dv.mutable_data(), sizes);
    });
    return py::make_tuple(dq, dk, dv, py::none());
}

// gelu; its form is checked by the reference's own function

template <class Real>
object gelu_forward(const object& x, int form) {
    const Real* px = Arguments("gelu").reals<Real>("x", x, "...");
    ArrayOf<Real> y = empty_like<Real>(x);
    unlocked([&] { kernels_of<Real>().gelu_forward(px, y.mutable_data(), y.size(), static_cast<Gelu>(form)); });
    return y;
}

template <class Real>
object gelu_backward(const object& dy, const object& x, int form) {
    Arguments given("gelu");
    const Real *px = given.reals<Real>("x", x, "..."), *pdy = given.expect<Real>("dy", dy, shape_of(x));
    ArrayOf<Real> dx = empty_like<Real>(x);
    unlocked([&] { kernels_of<Real>().gelu_backward(pdy, px, dx.mutable_data(), dx.size(), static_cast<Gelu>(form)); });
    return dx;
}

// geglu; that its channels can be halved is checked by the reference's own function

template <class Real>
object geglu_forward(const object& x) {
    const Real* px = Arguments("geglu").reals<Real>("x", x, "... C");
    Sizes shape = shape_of(x);
    const int64_t C = shape.back() /= 2;
    ArrayOf<Real> y = empty<Real>(shape);
    unlocked([&] { kernels_of<Real>().geglu_forward(px, y.mutable_data(), y.size() / C, C); });
    return y;
}

template <class Real>
object geglu_backward(const object& dy, const object& x) {
    Arguments given("geglu");
    const Real* px = given.reals<Real>("x", x, "... C");
    Sizes shape = shape_of(x);
    const int64_t C = shape.back() /= 2;
    const Real* pdy = given.expect<Real>("dy", dy, shape);
    ArrayOf<Real> dx = empty_like<Real>(x);
    unlocked([&] { kernels_of<Real>().geglu_backward(pdy, px, dx.mutable_data(), dx.size() / (2 * C), C); });
    return dx;
}

}  // namespace

template <class Real>
void add_transformer_ops(py::module_& m) {
    m.def("layer_norm_forward", &layer_norm_forward<Real>);
    m.def("layer_norm_backward", &layer_norm_backward<Real>);
    m.def("attention_forward", &attention_forward<Real>);
    m.def("attention_backward", &attention_backward<Real>);
    m.def("gelu_forward", &gelu_forward<Real>);
    m.def("gelu_backward", &gelu_backward<Real>);
    m.def("geglu_forward", &geglu_forward<Real>);
    m.def("geglu_backward", &geglu_backward<Real>);
}

template void add_transformer_ops<float>(py::module_& m);
template void add_transformer_ops<bfloat16>(py::module_& m);

}  // namespace tinydiff
