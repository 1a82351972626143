"""Processes that train, draw and evaluate together, and the little that they say to each other.

A launcher starts them as ranks 0, 1, ... (``mpiexec -n R tinydiff train ...``, Slurm's ``srun``); MPI carries what they
say, and NCCL gradients that lie on GPUs. Whoever computes sees one object, ``Ranks``; a process alone is rank 0 of 1, and
needs neither of the two.
"""

from __future__ import annotations

import functools
import os

from tinydiff.ranks.last_words import LastWords
from tinydiff.ranks.ranks import Ranks

# What launchers leave in the environment of the processes that they start together: how many they are, and which it is
LAUNCHERS = (
    ("PMI_SIZE", "PMI_RANK"),  # MPICH, Intel MPI, srun --mpi=pmi2
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun of any other kind
)


@functools.cache
def alone():
    """The ``Ranks`` of a process that works by itself, which is every default."""
    return Ranks()


@functools.cache
def of_this_process():
    """The ``Ranks`` as one of which a launcher started this process; without a launcher ``alone()``.

    Raises ``ValueError`` where it was started as one of many and cannot reach the others.
    """
    size, rank = launched()
    if size == 1:
        return alone()
    last_words = LastWords(rank, size)
    try:
        from tinydiff.ranks.mpi import MpiRanks
    except (ImportError, RuntimeError) as error:  # the latter: mpi4py is here, and no MPI
        raise ValueError(f"{size} processes need mpi4py and MPI: pip install 'tinydiff[mpi]' ({error})") from None
    return MpiRanks.of_launcher(size, last_words)


def launched():
    """(how many processes a launcher says it has started together, which one of them this is)."""
    for names in LAUNCHERS:
        size, rank = (os.environ.get(name, "") for name in names)
        if size.isdigit() and rank.isdigit():
            return int(size), int(rank)
    return 1, 0


__all__ = ["Ranks", "alone", "launched", "of_this_process"]
