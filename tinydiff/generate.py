"""From a trained network to images: guidance, denoiser and sampler put together."""

from __future__ import annotations

import numpy as np

from tinydiff.noise.guidance import guided
from tinydiff.noise.predictions import denoiser
from tinydiff.noise.schedules import CLEAN
from tinydiff.samplers import SAMPLERS

IMAGE_RANGE = (-1.0, 1.0)


def generate(
    model,
    schedule,
    prediction,
    labels,
    *,
    sampler="ddim",
    steps=50,
    guidance=1.0,
    seed=0,
    first=0,
    clip=IMAGE_RANGE,
    **options,
):
    """Draw one image (or point) for each label; yields the sampler's ``State`` at every step, the last being finished.

    model       a U-Net or MLP; its backend does the work. One without classes takes label 0 for every image
    prediction  what the model predicts: "eps", "x0" or "v"
    labels      (N,) integers in [0, classes); ``classes`` itself asks for "any class"
    sampler     a name in ``SAMPLERS``; further ``options`` go to it (``eta``, ``variance``)
    steps       how many, in [1, T]; "heun" evaluates the network 2 steps - 1 times, the others steps times
    seed, first sample i starts from noise that depends on (seed, first + i) alone, not on the batch
    clip        the range of the data, to which every x0_hat is clipped, or None

    Raises ``ValueError`` for an unknown sampler, a label or a number of steps out of range, or a model whose
    output is not finite.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
    backend, classes = model.backend, model.config.classes
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or labels.min() < 0 or labels.max() > classes:
        raise ValueError(
            f"labels must be a list of classes in [0, {classes}] ({classes} for any), got {labels.tolist()}"
        )
    run, spacing = SAMPLERS[sampler]
    grid = schedule.grid(steps, spacing)
    sample = backend.asarray(first + np.arange(len(labels)), np.int64)

    def normal(purpose, draw):
        return backend.philox.forward(seed, purpose, sample, draw, model.config.shape, kind="normal")

    def predict(x, step, labels):
        steps_N = backend.zeros((x.shape[0],)) + np.float32(step)
        return model.predict(x, steps_N, labels if classes else None)

    predict_guided = guided(predict, backend.asarray(labels, np.int32), classes, guidance, backend)
    denoise = denoiser(predict_guided, schedule, prediction, clip=clip)
    states = run(denoise, normal("start", 0), schedule, grid, noise=lambda i: normal("sampler", i), **options)
    for state in states:
        if state.step == CLEAN and not np.isfinite(backend.to_numpy(state.x)).all():
            raise ValueError("the model's output is not finite")
        yield state
