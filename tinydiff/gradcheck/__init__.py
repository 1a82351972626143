"""Gradients that can be checked: against central differences, term by term, and on paper.

``adjoint`` compares a backward with the definition of a derivative, ``table`` says of what and where, ``terms`` drops
one term of a backward, ``worked`` and ``explain`` show a derivation with numbers small enough to redo by hand, ``trace``
and ``taped`` write that arithmetic down, to be run where there is no NumPy.
"""

from tinydiff.gradcheck.adjoint import GradientMismatch, check_adjoint

__all__ = ["GradientMismatch", "check_adjoint"]
