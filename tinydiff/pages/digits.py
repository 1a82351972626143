"""Programs that draw with a model, and judge what was drawn, for the pages that show it.

    digits/program.json         one image at a time, by every sampler in every number of steps
    digits/row.json             one of each class at once, by the same ways, which that file therefore does not repeat
    digits/weights.safetensors  of both

Beside what ``program.web`` says, ``about`` holds ``names`` of the classes, ``digits`` (whether they are digits) and
``advice`` (``shipped.measured``, of the shipped model alone). Of digits there is one more program, "classify": it takes
``image``, (N, 28, 28, 1), and gives ``logits``, (N, 10).
"""

from __future__ import annotations

import numpy as np

from tinydiff import backends
from tinydiff.metrics import classifier
from tinydiff.pages import shipped
from tinydiff.program import file, web
from tinydiff.program.record import record
from tinydiff.samplers import SAMPLERS

FOLDER, ROW = "digits", "row.json"
MOST_STEPS = 50
MOST_IN_A_ROW = 10


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    return facts(checkpoint), programs(checkpoint)


def facts(checkpoint):
    """What the page states about the model: {name: text}."""
    return {}


def programs(checkpoint):
    """{path: bytes} of the folder ``digits``."""
    config, data_set = checkpoint.config, checkpoint.data_set
    is_digits = bool(data_set and data_set.digits and config.model.classes == classifier.CLASSES)
    names = data_set.class_names if data_set else [str(label) for label in range(config.model.classes)]
    about = {"names": list(names), "digits": is_digits}
    if checkpoint is shipped.load():
        about["advice"] = shipped.measured()
    ways = {sampler: range(1, min(MOST_STEPS, config.noise_steps) + 1) for sampler in SAMPLERS}
    one = _stored(checkpoint, 1, ways, is_digits)
    row = _stored(checkpoint, min(MOST_IN_A_ROW, max(1, config.model.classes)), ways, is_digits)
    # what is neither, such as the waves that tell the network where it is, is no parameter and stays as it is
    types = dict.fromkeys(checkpoint.parts[shipped.PART], "BF16")
    types |= {name: "F16" for name in one.values if name.startswith("classifier.")}
    one_files = file.contents(one._replace(about=one.about | about), types=types)
    row_about = {name: value for name, value in row.about.items() if name != "ways"}
    row_files = file.contents(row._replace(about=row_about | about), types=types)
    assert row_files[file.WEIGHTS] == one_files[file.WEIGHTS]
    return {**{f"{FOLDER}/{name}": content for name, content in one_files.items()}, f"{FOLDER}/{ROW}": row_files[file.PROGRAM]}


def _stored(checkpoint, count, ways, is_digits):
    backend = backends.get("numpy")
    also = {"classify": classify(backend, count)} if is_digits else {}
    return web.of_checkpoint(checkpoint, backend, count=count, ways=ways, part=shipped.PART, also=also)


def classify(backend, count):
    """The ``Recording`` of the classifier on so many images."""
    model = classifier.trained(backend)
    image = backend.zeros((count, classifier.SIZE, classifier.SIZE, 1), np.float32)
    state = {f"classifier.{each.name}": each.value for each in model.parameters}
    return record(lambda: {"logits": model.forward(image)[0]}, backend, inputs={"image": image}, state=state)
