"""What the lesson states and shows: ``lesson.html``, and for its modules

    lesson/data.json     real digits, the model's schedule step by step, other schedules beside it
    digits/lesson.json   programs that draw, noise and compare one image; the weights are those of the page of digits

The lesson speaks of the model that comes with the package, whatever draws on the other pages: where that is another
one, its programs and weights lie in a folder of their own, ``lesson``.

The digits are the third of each kind among the test images of MNIST (LeCun, Cortes and Burges), side by side in
``lesson.png``, so that the site can be made without MNIST. To make that file again:

    python -m tinydiff.pages.lesson
"""

from __future__ import annotations

import base64
import io
import json
import math
from importlib import resources

import numpy as np
from PIL import Image

from tinydiff import backends
from tinydiff.data import mnist
from tinydiff.files import write_atomically
from tinydiff.noise import predictions, schedules
from tinydiff.noise.schedules import CLEAN, Schedule
from tinydiff.pages import PREDICTIONS, digits, lesson_questions, shipped
from tinydiff.pages.page import decibels
from tinydiff.program import file, web
from tinydiff.program.record import record

HERE = resources.files(__package__)
DIGITS, OF_EACH = HERE / "lesson.png", 2  # which of the test images of a kind, counted from 0
DATA, PROGRAM = "lesson/data.json", f"{digits.FOLDER}/lesson.json"
OWN = "lesson"  # the folder of its programs where it has one
TRIP = 40  # steps from noise to an image, and as many from an image to noise
STOPS = 100  # at which other schedules are shown
UNSCALED = "linear, not rescaled"
LARGEST_SHARE = 1e-4  # of signal power that passes for none


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    model = shipped.load()
    stored = programs(model)
    made = file.contents(stored, types=digits.types_of(model, stored))
    if checkpoint is model:
        place, files = PROGRAM, {PROGRAM: made[file.PROGRAM]}
    else:
        place, files = f"{OWN}/{file.PROGRAM}", {f"{OWN}/{name}": content for name, content in made.items()}
    stated = facts(model)
    stated |= {"program": place, "questions": lesson_questions.as_html(stated)}
    return stated, {DATA: json.dumps(data(model)).encode(), **files}


def programs(checkpoint):
    """The ``Stored`` programs: to draw, as ``program.web`` has them, to judge, and ``studies``."""
    backend, config = backends.get("numpy"), checkpoint.config
    ways = {"ddpm": (TRIP, config.noise_steps), "ddim": (TRIP,)}
    also = {"classify": digits.classify(backend, 1), **studies(backend, config.prediction, config.model.shape)}
    stored = web.of_checkpoint(checkpoint, backend, ways=ways, apart=True, part=shipped.PART, also=also)
    return stored._replace(about={**stored.about, "digits": True})


def studies(backend, kind, shape):
    """Programs on one image, {name: Recording}.

    noise    makes ``noisy`` = signal_rate clean + noise_rate eps, with ``eps`` from noise.seed and noise.draw: once with
             the rates of a noise step it is the jump there; again and again, the chain of small steps
    compare  takes a network's ``guess`` of that kind at ``compare.noisy`` apart into ``x0_guess`` and ``eps_guess``, and
             gives the mean squared error of the same guess said as each of ``PREDICTIONS``: ``error_eps``, ...
    """
    zeros = backend.zeros
    image = lambda: zeros((1, *shape))
    clean, eps, noisy, guess = image(), image(), image(), image()
    a, s = zeros(()), zeros(())
    rates = {"signal_rate": a, "noise_rate": s}
    seed, sample, draw = zeros(1, np.uint64), zeros(1, np.int64), zeros(1, np.int64)

    def recorded(*arrays):
        return map(backend.recorder.as_recorded, arrays)

    def noise():
        x0, signal_rate, noise_rate = recorded(clean, a, s)
        drawn = backend.philox.forward(seed, "noise", sample, draw, shape, kind="normal")
        return {"noisy": signal_rate * x0 + noise_rate * drawn, "eps": drawn}

    def compare():
        x0, noise, x, said, *rates = recorded(clean, eps, noisy, guess, a, s)
        guessed = predictions.split(kind, said, x, *rates)
        errors = {}
        for each in PREDICTIONS:
            as_said, as_is = (predictions.join(each, *parts, *rates) for parts in (guessed, (x0, noise)))
            errors[f"error_{each}"], _ = backend.mse_loss.forward(as_said, as_is)
        return {"x0_guess": guessed[0], "eps_guess": guessed[1], **errors}

    of_noise = {"clean": clean, "noise.seed": seed, "noise.draw": draw, **rates}
    of_compare = {"clean": clean, "compare.eps": eps, "compare.noisy": noisy, "guess": guess, **rates}
    return {
        "noise": record(noise, backend, inputs=of_noise, state={"noise.sample": sample}),
        "compare": record(compare, backend, inputs=of_compare),
    }


def real_digits():
    """The ten images, (10, 28, 28) bytes, in the order of their digits."""
    with Image.open(io.BytesIO(DIGITS.read_bytes())) as sheet:
        return np.stack(np.split(np.asarray(sheet), 10, axis=1))


def compared():
    """The schedules that the lesson puts side by side, {short name: Schedule}."""
    return {
        "linear": schedules.linear(1000),
        "cosine": schedules.cosine(1000),
        "unscaled": Schedule(UNSCALED, np.linspace(1e-4, 0.02, 200)),
        "scaled": schedules.linear(200),
    }


