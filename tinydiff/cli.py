"""The command line: ``tinydiff train | train-vae | distill | sample | evaluate | gradcheck | program | site | export |
import | info``."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import platform
import signal
import sys
import traceback

import numpy as np

from tinydiff import __version__, backends, terminal
from tinydiff import ranks as processes
from tinydiff.commands import distill, evaluate, sample, site, train, train_vae
from tinydiff.data import mnist
from tinydiff.gradcheck import command as gradcheck
from tinydiff.interop import command as interop
from tinydiff.program import command as program
from tinydiff.train import NonFinite

BAD_INPUT = 2  # exit status
READER_GONE = 128 + 13  # that of a program that SIGPIPE ended, which not every system has


def main(argv=None):
    """Entry point of the ``tinydiff`` command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tinydiff", description="Diffusion without autograd: train on images, draw new ones."
    )
    parser.add_argument("--version", action="version", version=f"tinydiff {__version__}")
    names = "train | train-vae | distill | sample | evaluate | gradcheck | program | site | export | import | info"
    commands = parser.add_subparsers(required=True, metavar=names)

    command = commands.add_parser("train", help="train a model")
    train.add_arguments(command)
    command.set_defaults(function=together(train.train))

    command = commands.add_parser("train-vae", help="train an autoencoder, to train in its latents")
    train_vae.add_arguments(command)
    command.set_defaults(function=together(train_vae.train_vae))

    command = commands.add_parser(
        "distill", help="teach a student to draw in few steps what a trained model draws in many"
    )
    distill.add_arguments(command)
    command.set_defaults(function=together(distill.distill))

    command = commands.add_parser("sample", help="draw images with a trained model")
    sample.add_arguments(command)
    command.set_defaults(function=together(sample.sample))

    command = commands.add_parser("evaluate", help="measure how good a trained model's images are")
    evaluate.add_arguments(command)
    command.set_defaults(function=together(evaluate.evaluate))

    command = commands.add_parser("gradcheck", help="check every gradient, or explain one")
    gradcheck.add_arguments(command)
    command.set_defaults(function=gradcheck.run)

    command = commands.add_parser("program", help="print what a run computes, call by call, and what memory it needs")
    program.add_arguments(command)
    command.set_defaults(function=program.run)

    command = commands.add_parser("site", help="open the site: digits, a lab, a lesson and gradients in the browser")
    site.add_arguments(command)
    command.set_defaults(function=site.site)

    command = commands.add_parser("export", help="write a trained model for diffusers, as ONNX or for a web page")
    interop.add_export_arguments(command)
    command.set_defaults(function=interop.run_export)

    command = commands.add_parser("import", help="read a folder of diffusers' as a checkpoint")
    interop.add_import_arguments(command)
    command.set_defaults(function=interop.run_import)

    command = commands.add_parser("info", help="what this installation can do here")
    command.add_argument("run", nargs="?", help="also what this run, or checkpoint, needs of memory")
    program.add_precision_argument(command)
    command.set_defaults(function=together(info))

    try:
        args = parser.parse_args(argv)
    except SystemExit as stopped:  # what was asked for was help, or what was given no command
        raise SystemExit(_finish(stopped.code)) from None
    return call(args.function, args)


def call(function, args):
    """Run a command so that bad input and a full disk end in one line, and return the exit status.

    Where whoever reads standard output is gone (``| head -1``), it ends quietly with the status of a program that a
    broken pipe stopped. ``TINYDIFF_TRACEBACK=1`` in the environment shows the traceback instead of the line.
    """
    terminal.say_all()
    if sys.stdout is None:  # said before hours of work, not after
        return _finish(0)
    try:
        # values that are not finite end in an error where they matter; NumPy's warnings would only blur it
        with np.errstate(all="ignore"):
            status = function(args) or 0
    except (Exception, KeyboardInterrupt) as error:
        if (failure := _failure(error)) is None:
            raise
        status, reason = failure
        if status == BAD_INPUT:
            unwritten = terminal.finish_output()
            is_printing = isinstance(error, OSError) and error.filename is None
            return _fail(unwritten if unwritten and is_printing else error)
        if reason:
            terminal.complain(reason)
    return _finish(status)


def together(command):
    """A command that ranks run together: rank 0 alone says what happens. An error on any of them ends all, and is said
    with the rank."""

    @functools.wraps(command)
    def run(args):
        try:
            ranks = processes.of_this_process()
        except ValueError:
            if processes.launched()[1]:
                return BAD_INPUT  # as rank 0, which says it
            raise
        if ranks.size == 1:
            return command(args, ranks)
        os.environ["TINYDIFF_THREADS"] = os.environ.get("TINYDIFF_THREADS") or str(ranks.threads)
        try:
            with contextlib.nullcontext() if ranks.speaks else terminal.silence():
                return command(args, ranks)
        except (Exception, KeyboardInterrupt) as error:
            if (failure := _failure(error)) is None:
                traceback.print_exception(error)
            ranks.abort(*(failure or (1, repr(error))))

    return run


def _failure(error):
    """The exit status of a command that this error ends, and what is to be said of it; None if it is a defect of ours."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT, "interrupted"
    if isinstance(error, BrokenPipeError):
        return READER_GONE, ""
    if isinstance(error, (ValueError, OSError, NonFinite, MemoryError)) and not os.environ.get("TINYDIFF_TRACEBACK"):
        return BAD_INPUT, _reason(error)
    return None


def _fail(error):
    """Say what is wrong; returns the exit status."""
    terminal.complain(_reason(error))
    return BAD_INPUT


def _reason(error):
    reason = str(error)
    if isinstance(error, OSError) and error.strerror:
        reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return reason or type(error).__name__


def _finish(status):
    """The exit status of a command that ended with ``status``, once its output has reached whom it was for."""
    error = terminal.finish_output()
    if error is None:
        return status
    return status or READER_GONE if isinstance(error, BrokenPipeError) else _fail(error)


def info(args, ranks):
    """Print versions, backends and where data would be looked for."""
    if args.precision and not args.run:
        raise ValueError("precision goes with a run, whose memory it decides")
    each_rank = ranks.gather(f"rank {ranks.rank} of {ranks.size}: {ranks}")
    print(f"tinydiff {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    for name, state in backends.describe():
        print(f"backend {name}: {state}")
    try:
        found = f"{len(mnist.load('train', download=False)):,} training images"
    except ValueError as error:
        found = f"not on this machine ({terminal.one_line(error)}); train downloads it"
    print(f"MNIST: {found}")
    if ranks.size > 1:
        print("\n".join(each_rank))
    if args.run:
        print("\n".join(program.describe_memory(args.run, args.precision)))
