"""Classifier-free guidance: extrapolate from the unconditional prediction through the conditional one.

    guided = null + w (conditional - null)

w = 0 is the unconditional model, w = 1 the conditional one, w > 1 exaggerates what the label adds. The
other convention in print, (1 + v) conditional - v null, is w = 1 + v.

The formula is the same whether the network predicts eps, x0 or v: at a given x these are affine functions of
each other, and the two weights, w and 1 - w, sum to one.

Source: Ho and Salimans, "Classifier-free diffusion guidance", 2022, eq. 6.
"""

from __future__ import annotations

USUAL = 2.0  # w where none is asked for


def guided(predict, labels, null_label, guidance, backend):
    """Fix the labels and the guidance of a conditional network: returns ``predict(x, step)``.

    predict     (x (N,...), step, labels (N,)) -> prediction (N,...)
    labels      (N,) integers, an array of the backend
    null_label  the label that stands for "no class"
    guidance    w >= 0, a number; 0 and 1 cost one network evaluation, all others one of twice the batch

    Raises ``ValueError`` for a negative or non-finite guidance.
    """
    expect_guidance(guidance)
    null_labels = backend.zeros(labels.shape, labels.dtype) + null_label
    if guidance == 0:
        return lambda x, step: predict(x, step, null_labels)
    if guidance == 1:
        return lambda x, step: predict(x, step, labels)

    return extrapolated(predict, labels, null_labels, guidance, backend)


def expect_guidance(guidance):
    """Raise ``ValueError`` for a negative or non-finite guidance."""
    if not 0 <= guidance < float("inf"):
        raise ValueError(f"guidance must be a finite number of at least 0, got {guidance}")


def extrapolated(predict, labels, null_labels, guidance, backend):
    """The same for any guidance, which may be one for each sample, an array of the backend (N, 1, ..., 1), and null
    labels (N,): returns ``predict(x, step)``, one evaluation of twice the batch."""
    N = labels.shape[0]
    both_labels = backend.empty((2 * N,), labels.dtype)
    both_labels[:N], both_labels[N:] = labels, null_labels

    def predict_guided(x, step):
        both_x = backend.empty((2 * N, *x.shape[1:]), x.dtype)
        both_x[:N], both_x[N:] = x, x
        both = predict(both_x, step, both_labels)
        conditional, null = both[:N], both[N:]
        return null + guidance * (conditional - null)

    return predict_guided
