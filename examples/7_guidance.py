"""Warm-up 7: guidance. How hard to insist on the label, and what it costs.

What you will see: digits drawn with guidance w = 0 to 8 from the same noise,

    guided = null + w (conditional - null),

one row each. At 0 the label is ignored, at 1 obeyed, and beyond that exaggerated: strokes thicken towards the template of
each digit, the classifier recognises more and more of them, and those of one label grow alike. Both are measured: accuracy,
and diversity, the mean distance between two images drawn for the same digit, in that of real ones (the thin line).

    python examples/7_guidance.py
"""

import numpy as np
import warm_up

from tinydiff import pictures, plot
from tinydiff.data import bytes_to_signed
from tinydiff.metrics import classifier

GUIDANCE = (0, 0.5, 1, 2, 4, 8)


def main(out, quick):
    digits = warm_up.Digits(quick)
    each = 6 if quick else 30
    labels = np.repeat(np.arange(10), each)
    real = np.concatenate([bytes_to_signed(digits.data.images[digits.data.labels == k][:each]) for k in range(10)])
    real_accuracy, real_diversity = measure(real, labels)

    images, accuracy, diversity = [], [], []
    print("guidance   accuracy   diversity")
    for w in GUIDANCE:
        drawn = digits.draw(labels, guidance=w, steps=10 if quick else 20)
        recognised, spread = measure(drawn, labels)
        print(f"{w:8g}   {recognised:8.1%}   {spread:9.3f}")
        images.append(drawn[np.arange(10) * each])
        accuracy.append(recognised)
        diversity.append(spread)
    print(f"    real   {real_accuracy:8.1%}   {real_diversity:9.3f}")

    at = {w: i for i, w in enumerate(GUIDANCE)}
    assert accuracy[at[0]] < 0.3, "without guidance the label is not heard"
    assert accuracy[at[4]] > accuracy[at[1]] and accuracy[at[4]] > accuracy[at[0]] + 0.2, "with it digits are clearer"
    assert diversity[at[0]] > diversity[at[1]] > diversity[at[4]], "and more alike"

    figure = plot.Figure(1, 3, width=330, height=330, title="guidance: from any digit to the template of each")
    figure.panel(0, 0, f"w = {', '.join(f'{w:g}' for w in GUIDANCE)} from above", span=2).picture(
        pictures.grid(np.concatenate(images), 10)
    )
    axes = dict(x=(0, 8), y=(0, 1.25), x_label="guidance w")
    panel = figure.panel(0, 2, "what is gained and lost", **axes)
    panel.line(GUIDANCE, accuracy, label="accuracy", marks=True)
    panel.line(GUIDANCE, np.array(diversity) / real_diversity, label="diversity, of real digits'", marks=True)
    panel.level(1)
    figure.save(out)


def measure(images, labels):
    """The share that the classifier recognises, and the mean distance between two images of one label."""
    accuracy = np.mean(classifier.classify(warm_up.enlarged(images)) == labels)
    distances = []
    for k in range(10):
        x = images[labels == k].reshape(np.count_nonzero(labels == k), -1)
        squares = ((x[:, None] - x[None]) ** 2).mean(axis=2)
        distances.append(np.sqrt(squares[np.triu_indices(len(x), 1)]).mean())
    return accuracy, np.mean(distances)


if __name__ == "__main__":
    warm_up.run(main, __doc__, "7_guidance.png")
