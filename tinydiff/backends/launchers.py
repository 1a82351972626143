"""Who runs the kernels of ``csrc/cuda``: a GPU, through CuPy, or this CPU, through their emulator.

A launcher owns arrays and launches. ``launch(kernel, grid, block, shared_bytes, arguments, precision)`` takes arrays of its
own kind, ``None`` for a null pointer, and NumPy scalars of exactly the size that the kernel declares. Every kernel is
compiled in two precisions, in which activations are stored as float32 or as bfloat16.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

import numpy as np

PRECISIONS = ("fp32", "bf16")
KERNEL = re.compile(r'extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s+)?(\w+)\(')
BF16_ALONE = re.compile(r"^#ifdef TINYDIFF_BF16\n.*?^#(?:else|endif)", re.MULTILINE | re.DOTALL)
OLDEST = 80  # compute capability times ten: sm_80 brought bfloat16 on tensor cores and asynchronous copies


def sources():
    """The folder of the CUDA sources: in the package, or in the checkout where it is run from one."""
    package = Path(__file__).parents[1]
    installed = package / "csrc_cuda"
    return installed if installed.is_dir() else package.parent / "csrc" / "cuda"


def kernel_files(precision="fp32"):
    """{kernel: the .cu file that holds it} in this precision; bf16 has every kernel."""
    texts = {path: path.read_text() for path in sorted(sources().glob("*.cu"))}
    if precision != "bf16":
        texts = {path: BF16_ALONE.sub("", text) for path, text in texts.items()}
    return {name: path for path, text in texts.items() for name in KERNEL.findall(text)}


def bfloat16():
    """The NumPy dtype of bfloat16, which comes with ml_dtypes. Raises ``ValueError`` where that is not installed."""
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("precision 'bf16' needs ml_dtypes: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def hash_of_sources():
    """A name for the present text of all CUDA sources, headers too."""
    digest = hashlib.sha256()
    for path in sorted(sources().iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def compile_options(precision="fp32"):
    """What NVRTC is told. CuPy keeps compiled kernels by source and options and does not look into included files;
    the hash among the options makes a changed header a different kernel."""
    options = ("-std=c++17", f"-I{sources()}", f"-DTINYDIFF_SOURCES=0x{hash_of_sources()}")
    return (*options, "-DTINYDIFF_BF16") if precision == "bf16" else options


class EmulatorLauncher:
    """NumPy arrays; kernels run on this CPU by the rules of CUDA, their threads in an order drawn from a seed."""

    xp = np
    kind = "NumPy"
    values_at_hand = True  # looking at an array's values costs nothing

    def __init__(self, module):
        self._module = module
        self.use_seed = module.use_seed

    def launch(self, kernel, grid, block, shared_bytes, arguments, precision="fp32"):
        """Run to the end. Raises ``RuntimeError``, naming the kernel, for what the emulator finds wrong."""
        name = f"{kernel}_bf16" if precision == "bf16" else kernel
        self._module.launch(name, grid, block, shared_bytes, arguments)

    def empty(self, shape, dtype=np.float32):
        """An array of poison: NaN, or -1 in an integer."""
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(0xFF)
        return array

    def synchronize(self):
        """Nothing is ever outstanding."""

    def describe(self):
        return f"{len(kernel_files('bf16'))} CUDA kernels, emulated on this CPU: slow, for tests and debuggers"


class CupyLauncher:
    """CuPy arrays; kernels compiled by NVRTC for the GPU at hand, file by file as they are needed."""

    kind = "CuPy"
    values_at_hand = False  # it would wait for all work that is outstanding

    def __init__(self, cupy):
        self.xp = cupy
        self._files = kernel_files("bf16")
        self._kernel = functools.cache(self._get_kernel)
        self._module = functools.cache(self._compile)

    def launch(self, kernel, grid, block, shared_bytes, arguments, precision="fp32"):
        """Start on the current stream; does not wait."""
        arguments = tuple(np.uint64(0) if each is None else each for each in arguments)
        function = self._kernel(kernel, precision)
        if shared_bytes > function.max_dynamic_shared_size_bytes:
            function.max_dynamic_shared_size_bytes = shared_bytes
        function(grid, block, arguments, shared_mem=shared_bytes)

    def empty(self, shape, dtype=np.float32):
        """Raises ``MemoryError`` saying how much was needed."""
        try:
            return self.xp.empty(shape, dtype)
        except self.xp.cuda.memory.OutOfMemoryError as error:
            raise MemoryError(f"the GPU's memory is full ({error}); a smaller batch needs less") from error

    def synchronize(self):
        self.xp.cuda.get_current_stream().synchronize()

    def describe(self):
        device = self.xp.cuda.runtime.getDeviceProperties(self.xp.cuda.Device().id)
        return f"{len(self._files)} CUDA kernels on {device['name'].decode()}, through CuPy {self.xp.__version__}"

    def _get_kernel(self, name, precision):
        return self._module(self._files[name], precision).get_function(name)

    def _compile(self, path, precision):
        return self.xp.RawModule(code=path.read_text(), options=compile_options(precision))


def get(name):
    """The launcher of the backend "cuda" or "emulator", of which nothing is missing."""
    if name == "cuda":
        import cupy

        return CupyLauncher(cupy)
    from tinydiff.backends import _emulator

    return EmulatorLauncher(_emulator)


@functools.cache
def what_is_missing(name):
    """What the backend needs and does not find here, in words that end "backend X needs ..."; None if nothing."""
    if name == "emulator":
        try:
            import tinydiff.backends._emulator  # noqa: F401
        except ModuleNotFoundError:
            return (
                "its C++ part, which could not be compiled when tinydiff was installed: install GCC or Clang (Debian "
                "and Ubuntu: apt install g++ python3-dev), then install tinydiff again"
            )
        return None
    try:
        import cupy
    except ImportError:
        return "CuPy: pip install 'tinydiff[cuda]' (for CUDA 13; cupy-cuda12x for CUDA 12)"
    try:
        capability = cupy.cuda.Device().compute_capability
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"an NVIDIA GPU, and CuPy finds none ({error})"
    if int(capability) < OLDEST:
        newer = "8.0 or newer (Ampere, Ada, Hopper, Blackwell)"
        return f"a GPU of compute capability {newer}, and this one is {capability[:-1]}.{capability[-1]}"
    return None
