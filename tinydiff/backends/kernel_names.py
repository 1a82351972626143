"""The kernels of a .cu file, found in its text. Also run by the build, where nothing is installed yet."""

import re

KERNEL = re.compile(r'((?://.*\n)*)extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')


def kernels(text):
    """{name: the comment above it} of every kernel, in their order."""
    return {name: comment for comment, name in KERNEL.findall(text)}
