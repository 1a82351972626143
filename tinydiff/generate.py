"""From a trained network to images: guidance, denoiser and sampler put together."""

from __future__ import annotations

import numpy as np

from tinydiff.noise.guidance import expect_guidance, guided
from tinydiff.noise.predictions import denoiser
from tinydiff.noise.schedules import CLEAN
from tinydiff.ranks import alone
from tinydiff.samplers import SAMPLERS, finish

IMAGE_RANGE = (-1.0, 1.0)
PIXELS_AT_ONCE = 2**16  # 83 digits of 28x28: a batch that any machine's memory holds, and large enough to be fast


def batches(count, shape, at_most=None):
    """Slices of ``count`` images of this shape (H, W, C) that are drawn at once: of more than one image no more than
    ``PIXELS_AT_ONCE``, nor than ``at_most`` images; and as many in each where that can be had, as every number of images
    needs a ``Trajectory`` of its own."""
    most = max(1, PIXELS_AT_ONCE // (shape[0] * shape[1]))
    most = max(1, min(count, most, count if at_most is None else at_most))
    size = next((n for n in range(most, most // 2, -1) if count % n == 0), most)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def draw(trajectory_of, labels, shape, *, seed=0, each=iter, decode=lambda images: images, at_most=None, ranks=alone()):
    """Finished images of labels (n,) -> (n, *shape) float32 of NumPy, drawn in batches that fit into memory.

    trajectory_of  count -> the ``Trajectory`` of so many; asked again for each batch, so it may well keep them
    each           wraps the list of batches, say in a progress bar
    decode         makes images of what was drawn, if they are not: arrays of NumPy, (N, ...) -> (N, *shape)
    at_most        how many images at once, if not as many as fit; see ``batches``
    ranks          share the batches, to the same bits; all return all images
    """
    all_batches, images = batches(len(labels), shape, at_most), []
    for batch in each([all_batches[i] for i in ranks.share(len(all_batches))]):
        trajectory = trajectory_of(batch.stop - batch.start)
        drawn = trajectory.draw(labels[batch], seed=seed, first=batch.start)
        images.append(decode(np.array(trajectory.model.backend.to_numpy(drawn))))  # a copy: the next may overwrite it
    return np.concatenate([drawn for of_rank in ranks.gather(images) for drawn in of_rank])


def generate(model, schedule, prediction, labels, *, seed=0, first=0, **options):
    """Draw one image (or point) for each label; yields the sampler's ``State`` at every step, the last being finished.

    labels       (N,) integers in [0, classes); ``classes`` itself asks for "any class"
    seed, first  sample i starts from noise that depends on (seed, first + i) alone, not on the batch

    The others, and what is raised, as for ``Trajectory``.
    """
    return Trajectory(model, schedule, prediction, np.size(labels), **options).states(labels, seed=seed, first=first)


class Trajectory:
    """All of a sampler's way from noise to so many images, to be gone again and again.

    model       a U-Net or MLP; its backend does the work. One without classes takes label 0 for every image
    prediction  what the model predicts: "eps", "x0" or "v"
    count       how many images at a time, N
    sampler     a name in ``SAMPLERS``; further ``options`` go to it (``eta``, ``variance``)
    spacing     of the steps, as of ``Schedule.grid``, if not the sampler's own; "leading" ends at step 0's noise
    steps       how many, in [1, T]; "heun" evaluates the network 2 steps - 1 times, the others steps times
    guidance    at least 0; see ``noise.guidance``. A model that takes it is told, and asked once
    clip        the range of the data, to which every x0_hat is clipped, or None
    way         an ``Editing``, of an image that drawing begins with, or an ``Interpolation``; it is not captured

    What differs from one time to the next (labels, seed, and the parameters of the model) lies in arrays, so that on a
    GPU the whole way is one captured graph. That cannot be copied, and neither can this: copy the model.

    Raises ``ValueError`` for an unknown sampler, a number of steps out of range, or a way that is not valid.
    """

    def __init__(
        self,
        model,
        schedule,
        prediction,
        count,
        *,
        sampler="ddim",
        steps=50,
        spacing=None,
        guidance=1.0,
        clip=IMAGE_RANGE,
        way=None,
        **options,
    ):
        if sampler not in SAMPLERS:
            raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}, got {sampler!r}")
        self.model, self.schedule, self.prediction, self.count = model, schedule, prediction, count
        self.guidance, self.clip, self.options = guidance, clip, options
        self._sampler, own = SAMPLERS[sampler]
        self._grid, self._way, backend = schedule.grid(steps, spacing or own), way, model.backend
        if spacing == "leading":
            self.schedule = schedule.ending_at(0)
        if way:
            way.expect_valid(model.config.shape)
            self._grid = way.part_of(self._grid)
        self._labels = backend.zeros(count, np.int64)
        self._sample = backend.zeros(count, np.int64)
        self._seed = backend.zeros(1, np.uint64)
        self._run = self.finished if way else backend.capture(self.finished)

    @property
    def inputs(self):
        """{name: array} of what differs from one time to the next."""
        return {"labels": self._labels, "sample": self._sample, "seed": self._seed}

    def finished(self):
        """All of the way, from what lies in ``inputs`` to the finished images, unchecked: what is captured."""
        return finish(self._states())

    def __reduce__(self):
        raise TypeError("a Trajectory is neither copied nor pickled: make another, for the copy of its model")

    def draw(self, labels, *, seed=0, first=0):
        """The finished images (N, H, W, C), an array of the backend that the next call may overwrite.

        Raises ``ValueError`` for a label out of range, or a model whose output is not finite.
        """
        self._take(labels, seed, first)
        x = self._run()
        self._check(x)
        return x

    def states(self, labels, *, seed=0, first=0):
        """The same one step at a time: yields the sampler's ``State`` at every step, the last being finished."""
        self._take(labels, seed, first)
        for state in self._states():
            if state.step == CLEAN:
                self._check(state.x)
            yield state

    def _take(self, labels, seed, first):
        """Put what differs from one time to the next where ``_states`` reads it."""
        backend, classes, labels = self.model.backend, self.model.classes, np.asarray(labels)
        if labels.ndim != 1 or len(labels) == 0 or labels.min() < 0 or labels.max() > classes:
            raise ValueError(
                f"labels must be a list of classes in [0, {classes}] ({classes} for any), got {labels.tolist()}"
            )
        if len(labels) != self.count:
            raise ValueError(f"labels must be {self.count}, as many as are drawn at a time, got {len(labels)}")
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**64:
            raise ValueError(f"seed must be an integer in [0, 2^64), got {seed}")
        self._labels[...] = backend.asarray(labels, np.int64)
        self._first = first
        apart = first + np.arange(self.count)
        self._sample[...] = backend.asarray(0 * apart if getattr(self._way, "same_noise", False) else apart, np.int64)
        self._seed[...] = backend.asarray(np.array([seed], np.uint64))
        self.model.parameters.refresh()  # those of an average change without it

    def _states(self):
        model, backend, config = self.model, self.model.backend, self.model.config

        def normal(purpose, draw, seed=None):
            seed = self._seed if seed is None else seed
            return backend.philox.forward(seed, purpose, self._sample, draw, config.shape, kind="normal")

        def predict(x, step, labels, **told):
            of_each = lambda number: backend.zeros((x.shape[0],)) + np.float32(number)
            told = {name: of_each(number) for name, number in told.items()}
            return model.predict(x, of_each(step), labels if model.classes else None, **told)

        def denoise_of(labels):
            if model.takes_guidance:
                expect_guidance(self.guidance)
                predict_guided = lambda x, step: predict(x, step, labels, guidance=self.guidance)
            else:
                predict_guided = guided(predict, labels, model.classes, self.guidance, backend)
            return denoiser(predict_guided, self.schedule, self.prediction, clip=self.clip)

        if self._way:
            where = self._first, self._labels, normal, self.schedule, self._grid, backend
            return self._way.states(self._sampler, denoise_of, *where, **self.options)
        start, noise = normal("start", 0), lambda i: normal("sampler", i)
        return self._sampler(denoise_of(self._labels), start, self.schedule, self._grid, noise=noise, **self.options)

    def _check(self, x):
        if not np.isfinite(self.model.backend.to_numpy(x)).all():
            raise ValueError("the model's output is not finite")
