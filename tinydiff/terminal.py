"""What a command says and to whom: names on one line, and outputs that are closed, full, or nobody reads."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import stat
import sys
import time
from pathlib import Path

try:
    import fcntl
    import termios
except ImportError:  # Windows
    fcntl = None

OUTPUT = "standard output"


def say_all():
    """Let standard output and error show characters that their encoding lacks as escapes, and never fail of them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def silence():
    """Within: what is printed, and what progress displays show, goes nowhere."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def one_line(text):
    """A name or a message with line ends, control characters and bytes that are no text as escapes."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text))


def shell_words(words):
    """Arguments as a shell takes them, in its quotes; those that cannot be shown as they are as ``$'...'``."""
    return " ".join(_quoted(str(word)) for word in words)


def _quoted(word):
    try:
        word.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        shown = word.isprintable()
    except UnicodeEncodeError:
        shown = False
    if shown:
        return shlex.quote(word)
    plain = range(ord(" "), 0x7F)
    escaped = (chr(b) if b in plain and chr(b) not in "'\\" else f"\\x{b:02x}" for b in os.fsencode(word))
    return f"$'{''.join(escaped)}'"


def own_command(*arguments):
    """A call of this program as a shell takes it here: by the name ``tinydiff`` where that leads to what is installed
    with this Python, by its path where it does not (in a virtual environment that was never activated)."""
    installed = shutil.which("tinydiff", path=os.path.dirname(sys.executable))
    named = shutil.which("tinydiff")
    if named and (installed is None or os.path.samefile(named, installed)):
        program = ["tinydiff"]
    elif installed is None:
        program = [sys.executable, "-m", "tinydiff"]
    else:
        path = Path(installed)
        program = [path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path]
    return shell_words([*program, *arguments])


def complain(message):
    """Write ``tinydiff: message`` to standard error, as one line, if it can be written to."""
    if sys.stderr is None:
        return
    try:
        print(f"tinydiff: {one_line(message)}", file=sys.stderr, flush=True)
    except OSError:
        point_nowhere(sys.stderr)


def wait_until_read(stream, patience):
    """Until whoever reads the pipe that ``stream`` is has taken what was written to it, but no longer than ``patience``
    seconds; at once where it is no pipe."""
    deadline = time.monotonic() + patience
    with contextlib.suppress(OSError):
        if stream is None or fcntl is None or not stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode):
            return
        while any(fcntl.ioctl(stream.fileno(), termios.FIONREAD, bytes(4))) and time.monotonic() < deadline:
            time.sleep(0.01)


def finish_output():
    """Write out all that was printed; returns the ``OSError`` if that failed, and then nothing will try it again.

    What is left of standard error (a progress display's) is let go in silence: there is nobody to tell.
    """
    if sys.stderr is not None:
        try:
            sys.stderr.flush()
        except OSError:
            point_nowhere(sys.stderr)
    if sys.stdout is None:  # closed before Python began
        return OSError(errno.EBADF, os.strerror(errno.EBADF), OUTPUT)
    try:
        sys.stdout.flush()
    except OSError as error:
        point_nowhere(sys.stdout)
        error.filename = OUTPUT
        return error
    return None


def point_nowhere(stream):
    """What a stream still holds would fail once more when Python ends, with words of its own and another status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
