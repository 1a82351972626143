"""The page index.html, and the programs that draw with a model and judge what was drawn, for every page that shows it.

    digits/program.json         one image at a time, by every sampler in every number of steps
    digits/row.json             ``row`` of them at once, by the same ways, which that file therefore does not repeat
    digits/weights.safetensors  of both

Beside what ``program.web`` says, ``about`` holds ``names`` of the classes, ``digits`` (whether the classifier can judge
them), ``row`` (how many that draws: one of each class, at most ten), ``snr_db`` of every noise step, and ``advice``
(``shipped.measured``, of the shipped model alone). Of digits there is one more program, "classify": it takes ``image``,
(N, 28, 28, 1), and gives ``logits``, (N, 10).
"""

from __future__ import annotations

import html

import numpy as np

from tinydiff import backends
from tinydiff.metrics import classifier
from tinydiff.noise import schedules
from tinydiff.pages import SAMPLERS, shipped
from tinydiff.pages.page import decibels, with_formulas
from tinydiff.program import file, web
from tinydiff.program.record import record

FOLDER, ROW = "digits", "row.json"
MOST_STEPS = 50
MOST_IN_A_ROW = 10
# as the page begins, where the text says how good the model is
SAMPLER, STEPS, GUIDANCE = "ddim", 25, 1.0
# what a network predicts: in words, as the target of its training, and the clean image that follows from it
TARGETS = {
    "eps": (
        "the noise",
        r"\(y = \varepsilon\)",
        r"\(\hat x_0 = (x_t - \sqrt{1 - \bar\alpha_t} \, \hat y) / \sqrt{\bar\alpha_t}\)",
    ),
    "x0": ("the clean image", r"\(y = x_0\)", r"\(\hat x_0 = \hat y\)"),
    "v": (
        "the “velocity” between image and noise",
        r"\(y = \sqrt{\bar\alpha_t} \, \varepsilon - \sqrt{1 - \bar\alpha_t} \, x_0\)",
        r"\(\hat x_0 = \sqrt{\bar\alpha_t} \, x_t - \sqrt{1 - \bar\alpha_t} \, \hat y\)",
    ),
}


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    return facts(checkpoint), programs(checkpoint)


def facts(checkpoint):
    """What the page states about the model: {name: text or HTML}."""
    config, data_set = checkpoint.config, checkpoint.data_set
    schedule = schedules.get(config.schedule, config.noise_steps)
    digits = are_digits(checkpoint)
    data = html.escape(data_set.name if data_set else config.data)
    count = shipped.parameters_of(checkpoint)
    size = "×".join(map(str, config.model.shape[:2])) + (" grey" if config.model.image_channels == 1 else " colour")
    target, formula, clean = TARGETS[config.prediction]
    classes = config.model.classes
    pick = "Pick a digit" if digits else "Pick a class" if classes else "Take a seed"
    return {
        "heading": "Digits" if digits else f"Images like those of {data}",
        "pick": pick,
        "thing": "digit" if digits else "image",
        "parameters": f"{count:,}",
        "megabytes": f"{2 * count / 1e6:.1f} MB" if count > 5e4 else f"{2 * count / 1e3:.0f} kB",
        "size": size,
        "channels": ", ".join(map(str, config.model.channels)),
        "data": "MNIST, handwritten digits" if digits and data == "mnist" else data,
        "training": f"{checkpoint.step:,} steps of {config.batch} images each",
        "T": str(config.noise_steps),
        "schedule": config.schedule,
        "signal_last": f"{schedule.signal_rate[-1]:.2g}",
        "snr_first": decibels(schedule.snr_db[0]),
        "snr_last": decibels(schedule.snr_db[-1]),
        "given": "this is how much noise" + (", this is what it should show" if classes else ""),
        "target": target,
        "target_formula": with_formulas(formula),
        "clean_formula": with_formulas(clean),
        "dropout": f"{config.label_dropout * 100:g} %",
        "accuracy": _accuracy(checkpoint),
    }


def _accuracy(checkpoint):
    """A sentence on how many digits are recognised, of the shipped model alone."""
    if checkpoint is not shipped.load():
        return ""
    measured = shipped.measured()
    row = next(each for each in measured["rows"] if (each["guidance"], each["steps"]) == (GUIDANCE, STEPS))
    return (
        f"Of {measured['images']:,} digits that it drew with guidance {GUIDANCE:g} in {STEPS} steps of "
        f"{measured['sampler'].upper()}, the classifier recognised {row['accuracy']:.1%}; of MNIST’s test images it "
        f"recognises {measured['real']['accuracy']:.2%}."
    ).replace("%", " %")


def are_digits(checkpoint):
    """Whether the classifier can judge what a checkpoint draws."""
    model, data_set, known = checkpoint.config.model, checkpoint.data_set, classifier.MNIST.config
    return bool(data_set and data_set.digits and model.classes == known.classes and model.shape == known.shape)


def programs(checkpoint):
    """{path: bytes} of the folder ``digits``."""
    config, data_set = checkpoint.config, checkpoint.data_set
    classes, is_digits = config.model.classes, are_digits(checkpoint)
    named = data_set and len(data_set.class_names) == classes
    names = data_set.class_names if named else [str(label) for label in range(classes)]
    in_a_row = min(MOST_IN_A_ROW, classes or MOST_IN_A_ROW)
    snr_db = [round(float(each), 1) for each in schedules.get(config.schedule, config.noise_steps).snr_db]
    about = {"names": list(names), "digits": is_digits, "row": in_a_row, "snr_db": snr_db}
    if checkpoint is shipped.load():
        about["advice"] = shipped.measured()
    ways = {sampler: range(1, min(MOST_STEPS, config.noise_steps) + 1) for sampler in SAMPLERS}
    one = _stored(checkpoint, 1, ways, is_digits)
    row = _stored(checkpoint, in_a_row, ways, is_digits)
    types = types_of(checkpoint, one)
    one_files = file.contents(one._replace(about=one.about | about), types=types)
    row_about = {name: value for name, value in row.about.items() if name != "ways"}
    row_files = file.contents(row._replace(about=row_about | about), types=types)
    assert row_files[file.WEIGHTS] == one_files[file.WEIGHTS]
    files = {**one_files, ROW: row_files[file.PROGRAM]}
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def types_of(checkpoint, stored):
    """In which types ``file.contents`` shall write the weights: those of the model, and those of the classifier."""
    # what is neither, such as the waves that tell the network where it is, is no parameter and stays as it is
    types = dict.fromkeys(checkpoint.parts[shipped.PART], "BF16")
    return types | {name: "F16" for name in stored.values if name.startswith("classifier.")}


def _stored(checkpoint, count, ways, is_digits):
    backend = backends.get("numpy")
    also = {"classify": classify(backend, count)} if is_digits else {}
    return web.of_checkpoint(checkpoint, backend, count=count, ways=ways, part=shipped.PART, also=also)


def classify(backend, count):
    """The ``Recording`` of the classifier on so many images."""
    model = classifier.trained(backend)
    image = backend.zeros((count, *classifier.MNIST.config.shape), np.float32)
    state = {f"classifier.{each.name}": each.value for each in model.parameters}
    return record(lambda: {"logits": model.forward(image)[0]}, backend, inputs={"image": image}, state=state)
