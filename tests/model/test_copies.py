"""A copy of a model, by whatever way, is a model: its layers view its own flat buffers, and it trains as the original."""

import copy
import gc
import pickle
import weakref

import numpy as np
import pytest

from tests.checks import backend_or_skip
from tests.train import tiny
from tinydiff import backends
from tinydiff.metrics import classifier
from tinydiff.model.mlp import MLP, MLPConfig
from tinydiff.model.parameters import Constant, Parameters
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.noise import schedules
from tinydiff.noise.corrupt import Corruptor
from tinydiff.train.adamw import AdamW

BACKENDS = [("numpy", "fp32"), ("cpu", "fp32"), ("cpu", "bf16"), ("emulator", "fp32"), ("emulator", "bf16")]
WAYS = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "oldest pickle": lambda thing: pickle.loads(pickle.dumps(thing, protocol=0)),
    "twice": lambda thing: copy.deepcopy(pickle.loads(pickle.dumps(copy.deepcopy(thing)))),
}


def mlp(backend):
    return MLP(MLPConfig(width=8, layers=2, classes=2), backend)


def unet(backend):
    return UNet(UNetConfig(**tiny.MODEL, positions=1), backend)


def small_classifier(backend):
    return classifier.Classifier(classifier.CIFAR10.config._replace(widths=(8, 16), residual=(1,)), backend)


def train(model, optimizer, steps=3):
    """Steps towards a random target; the parameters and the average after them, as bytes."""
    backend, config = model.backend, model.config
    rng = np.random.default_rng(0)
    x, target = (backend.asarray(rng.standard_normal((4, *config.shape)), np.float32) for _ in range(2))
    step, labels = backend.asarray([1, 2, 3, 4], np.float32), backend.asarray([0, 1, 2, 0], np.int64)
    for number in range(1, steps + 1):
        y, cache = model.forward(x, step, labels)
        _, loss_cache = backend.mse_loss.forward(y, target)
        model.backward(backend.mse_loss.backward(1.0, loss_cache)[0], cache)
        optimizer.prepare(number, 1e-2)
        optimizer.step()
    return [backend.to_numpy(flat).tobytes() for flat in (model.parameters.values, optimizer.average)]


def assert_views(parameters):
    """Every parameter is a view of the flat buffers of which it is said to be one."""
    for parameter in parameters:
        assert np.shares_memory(parameter.value, parameters.values[parameter.span])
        assert np.shares_memory(parameter.grad, parameters.grads[parameter.span])
        rounded = parameter.decay and parameters.rounded is not None
        read = parameters.rounded if rounded else parameters.values
        assert np.shares_memory(parameter.operand, read[parameter.span])


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("name, precision", BACKENDS)
def test_a_copy_trains_as_the_original_and_apart_from_it(name, precision, way):
    model = mlp(backend_or_skip(name, precision))
    model.parameters.initialise(1)
    optimizer = AdamW(model.parameters)
    train(model, optimizer)
    copied_model, copied_optimizer = way((model, optimizer))
    assert copied_optimizer.parameters is copied_model.parameters is not model.parameters
    assert copied_model.input.weight is copied_model.parameters["input.weight"]
    assert_views(copied_model.parameters)

    before = model.parameters.values.copy(), model.parameters.grads.copy()
    after = train(copied_model, copied_optimizer)
    assert np.array_equal(model.parameters.values, before[0]) and np.array_equal(model.parameters.grads, before[1])
    assert train(model, optimizer) == after != [before[0].tobytes(), optimizer.average.tobytes()]


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("make", [unet, small_classifier])
def test_every_model_is_copied_whole(make, way):
    model = make(backends.get("auto"))
    model.parameters.initialise(1)
    copied = way(model)
    assert_views(copied.parameters)
    assert np.array_equal(copied.parameters.values, model.parameters.values)
    assert not np.shares_memory(copied.parameters.values, model.parameters.values)
    if make is unet:
        assert train(copied, AdamW(copied.parameters)) == train(model, AdamW(model.parameters))


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_layer_before_its_model(way):
    model = mlp(backends.get("numpy"))
    layer, parameter, copied = way((model.output, model.parameters["input.bias"], model))
    assert layer is copied.output and layer.weight is copied.parameters["output.weight"]
    assert parameter is copied.input.bias
    copied.parameters.values[...] = 7
    assert (layer.weight.value == 7).all() and (parameter.operand == 7).all()


