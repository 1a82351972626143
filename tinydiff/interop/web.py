"""A trained model as a folder that a page's engine loads (``tinydiff/site/engine.js``), and what rounding costs it."""

from __future__ import annotations

import functools

import numpy as np

from tinydiff import backends, tensors
from tinydiff.generate import Trajectory, draw
from tinydiff.metrics import classifier
from tinydiff.model.unet import UNet
from tinydiff.noise import schedules
from tinydiff.program import file, web

JUDGED = 200  # images drawn to see what rounding costs
PRECISIONS = ("fp32", "bf16")


def export_folder(checkpoint, folder, *, part="average", precision="fp32", **options):
    """Write a checkpoint's programs and the parameters they draw with; return a sentence about each, a list.

    precision  of these parameters in the file: "fp32", or "bf16", rounded: then the sentences say what that cost
    options    of ``program.web.of_checkpoint``

    The folder appears whole or not at all. Raises ``ValueError`` for one that is there and not empty, and for a way that
    the noise schedule does not allow; ``OSError`` if it cannot be written.
    """
    stored = web.of_checkpoint(checkpoint, backends.get("numpy"), part=part, **options)
    types = dict.fromkeys(checkpoint.parts[part], "BF16") if precision == "bf16" else None
    file.write(folder, stored, types=types)
    said = [f"{len(stored.programs)} programs; they need {stored.memory / 2**20:.1f} MB of memory"]
    if precision == "bf16":
        sampler, [steps, *_] = next(iter(options["ways"].items()))
        said.append(cost_of_rounding(checkpoint, part, sampler=sampler, steps=steps))
    return said


def cost_of_rounding(checkpoint, part, **sampling):
    """Draw the same images with the parameters as they are and rounded to bfloat16; say how they differ.

    sampling  options of ``Trajectory``
    """
    config, backend = checkpoint.config, backends.get("auto")
    model, schedule = UNet(config.model, backend), schedules.get(config.schedule, config.noise_steps)
    labels = np.arange(JUDGED) % max(1, config.model.classes)
    trajectory_of = functools.cache(lambda count: Trajectory(model, schedule, config.prediction, count, **sampling))
    rounded = {name: tensors.round_to_bf16(value) for name, value in checkpoint.parts[part].items()}
    drawn = []
    for parameters in (checkpoint.parts[part], rounded):
        model.parameters.load(model.parameters.values, parameters)
        drawn.append(draw(trajectory_of, labels, config.model.shape))
    difference = np.sqrt(np.mean(np.square(drawn[1] - drawn[0], dtype=np.float64)))
    how = f"{JUDGED} images ({sampling['sampler']}, {sampling['steps']} steps)"
    said = f"rounded to bfloat16: the pixels of {how} differ by {difference:.2g} (root mean square; they span 2)"
    if not (checkpoint.data_set and checkpoint.data_set.digits and config.model.classes):
        return said
    before, after = (np.mean(classifier.classify(images, "auto") == labels) for images in drawn)
    error = np.sqrt(max(after * (1 - after), 1 / JUDGED) / JUDGED)
    return f"{said}; {after:.1%} are recognised, {before:.1%} with exact parameters (standard error {error:.1%})"
