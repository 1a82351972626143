"""A line for a rank that is killed (by hand, or for want of memory): its launcher ends the others and names a process."""

from __future__ import annotations

import atexit
import os
import platform
import signal
import socket
import time
import warnings

AFTER = 1.0  # seconds in which the launcher ends the others, whose deaths say nothing

MOST_FILES = 65536  # that are looked for to be closed


def if_killed(rank, size):
    """Have a process beside this one say that this rank is gone, should it be; of several that die at once one is named.

    Returns a function that takes leave: what ends this process after it is no surprise. Leaving Python takes leave too.
    """
    if not hasattr(os, "fork"):
        return lambda: None
    words = f"tinydiff: rank {rank} of {size}, on {platform.node()}, is gone: process {os.getpid()} was killed\n"
    launcher = os.getppid()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not need
        child = os.fork()
    if child == 0:
        try:
            _wait(reading, words, launcher)
        finally:
            os._exit(0)
    os.close(reading)

    def leave():
        nonlocal writing
        if writing is not None:
            os.write(writing, b"0")
            os.close(writing)
            writing = None

    atexit.register(leave)
    return leave


def _wait(reading, words, launcher):
    """What the child does: read until a byte takes leave, or the other end is closed by nothing but death."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, reading)
    os.closerange(reading + 1, min(os.sysconf("SC_OPEN_MAX"), MOST_FILES))
    if os.read(reading, 1):
        return
    with socket.socket(socket.AF_UNIX) as first:
        try:
            first.bind(f"\0tinydiff-{launcher}")  # a name that is free again when this process ends, on Linux
        except OSError:
            return  # another rank has died of the same
        os.write(2, words.encode())
        os.close(1)
        os.close(2)
        time.sleep(AFTER)
