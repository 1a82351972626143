// The ops of training that are no part of a model: the batch and its noise, the losses, the optimizer's step.
#include <pybind11/stl.h>

#include <string>

#include "bindings.h"

namespace tinydiff {
namespace {

// mse_loss and l1_loss

struct Errors {
    const float *prediction, *target, *weight;
    int64_t N, M;
};

Errors checked_errors(const char* op, const object& prediction, const object& target, const object& weight) {
    Arguments given(op);
    Errors errors{given.floats("prediction", prediction, "..."), given.expect("target", target, shape_of(prediction)),
                  nullptr, 0, 0};
    given.require(!shape_of(prediction).empty(), "prediction", "must have at least one axis");
    errors.N = shape_of(prediction)[0];
    errors.M = count_of(prediction) / errors.N;
    if (!weight.is_none()) errors.weight = given.expect("weight", weight, {errors.N});
    return errors;
}

object loss_forward(const char* op, decltype(Kernels::mse_loss_forward) kernel, const object& prediction,
                    const object& target, const object& weight) {
    const Errors given = checked_errors(op, prediction, target, weight);
    Array loss = empty({});
    unlocked([&] { kernel(given.prediction, given.target, given.weight, loss.mutable_data(), given.N, given.M); });
    return loss;
}

py::tuple loss_backward(const char* op, decltype(Kernels::mse_loss_backward) kernel, float dloss,
                        const object& prediction, const object& target, const object& weight, bool prediction_only) {
    const Errors given = checked_errors(op, prediction, target, weight);
    Array dprediction = empty_like(prediction);
    Optional<> dtarget(!prediction_only, shape_of(prediction));
    Optional<> dweight(given.weight != nullptr && !prediction_only, {given.N});
    unlocked([&] {
        kernel(dloss, given.prediction, given.target, given.weight, dprediction.mutable_data(), dtarget.data,
               dweight.data, given.N, given.M);
    });
    return py::make_tuple(dprediction, dtarget.array, dweight.array);
}

object mse_loss_forward(const object& prediction, const object& target, const object& weight) {
    return loss_forward("mse_loss", kernels->mse_loss_forward, prediction, target, weight);
}

py::tuple mse_loss_backward(float dloss, const object& prediction, const object& target, const object& weight,
                            bool prediction_only) {
    const auto kernel = kernels->mse_loss_backward;
    return loss_backward("mse_loss", kernel, dloss, prediction, target, weight, prediction_only);
}

object l1_loss_forward(const object& prediction, const object& target, const object& weight) {
    return loss_forward("l1_loss", kernels->l1_loss_forward, prediction, target, weight);
}

py::tuple l1_loss_backward(float dloss, const object& prediction, const object& target, const object& weight,
                           bool prediction_only) {
    const auto kernel = kernels->l1_loss_backward;
    return loss_backward("l1_loss", kernel, dloss, prediction, target, weight, prediction_only);
}

// gaussian_sample and gaussian_kl

struct Moments {
    const float* data;
    int64_t P, Z;
    Sizes half;  // the shape of one of both halves
};

Moments checked_moments(Arguments& given, const object& moments) {
    const float* data = given.floats("moments", moments, "...");
    Sizes shape = shape_of(moments);
    given.require(shape.size() >= 2 && shape.back() % 2 == 0, "moments",
                  [&] { return "must have shape (N, ..., 2 Z), got " + text(shape); });
    shape.back() /= 2;
    return {data, count_of(moments) / 2 / shape.back(), shape.back(), shape};
}

object gaussian_sample_forward(const object& moments, const object& eps) {
    Arguments given("gaussian_sample");
    const Moments halves = checked_moments(given, moments);
    const float* peps = given.expect("eps", eps, halves.half);
    Array y = empty(halves.half);
    unlocked([&] { kernels->gaussian_sample_forward(halves.data, peps, y.mutable_data(), halves.P, halves.Z); });
    return y;
}

py::tuple gaussian_sample_backward(const object& dy, const object& moments, const object& eps, bool moments_only) {
    Arguments given("gaussian_sample");
    const Moments halves = checked_moments(given, moments);
    const float *peps = given.expect("eps", eps, halves.half), *pdy = given.expect("dy", dy, halves.half);
    Array dmoments = empty_like(moments);
    Optional<> deps(!moments_only, halves.half);
    unlocked([&] {
        kernels->gaussian_sample_backward(pdy, halves.data, peps, dmoments.mutable_data(), deps.data, halves.P,
                                          halves.Z);
    });
    return py::make_tuple(dmoments, deps.array);
}

object gaussian_kl_forward(const object& moments) {
    Arguments given("gaussian_kl");
    const Moments halves = checked_moments(given, moments);
    Array kl = empty({});
    unlocked([&] { kernels->gaussian_kl_forward(halves.data, kl.mutable_data(), halves.P, halves.Z); });
    return kl;
}

object gaussian_kl_backward(float dkl, const object& moments) {
    Arguments given("gaussian_kl");
    const Moments halves = checked_moments(given, moments);
    Array dmoments = empty_like(moments);
    unlocked([&] { kernels->gaussian_kl_backward(dkl, halves.data, dmoments.mutable_data(), halves.P, halves.Z); });
    return dmoments;
}

// philox: seed, purpose, draw, kind and the samples' range are checked by the reference's own function

object philox_forward(uint64_t seed, uint32_t purpose, const object& sample, uint32_t draw, const Sizes& shape,
                      const std::string& kind) {
    const Arguments given("philox");
    const auto samples = integers(given, "sample", sample);
    Sizes all{static_cast<py::ssize_t>(samples.size())};
    all.insert(all.end(), shape.begin(), shape.end());
    if (kind == "bits") {
        auto y = empty<uint32_t>(all);
        unlocked([&] {
            kernels->philox_bits(seed, purpose, samples.data(), draw, y.mutable_data(), all[0], y.size() / all[0]);
        });
        return y;
    }
    Array y = empty(all);
    const auto kernel = kind == "normal" ? kernels->philox_normal : kernels->philox_uniform;
    unlocked([&] { kernel(seed, purpose, samples.data(), draw, y.mutable_data(), all[0], y.size() / all[0]); });
    return y;
}

// draw_batch and corrupt: options, purposes and the ranges of values are checked by the references' own functions

py::tuple draw_batch_forward(const object& labels, int64_t number, int64_t batch, int64_t noise_steps, int64_t classes,
                             float dropout, uint64_t seed, int half, uint32_t order_purpose, uint32_t step_purpose,
                             uint32_t drop_purpose) {
    const auto all = integers(Arguments("draw_batch"), "labels", labels);
    const BatchOptions options{static_cast<int64_t>(all.size()),
                               batch,
                               noise_steps,
                               classes,
                               half,
                               dropout,
                               seed,
                               order_purpose,
                               step_purpose,
                               drop_purpose};
    const Sizes shape{static_cast<py::ssize_t>(batch)};
    auto index = empty<int64_t>(shape), step = empty<int64_t>(shape);
    object labels_N = py::none();
    int64_t* plabels_N = nullptr;
    if (classes) {
        auto made = empty<int64_t>(shape);
        plabels_N = made.mutable_data();
        labels_N = made;
    }
    unlocked([&] {
        kernels->draw_batch_forward(all.data(), number, options, index.mutable_data(), step.mutable_data(), plabels_N);
    });
    return py::make_tuple(index, step, labels_N);
}

py::tuple corrupt_forward(const py::array& images, const object& index, const object& step, const object& table,
                          const object& slot, uint64_t seed, uint32_t purpose, uint32_t draw, int64_t width,
                          int64_t channels, uint32_t flip_purpose) {
    Arguments given("corrupt");
    const float* ptable = given.floats("table", table, "T 5");
    given.require(images.flags() & py::array::c_style, "images", "must be C-contiguous");
    const auto indices = integers(given, "index", index), steps = integers(given, "step", step);
    std::vector<int64_t> slots;
    if (!slot.is_none()) slots = integers(given, "slot", slot);
    const int64_t* pslot = slot.is_none() ? nullptr : slots.data();
    Sizes shape = shape_of(images);
    const int64_t N = static_cast<int64_t>(indices.size()), M = images.size() / shape[0];
    shape[0] = static_cast<py::ssize_t>(N);
    Array x = empty(shape), target = empty(shape), weight = empty({shape[0]});
    const bool bytes = images.itemsize() == 1;
    const Drawn noise{seed, purpose, draw};
    const Flip flip{width, channels, flip_purpose};
    auto run = [&](auto kernel, auto* data) {
        kernel(data, indices.data(), steps.data(), pslot, ptable, noise, flip, x.mutable_data(), target.mutable_data(),
               weight.mutable_data(), N, M);
    };
    unlocked([&] {
        if (bytes)
            run(kernels->corrupt_bytes, static_cast<const uint8_t*>(images.data()));
        else
            run(kernels->corrupt_floats, static_cast<const float*>(images.data()));
    });
    return py::make_tuple(x, target, weight);
}

// global_norm

object global_norm_forward(const object& grads) {
    Arguments given("global_norm");
    const float* pgrads = given.floats("grads", grads, "P");
    Array norm = empty({1});
    unlocked([&] { kernels->global_norm_forward(pgrads, norm.mutable_data(), given['P']); });
    return norm;
}

// adamw: what concerns the options is checked by the reference's own function

void adamw_forward(const object& params, const object& grads, const object& mean, const object& mean_square,
                   const object& average, const object& copy, float learning_rate, double step_number, float clip,
                   float average_decay, int64_t decayed, double weight_decay, double beta1, double beta2, double eps) {
    Arguments given("adamw");
    float* pparams = given.floats_in_place("params", params, "P");
    const float* pgrads = given.floats("grads", grads, "P");
    float* pmean = given.floats_in_place("mean", mean, "P");
    float* pmean_square = given.floats_in_place("mean_square", mean_square, "P");
    float* paverage = average.is_none() ? nullptr : given.floats_in_place("average", average, "P");
    bfloat16* pcopy = copy.is_none() ? nullptr : given.reals_in_place<bfloat16>("copy", copy, "D");
    const AdamW options{learning_rate, clip, step_number, average_decay, decayed, weight_decay, beta1, beta2, eps};
    unlocked(
        [&] { kernels->adamw_forward(pparams, pgrads, pmean, pmean_square, paverage, pcopy, given['P'], options); });
}

}  // namespace

void add_training_ops(py::module_& m) {
    m.def("mse_loss_forward", &mse_loss_forward);
    m.def("mse_loss_backward", &mse_loss_backward);
    m.def("l1_loss_forward", &l1_loss_forward);
    m.def("l1_loss_backward", &l1_loss_backward);
    m.def("gaussian_sample_forward", &gaussian_sample_forward);
    m.def("gaussian_sample_backward", &gaussian_sample_backward);
    m.def("gaussian_kl_forward", &gaussian_kl_forward);
    m.def("gaussian_kl_backward", &gaussian_kl_backward);
    m.def("philox_forward", &philox_forward);
    m.def("draw_batch_forward", &draw_batch_forward);
    m.def("corrupt_forward", &corrupt_forward);
    m.def("global_norm_forward", &global_norm_forward);
    m.def("adamw_forward", &adamw_forward);
}

}  // namespace tinydiff
