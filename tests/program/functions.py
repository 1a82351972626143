"""Functions of no arguments to record: random sequences of ops and operators, and what they are compared by."""

import numpy as np
from hypothesis import strategies as st

from tests.checks import same_bits

STEPS = ("silu", "conv2d", "strided", "norm", "film", "add", "subtract", "scale", "divide", "clip", "halves", "middle")
STEPS += (
    "concat",
    "upsample2x",
    "linear",
    "attention",
    "layer_norm",
    "gelu",
    "geglu",
    "dropout",
    "copy",
    "rows",
    "views",
    "guide",
    "loss",
)


@st.composite
def sequences(draw):
    """(seed, shape of the first array, [(step, which earlier array it takes, a number)])."""
    shape = tuple(draw(st.integers(1, top)) for top in (3, 6, 6)) + (2 * draw(st.integers(1, 5)),)
    step = st.tuples(st.sampled_from(STEPS), st.integers(0, 1000), st.floats(-3, 3, width=32))
    return draw(st.integers(0, 2**32 - 1)), shape, draw(st.lists(step, min_size=1, max_size=12))


def activation(backend, array):
    """An array of NumPy's as this backend stores an activation, or a filter."""
    return array.astype(backend.activations or np.float32)


def of_sequence(backend, seed, shape, steps):
    """A function that takes the steps one after another, and at the end each op's backward, in reverse. Every step
    leaves an activation of four axes; a step that does not fit what it would take is left out."""
    rng = np.random.default_rng(seed)
    real, arrays = backend.activations or np.dtype(np.float32), {}
    first = activation(backend, rng.standard_normal(shape))

    def weight(place, *shape, dtype=real):
        """An array of the host's, made once: a step may not make one of its own."""
        if (place, shape) not in arrays:
            arrays[place, shape] = rng.standard_normal(shape).astype(dtype)
        return arrays[place, shape]

    def indices(place, N):
        """Numbers of places, or of a step."""
        if (place, N) not in arrays:
            arrays[place, N] = rng.integers(0, 2**32, N)
        return arrays[place, N]

    def lengths(place, N, M):
        """How many of M tokens each of N samples has."""
        if ("length", place, N, M) not in arrays:
            arrays["length", place, N, M] = rng.integers(1, M + 1, N)
        return arrays["length", place, N, M]

    def vector(place, C):
        """Parameters that are float32 in both precisions."""
        return weight(place, C, dtype=np.float32)

    def wide(x):
        """As float32, which operators and a loss take; ``narrow`` makes an activation of it again."""
        return x.astype(np.float32, copy=False)

    def narrow(x):
        return x.astype(real, copy=False)

    def function():
        made, backwards = [backend.silu.forward(first)[0]], []

        def forward(op, *inputs, **options):
            y, cache = op.forward(*inputs, **options)
            backwards.append((op, cache, y))
            return y

        for place, (step, which, number) in enumerate(steps):
            x = made[which % len(made)]
            if x.shape[-1] % 2:  # as a loss is
                x = made[0]
            C, same = x.shape[-1], [each for each in made if each.shape == x.shape]
            other = same[which % len(same)]
            if step == "silu":
                y = forward(backend.silu, x)
            elif step == "conv2d":
                add = other if which % 2 else None
                y = forward(backend.conv2d, x, weight(place, 3, 3, C, C), vector(place, C), add, padding=1)
            elif step == "strided":
                y = forward(backend.conv2d, x, weight(place, 2, 2, C, 4), None, stride=2, padding=(0, 1))
            elif step in ("norm", "film"):
                film = [weight(place + i / 4, len(x), C) for i in (1, 2)] if step == "film" else [None, None]
                y = forward(backend.group_norm, x, vector(place, C), vector(place + 0.5, C), *film, groups=2, silu=True)
            elif step == "add":
                y = x + other
            elif step == "subtract":
                y = narrow(wide(x) - wide(other))
            elif step == "scale":
                y = narrow(np.float32(number) * wide(x) + number)
            elif step == "rows":  # a number for each sample
                numbers = vector("rows", len(x)).reshape(-1, 1, 1, 1)
                y = narrow(numbers * wide(x) if number < 0 else wide(x) * numbers)
            elif step == "divide":
                y = narrow(wide(x) / 2.5 - number)
            elif step == "clip":
                y = narrow(wide(x).clip(-abs(number), 1.0))
            elif step == "halves":  # two parts written side by side
                y = backend.empty(x.shape, real)
                y[..., : C // 2], y[..., C // 2 :] = other[..., : C // 2], x[..., C // 2 :]
            elif step == "middle":  # of an array that is changed afterwards
                y = x.copy()
                y[:, :1] = other[:, :1]
            elif step == "concat":
                y = forward(backend.concat, x, other) if C < 40 else x
            elif step == "upsample2x":
                y = forward(backend.upsample2x, x) if x.shape[1] < 20 else x
            elif step == "linear":
                y = forward(backend.linear, x, weight(place, C, 6), vector(place, 6))
            elif step == "attention":
                tokens = x.reshape(len(x), -1, 2, C // 2)
                length = lengths(place, len(x), tokens.shape[1]) if which % 3 == 0 else None
                values = other.reshape(tokens.shape)
                y = forward(backend.attention, tokens, tokens, values, length, causal=which % 2 == 0).reshape(x.shape)
            elif step == "layer_norm":
                y = forward(backend.layer_norm, x, vector(place, C), vector(place + 0.5, C))
            elif step == "gelu":
                y = forward(backend.gelu, x, form=("exact", "tanh", "quick")[which % 3])
            elif step == "geglu":
                y = forward(backend.geglu, forward(backend.concat, x, x))
            elif step == "dropout":
                slot = indices(place, len(x)) if which % 2 else None
                y = forward(backend.dropout, x, indices(place, 1), slot, rate=0.4, layer=place, seed=which)
            elif step == "copy":
                y = x[:, :1].copy()
            elif step == "views":
                y = x[:1].reshape(1, -1, 1, C)
            elif step == "guide":
                both = backend.empty((2 * len(x), *x.shape[1:]))
                both[: len(x)], both[len(x) :] = wide(x), wide(other)
                y = narrow(both[len(x) :] + number * (both[: len(x)] - both[len(x) :]))
            elif step == "loss":
                loss = forward(backend.mse_loss, wide(x), wide(other))
                y = narrow(loss.reshape(1, 1, 1, 1))
            made.append(y)
        gradients = []
        for op, cache, y in reversed(backwards):
            dy = 1.0 if y.shape == () else y  # an upstream of the right shape
            gradients.append(op.backward(dy, cache))
        return {"made": made[-2:], "gradients": gradients, "losses": [y for _, _, y in backwards if y.shape == ()]}

    return function


def flat(outputs):
    """All arrays of a nest of tuples, lists and dictionaries, copied."""
    if isinstance(outputs, dict):
        return [array for each in outputs.values() for array in flat(each)]
    if isinstance(outputs, (tuple, list)):
        return [array for each in outputs for array in flat(each)]
    return [] if outputs is None else [np.array(outputs)]


def assert_same(outputs, expected):
    """The same bits, everywhere."""
    outputs, expected = flat(outputs), flat(expected)
    assert len(outputs) == len(expected)
    for i, (a, b) in enumerate(zip(outputs, expected)):
        assert a.shape == b.shape and same_bits(a, b), f"output {i} of {len(expected)}, {b.shape}, has other bits"