def data(checkpoint):
    """What ``lesson/data.json`` holds.

    digits     images in base64, 28 x 28 bytes each
    schedule   the model's: name, T, and lists of its T noise steps
    schedules  the compared ones, at ``STOPS`` places, equally far apart, that end with the last step
    chain      [noise step, signal_rate, noise_rate] of each of ``TRIP`` small steps from a clean image to noise, the
               rates being those from one step to the next
    early      the entry of a DDIM way of ``TRIP`` steps where as much signal is left as a schedule ends with that was
               not rescaled
    """
    schedule = schedules.get(checkpoint.config.schedule, checkpoint.config.noise_steps)
    x0_coefficient, x_coefficient, variance = schedule.posterior
    grid = schedule.grid(TRIP)
    unscaled = compared()["unscaled"]
    return {
        "digits": [base64.b64encode(image.tobytes()).decode() for image in real_digits()],
        "schedule": {
            "name": schedule.name,
            "T": schedule.T,
            **_rates(schedule, slice(None)),
            "x0_coefficient": _short(x0_coefficient),
            "x_coefficient": _short(x_coefficient),
            "variance": _short(variance),
        },
        "schedules": {
            name: {"name": each.name, "T": each.T, **_rates(each, slice(each.T // STOPS - 1, None, each.T // STOPS))}
            for name, each in compared().items()
        },
        "chain": chain(schedule),
        "early": int(np.argmin(np.abs(schedule.log_snr[grid.astype(int)] - unscaled.log_snr[-1]))),
    }


def chain(schedule):
    """See ``data``: q(x_next | x) = N(x a_next / a, 1 - (a_next / a)^2), a being signal rates."""
    steps = [CLEAN, *reversed(schedule.grid(TRIP).astype(int).tolist())]
    rows = []
    for step, following in zip(steps, steps[1:]):
        keeps = schedule.rates(following)[0] / schedule.rates(step)[0]
        rows.append([following, *_short([keeps, math.sqrt(1 - keeps**2)])])
    return rows


def facts(checkpoint):
    """What the page states: {name: HTML}."""
    config, known = checkpoint.config, compared()
    schedule = schedules.get(config.schedule, config.noise_steps)
    hundred = Schedule(UNSCALED, np.linspace(1e-4, 0.02, 100))
    linear, unscaled = known["linear"], known["unscaled"]
    total = linear.beta.sum()
    return {
        "parameters": f"{shipped.parameters_of(checkpoint):,}",
        "trained_on": _rounded(checkpoint.step * config.batch),
        "T": str(schedule.T),
        "schedule_name": schedule.name,
        "prediction": config.prediction,
        "trip": str(TRIP),
        "whole_trip": str(2 * TRIP),
        "model_end_db": decibels(schedule.snr_db[-1]),
        "linear_end": _power(linear.alpha_bar[-1]),
        "linear_end_signal": f"{linear.signal_rate[-1]:.5f}",
        "linear_end_db": decibels(linear.snr_db[-1]),
        "linear_total": f"{total:.2f}",
        "linear_mean": f"{linear.beta.mean():.5f}",
        "linear_estimate": _power(math.exp(-total)),
        "hundred_total": f"{hundred.beta.sum():.3f}",
        "hundred_end": f"{hundred.alpha_bar[-1]:.2f}",
        "hundred_end_db": decibels(hundred.snr_db[-1]),
        "one_in_e": f"{math.exp(-1):.2f}",
        "unscaled_end": f"{unscaled.alpha_bar[-1]:.2f}",
        "unscaled_end_signal": f"{100 * unscaled.signal_rate[-1]:.0f} %",
        "unscaled_end_db": decibels(unscaled.snr_db[-1]),
        "linear_half": f"{100 * _share_where_noise_wins(linear):.0f} %",
        "cosine_half": f"{100 * _share_where_noise_wins(known['cosine']):.0f} %",
        "ends": _ends([*known.values(), hundred]),
    }


def _share_where_noise_wins(schedule):
    """The part of the steps after which there is more noise than signal."""
    return (np.argmax(schedule.log_snr < 0) + 1) / schedule.T


def _ends(known):
    """Rows of a table: how each schedule ends."""
    rows = []
    for each in known:
        words = "yes" if each.alpha_bar[-1] < LARGEST_SHARE else "no"
        cells = (each.T, _power(each.alpha_bar[-1]), _power(each.signal_rate[-1]), decibels(each.snr_db[-1]), words)
        rows.append(f'<tr><th scope="row">{each.name}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return "\n".join(rows)


def _rates(schedule, stops):
    tables = {name: getattr(schedule, name) for name in ("signal_rate", "noise_rate", "snr_db")}
    return {name: _short(table[stops]) for name, table in tables.items()}


def _short(numbers):
    return [web.short(each) for each in numbers]


def _power(number):
    """In three digits, for HTML."""
    if number >= 0.01:
        return f"{number:.3g}"
    digits, exponent = f"{number:.2e}".split("e")
    return f"{digits} × 10<sup>−{-int(exponent)}</sup>"


def _rounded(count):
    return f"{count / 1e6:.1f} million" if count >= 1e6 else f"{count:,}"


def main():
    """Store the digits that the lesson shows."""
    test = mnist.load("test")
    chosen = [test.images[np.flatnonzero(test.labels == label)[OF_EACH], ..., 0] for label in range(10)]
    content = io.BytesIO()
    Image.fromarray(np.concatenate(chosen, axis=1)).save(content, "png", optimize=True)
    write_atomically(DIGITS, content.getvalue())
    print(f"wrote {DIGITS}")


if __name__ == "__main__":
    main()
