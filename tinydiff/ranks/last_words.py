"""A line for a rank that is killed (by hand, or for want of memory): its launcher ends the others and names a process."""

from __future__ import annotations

import atexit
import os
import platform
import select
import signal
import socket
import time
import warnings

AFTER = 1.0  # seconds in which the launcher ends the others, whose deaths say nothing
ORDER = 1.0  # seconds in which the system says which of them it was that died first

HIGH = 200  # number of a file, above those that a rank has open
MOST_FILES = 65536  # that are looked for to be closed
LEAVE = "leave\n"


class LastWords:
    """A process beside this rank that says that it is gone, should it be; of several that die at once one is named: the
    first, where Linux tells its ranks apart (``beside``)."""

    def __init__(self, rank, size):
        self._writing = None
        if not hasattr(os, "fork"):
            return
        words = f"tinydiff: rank {rank} of {size}, on {platform.node()}, is gone: process {os.getpid()} was killed\n"
        launcher = os.getppid()
        reading, writing = os.pipe()
        self._writing = _raised(writing)
        own = self.place
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does not need
            child = os.fork()
        if child == 0:
            try:
                _wait(reading, words, own, launcher)
            finally:
                os._exit(0)
        os.close(reading)
        atexit.register(self.leave)

    @property
    def place(self):
        """Where others on this machine find what closes when this rank dies, as a word."""
        return f"/proc/{os.getpid()}/fd/{self._writing}"

    def beside(self, places):
        """Tell the places of all ranks of this machine, this one's among them."""
        self._say(" ".join(places) + "\n")

    def leave(self):
        """What ends this process from here on is no surprise. Leaving Python says so too."""
        self._say(LEAVE)
        if self._writing is not None:
            os.close(self._writing)
        self._writing = None

    def _say(self, line):
        if self._writing is not None:
            os.write(self._writing, line.encode())


def _raised(descriptor):
    """The same file under a high number: Linux closes those of a dead process from the highest down, so that this one is
    closed before what the launcher knows its death by. Where so many files are not allowed, as it is."""
    import fcntl  # not on Windows, which does not fork either

    try:
        raised = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, HIGH)
    except OSError:
        return descriptor
    os.close(descriptor)
    return raised


def _wait(reading, words, own, launcher):
    """What the child does: read until a line takes leave, or the other end, of place ``own``, is closed by nothing but
    death."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.closerange(3, reading)
    os.closerange(reading + 1, min(os.sysconf("SC_OPEN_MAX"), MOST_FILES))
    first_death = None
    with os.fdopen(reading) as lines:
        for line in lines:
            if line == LEAVE:
                return
            first_death = _watch(line.split())
    if first_death and first_death() not in (own, None):
        return  # the launcher has ended this one for the death of another, however late it is seen
    with socket.socket(socket.AF_UNIX) as first:
        try:
            first.bind(f"\0tinydiff-{launcher}")  # a name that is free again when this process ends, on Linux
        except OSError:
            return  # another rank has died of the same
        os.write(2, words.encode())
        os.close(1)
        os.close(2)
        time.sleep(AFTER)


def _watch(places):
    """A function that returns at which of the places of ranks the first died, by the order in which the system queued
    that their pipes were closed; None where no system tells.

    A rank's files are closed, by which its launcher knows and ends the others, before the process itself is gone: on
    busy cores the others can be gone before it.
    """
    deaths, watched = getattr(select, "epoll", lambda: None)(), {}
    try:
        for place in places:
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)
            watched[descriptor] = place
            deaths.register(descriptor, 0)  # of nothing but that no end is left to write to
    except (AttributeError, OSError):
        return None

    def first_death():
        queued = deaths.poll(ORDER, 1)
        return watched[queued[0][0]] if queued else None

    return first_death
