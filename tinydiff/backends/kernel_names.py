"""The kernels of a .cu file, found in its text. Also run by the build, where nothing is installed yet."""

import re

PRECISIONS = ("fp32", "bf16")  # every file is compiled in both
KERNEL = re.compile(r'((?://.*\n)*)extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')
BF16_ALONE = re.compile(r"^#ifdef TINYDIFF_BF16\n.*?^#(?:else|endif)", re.MULTILINE | re.DOTALL)


def kernels(text, precision="bf16"):
    """{name: the comment above it} of every kernel that there is in this precision, in their order; bf16 has all."""
    if precision != "bf16":
        text = BF16_ALONE.sub("", text)
    return {name: comment for comment, name in KERNEL.findall(text)}
