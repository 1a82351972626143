"""The command line: ``tinydiff train | sample | evaluate | gradcheck | export | import | info``."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys

import numpy as np

from tinydiff import __version__, backends
from tinydiff.commands import evaluate, sample, train
from tinydiff.data import mnist
from tinydiff.gradcheck import command as gradcheck
from tinydiff.interop import command as interop
from tinydiff.train import NonFinite

BAD_INPUT = 2  # exit status


def main(argv=None):
    """Entry point of the ``tinydiff`` command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="tinydiff", description="Diffusion without autograd: train on images, draw new ones."
    )
    parser.add_argument("--version", action="version", version=f"tinydiff {__version__}")
    names = "train | sample | evaluate | gradcheck | export | import | info"
    commands = parser.add_subparsers(required=True, metavar=names)

    command = commands.add_parser("train", help="train a model")
    train.add_arguments(command)
    command.set_defaults(function=train.train)

    command = commands.add_parser("sample", help="draw images with a trained model")
    sample.add_arguments(command)
    command.set_defaults(function=sample.sample)

    command = commands.add_parser("evaluate", help="measure how good a trained model's images are")
    evaluate.add_arguments(command)
    command.set_defaults(function=evaluate.evaluate)

    command = commands.add_parser("gradcheck", help="check every gradient, or explain one")
    gradcheck.add_arguments(command, backends.NAMES[1:])
    command.set_defaults(function=gradcheck.run)

    command = commands.add_parser("export", help="write a trained model as a folder of diffusers'")
    interop.add_export_arguments(command)
    command.set_defaults(function=interop.run_export)

    command = commands.add_parser("import", help="read a folder of diffusers' as a checkpoint")
    interop.add_import_arguments(command)
    command.set_defaults(function=interop.run_import)

    command = commands.add_parser("info", help="what this installation can do here")
    command.set_defaults(function=info)

    args = parser.parse_args(argv)
    return call(args.function, args)


def call(function, args):
    """Run a command so that bad input and a full disk end in one line, and return the exit status.

    ``TINYDIFF_TRACEBACK=1`` in the environment shows the traceback instead.
    """
    try:
        # values that are not finite end in an error where they matter; NumPy's warnings would only blur it
        with np.errstate(all="ignore"):
            return function(args) or 0
    except KeyboardInterrupt:
        print("tinydiff: interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except (ValueError, OSError, NonFinite, MemoryError) as error:
        if os.environ.get("TINYDIFF_TRACEBACK"):
            raise
        reason = str(error)
        if isinstance(error, OSError) and error.strerror:
            reason = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        print(f"tinydiff: {' '.join(reason.split()) or type(error).__name__}", file=sys.stderr)
        return BAD_INPUT


def info(args):
    """Print versions, backends and where data would be looked for."""
    print(f"tinydiff {__version__}, Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} CPUs")
    for name, state in backends.describe():
        print(f"backend {name}: {state}")
    try:
        found = f"{len(mnist.load('train', download=False)):,} training images"
    except ValueError as error:
        found = f"not on this machine ({error}); train downloads it"
    print(f"MNIST: {found}")