def test_a_shallow_copy_is_the_same_parameters():
    model = mlp(backends.get("numpy"))
    for copied in (copy.copy(model).parameters, copy.copy(model.parameters)):
        assert copied.values is model.parameters.values and copied.grads is model.parameters.grads
        assert_views(copied)
    assert copy.copy(model.input.weight) is model.input.weight


def test_parameters_that_are_only_declared():
    parameters = Parameters(backends.get("numpy"))
    parameters.add("a", (2,), Constant(3.0))
    copied = copy.deepcopy(parameters)
    copied.add("b", (3,), Constant(4.0), decay=True)
    copied.allocate()
    copied.initialise(0)
    assert copied.values.tolist() == [4, 4, 4, 3, 3] and len(list(parameters)) == 1


def test_what_the_copy_of_an_average_is_an_average_of():
    """An optimizer whose average is another model's parameters, as the trainer has it."""
    model, averaged = mlp(backends.get("numpy")), mlp(backends.get("numpy"))
    optimizer = AdamW(model.parameters, average=averaged.parameters.values)
    model, averaged, optimizer = copy.deepcopy((model, averaged, optimizer))
    assert optimizer.average is averaged.parameters.values
    optimizer.average[...] = 5
    assert (averaged.input.weight.value == 5).all()


def test_an_optimizer_without_its_model_is_not_copied():
    model = mlp(backends.get("numpy"))
    optimizer = AdamW(model.parameters)
    for alone in (optimizer, (optimizer, model)):
        with pytest.raises(TypeError, match=r"after its model, together: copy.deepcopy\(\(model, optimizer\)\)"):
            copy.deepcopy(alone)


def test_a_layer_whose_model_is_gone_is_not_copied():
    layer = mlp(backends.get("numpy")).input
    with pytest.raises(TypeError, match="parameter input.weight cannot be copied: the model that .* is gone"):
        copy.deepcopy(layer)


def test_a_model_that_is_let_go_takes_its_buffers_along():
    gc.disable()
    try:
        model = mlp(backends.get("numpy"))
        values = weakref.ref(model.parameters.values)
        del model
        assert values() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("name, precision", BACKENDS)
def test_a_backend_is_copied_by_name(name, precision):
    backend = backend_or_skip(name, precision)
    assert copy.copy(backend) is backend is copy.deepcopy(backend)
    read = pickle.loads(pickle.dumps(backend))
    assert (read.name, read.precision, type(read)) == (name, precision, type(backend))
    assert b"get" in pickle.dumps(backend) and len(pickle.dumps(backend)) < 200
    Corruptor(schedules.cosine(5), "v", "simple", copy.deepcopy(backend))


@pytest.mark.parametrize("way", [copy.copy, *WAYS.values()], ids=["copy", *WAYS])
def test_what_holds_a_captured_graph_is_refused(way):
    trainer = tiny.trainer()
    with pytest.raises(TypeError, match=r"^a Trainer is neither .*: other.restore\(trainer.checkpoint\(\)\)$"):
        way(trainer)
    with pytest.raises(TypeError, match="^a Trajectory is neither copied nor pickled: make another"):
        way(trainer.trajectory(2, steps=2))
    corrupt = way(trainer.corrupt)
    assert corrupt.backend is trainer.backend or corrupt.backend.name == "numpy"
    averaged = way(trainer.averaged_model)
    assert np.array_equal(averaged.parameters.values, trainer.average)
