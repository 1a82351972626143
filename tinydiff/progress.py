"""Progress on standard error: a bar on a terminal, a line now and then in a log file.

Showing it never ends what it shows: where standard error is closed, gone, on a full disk, or of an encoding that lacks
a character, less is seen and the work goes on.
"""

from __future__ import annotations

import sys

from tqdm import tqdm

SECONDS_BETWEEN_LINES, SECONDS_WITHOUT = 30, 5  # in a log file, where short work is not worth a line
LINE = "{desc}{n_fmt} of {total_fmt} UNITS, {elapsed} so far, {remaining} left, {rate_fmt}{postfix}"


def progress_bar(iterable=None, *, total=None, initial=0, unit="step", desc=None, unit_scale=False, leave=True, shown=True):
    """A ``tqdm`` over ``iterable``, or to be told by ``update``, that writes where and as it can.

    unit    in the singular, of a regular noun
    shown   False: nothing is written
    """
    stream = _Unfailing(sys.stderr)
    if stream.isatty():
        options = dict(dynamic_ncols=True)
    else:
        line = LINE.replace("UNITS", unit + ("es" if unit.endswith("ch") else "s"))
        options = dict(mininterval=SECONDS_BETWEEN_LINES, delay=SECONDS_WITHOUT, bar_format=line)
    return _Bar(
        iterable,
        total=total,
        initial=initial,
        unit=unit,
        desc=desc,
        unit_scale=unit_scale,
        leave=leave,
        file=stream,
        miniters=1,  # time alone decides when it is drawn
        disable=not shown or sys.stderr is None,
        **options,
    )


class _Bar(tqdm):
    monitor_interval = 0  # no thread beside it


class _Unfailing:
    """A text stream, or None, on which a write that fails is a write of nothing; to a file whole lines are written."""

    def __init__(self, stream):
        self._stream = stream
        self.encoding = getattr(stream, "encoding", None) or "ascii"

    def isatty(self):
        try:
            return self._stream.isatty()
        except (AttributeError, ValueError):  # there is none, or it is closed
            return False

    def fileno(self):
        return self._stream.fileno()  # for the width of the terminal; tqdm does without if this raises

    def write(self, text):
        if not self.isatty():
            text = text.strip()  # of the carriage return before a bar, and the blanks that cover an older one
            text = text and text + "\n"
        try:
            self._stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
            self._stream.flush()
        except (AttributeError, OSError, ValueError):
            pass

    def flush(self):
        pass  # every write is
