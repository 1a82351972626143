"""What training needs of memory, told before it begins, on every backend.

cpu       the program of a step is planned before it is run
numpy     a step with one sample and one with two are run, which says what more take (``tinydiff.backends.metered``)
emulator  the ops are run on arrays without memory, and those are counted (``tinydiff.backends.weightless``)
cuda      the same. It is assumed that memory is shared out as CuPy's pools do it, one for all that lasts and one for every
          captured graph, which two runs before the recording fill. What the driver takes for kernels and graphs is left
          out. That was not measured, but on the emulator

Told is what comes on top of what the process holds when training begins. So the images count where they are copied, on
a GPU.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

from tinydiff.backends import metered
from tinydiff.backends.cuda import CudaBackend
from tinydiff.backends.graph import WARM_UPS
from tinydiff.backends.weightless import Pool, WeightlessLauncher
from tinydiff.generate import batches
from tinydiff.program import runs
from tinydiff.program.text import amount
from tinydiff.ranks import alone
from tinydiff.train.run import SAMPLES_PER_CLASS, shown
from tinydiff.train.trainer import Trainer

IN_A_HEAP = "numpy", "emulator"  # the C library keeps their arrays, and what is resident is more than what they hold:
GAPS = 1.1  # times as much (measured, of presets and of larger images: 1.03 to 1.17)
DRAWN = dict(steps=2, guidance=1.0)  # as on the way, but for the number of steps: more take no more memory


class Need(NamedTuple):
    """Bytes that training needs, and how many parameters it trains.

    state     parameters, gradients, average, two moments, and what is rounded or waits of them
    step      the most that a step takes beside them
    pictures  what drawing samples on the way takes beside both
    images    the data set, with its labels and what is made of its texts, in the host's memory
    copied    what of it is needed once more, on a GPU
    frozen    {which: bytes} of the parameters of networks that are not trained
    """

    parameters: int
    state: int
    step: int
    pictures: int
    images: int
    copied: int
    frozen: dict[str, int] = {}

    @property
    def total(self):
        """All but the images that the host holds already."""
        return self.state + sum(self.frozen.values()) + self.step + self.pictures + self.copied

    def __str__(self):
        parts = [
            f"{amount(self.state, 'B')} for {self.parameters:,} parameters, their gradients, average and two moments",
            f"{amount(self.step, 'B')} for a step",
        ]
        parts += [f"{amount(nbytes, 'B')} for its {which}" for which, nbytes in self.frozen.items()]
        parts += [f"{amount(self.pictures, 'B')} for pictures"] if self.pictures else []
        parts += [f"{amount(self.copied, 'B')} for images"] if self.copied else []
        return f"{amount(self.total, 'B')}: {', '.join(parts)}"


def expect_enough(config, backend, dataset, *, ranks=alone(), pictures=True, begun=False):
    """What a run of a ``RunConfig`` needs on a backend, as ``Need``, and how many bytes are free, or None where that is not
    known.

    ranks     share this machine's memory; of GPUs each has its own
    pictures  whether samples are drawn on the way
    begun     the run is one that goes on, and keeps its number of parts

    Raises ``ValueError`` that says what there is and what to lower, where that is less than what is needed.
    """
    free = backend.free_memory()
    if free is not None and backend.name != "cuda":
        free //= ranks.local_size
    need = of_training(config, backend, dataset, pictures=pictures, free=free)
    if free is None or need.total <= free:
        return need, free
    said = f"training in steps of {config.part} images needs {need} of memory, and {amount(free, 'B')} are free"
    if begun:
        raise ValueError(f"{said}; a run goes on with the batch and the parts that it began with, where there is more")
    for parts in _more_parts(config, ranks):
        smaller = of_training(dataclasses.replace(config, parts=parts), backend, dataset, pictures=pictures, free=free)
        if smaller.total <= free:
            raise ValueError(
                f"{said}; --parts {parts} needs {amount(smaller.total, 'B')}, as does a smaller --batch; narrower "
                "--channels or a smaller --image-size need less, too"
            )
    raise ValueError(f"{said}; --parts does not help, but narrower --channels or a smaller --image-size")


def _more_parts(config, ranks):
    """Those that a batch can be cut into, and ranks can share, beyond what it is cut into."""
    return [n for n in range(config.parts + 1, config.batch + 1) if config.batch % n == 0 and n % ranks.size == 0]


def of_training(config, backend, dataset, *, pictures=True, free=None):
    """What it needs, as ``Need``. Where the state alone is more than is free, step and pictures are left out as 0."""
    launcher = WeightlessLauncher(backend.has_room_for)
    trainer = runs.training_of(config)(config, dataset, CudaBackend("cuda", backend.precision, launcher))
    texts = sum(each.nbytes for each in getattr(trainer.model, "texts", None) or () if each is not None)
    images = trainer.images.nbytes + trainer.labels.nbytes + texts
    waiting = (config.parts - 1).bit_length() * trainer.parameters.grads.nbytes  # sums of parts, for others
    state, averaged = launcher.live - images + waiting, trainer.averaged_model.parameters
    rounded = 0 if averaged.rounded is None else averaged.rounded.nbytes
    if backend.name != "cuda":  # zeros of NumPy's take no memory before somebody writes them
        state -= averaged.grads.nbytes + rounded
    frozen = {which: _size(parameters) for which, parameters in trainer.frozen.items()}
    need = Need(
        trainer.parameters.count,
        state - sum(frozen.values()),
        step=0,
        pictures=0,
        images=dataset.images.nbytes + trainer.labels.nbytes + texts,
        copied=images if backend.name == "cuda" else 0,
        frozen=frozen,
    )
    if free is not None and need.total > free:
        return need
    step, drawing = WORK[backend.name](trainer, backend, _drawn_at_once(trainer) if pictures else [])
    if backend.name in IN_A_HEAP:
        step += round((GAPS - 1) * (need.state + sum(frozen.values()) + step))
    if pictures and backend.name != "cuda":
        drawing += rounded
    return need._replace(step=step, pictures=drawing)


def _size(parameters):
    """Bytes of parameters that are not trained, and of what is rounded of them."""
    return parameters.values.nbytes + (0 if parameters.rounded is None else parameters.rounded.nbytes)


def _drawn_at_once(trainer):
    """The numbers of images in the batches of a picture on the way, each once. An autoencoder draws none: what it
    reconstructs takes less than a step."""
    if not isinstance(trainer, Trainer):
        return []
    labels, _ = shown(trainer.model.classes, SAMPLES_PER_CLASS, trainer.image_shape)
    return sorted({each.stop - each.start for each in batches(len(labels), trainer.image_shape, trainer.config.part)})


def _planned(trainer, backend, counts):
    config = trainer.config
    programs = [runs.of_config(config, backend, "train").program]
    programs += [runs.of_config(config, backend, "sample", count=count, **DRAWN).program for count in counts]
    step = backend.memory_of(programs[0])
    return step, backend.memory_of(*programs) - step


def _metered(trainer, backend, counts):
    """Drawing takes less than a step, and memory that a step gave back."""
    config = trainer.config
    return _peak_of(dataclasses.replace(config, batch=1, parts=1))(config.part), 0


@functools.lru_cache(maxsize=1)
def _peak_of(config):
    """What a step of numpy takes with any number of samples: ``metered.peak``."""

    def step(backend, n):
        trainer = runs.without_data(dataclasses.replace(config, batch=n), backend)
        trainer.optimizer.prepare(1, config.learning_rate)
        return trainer.one_step

    return metered.peak(step)


def _counted(trainer, backend, counts):
    """As for the numpy backend."""
    launcher = trainer.backend.launcher
    before = launcher.live

    def most(function):
        launcher.peak = before
        function()
        return launcher.peak - before

    return max(map(most, _captured(trainer))), 0


def _in_pools(trainer, backend, counts):
    launcher = trainer.backend.launcher

    def held(function):
        with launcher.taking_from(Pool()) as pool:
            for _ in range(WARM_UPS + 1):
                outputs = function()
            del outputs
        return pool.held

    drawing = [trainer.trajectory(count, **DRAWN).finished for count in counts]
    return sum(map(held, _captured(trainer))), sum(map(held, drawing))


def _captured(trainer):
    """The functions that a step consists of."""
    return [trainer.one_step] if trainer.config.parts == 1 else [trainer.one_part, trainer.optimizer.step]


WORK = {"cpu": _planned, "numpy": _metered, "emulator": _counted, "cuda": _in_pools}
