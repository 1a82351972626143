"""Who runs the kernels of ``csrc/cuda``: a GPU, through CuPy, or this CPU, through their emulator.

A launcher owns arrays and launches. ``launch(kernel, grid, block, shared_bytes, arguments, precision)`` takes arrays of
its own kind, ``None`` for a null pointer, and NumPy scalars of exactly the size that the kernel declares. Every kernel is
compiled in two precisions, in which activations are stored as float32 or as bfloat16.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np

from tinydiff.backends import host_memory
from tinydiff.backends.graph import Graph
from tinydiff.backends.kernel_names import kernels
from tinydiff.backends.upload import NoUploads, Uploads

OLDEST = 80  # compute capability times ten: sm_80 brought bfloat16 on tensor cores and asynchronous copies


def sources(kind="cuda"):
    """The folder of the CUDA sources, or those for "cpu": in the package, or in the checkout where it is run from one."""
    package = Path(__file__).parents[1]
    installed = package / f"csrc_{kind}"
    return installed if installed.is_dir() else package.parent / "csrc" / kind


def kernel_files(precision="fp32"):
    """{kernel: the .cu file that holds it} in this precision; bf16 has every kernel."""
    return {name: path for path in sorted(sources().glob("*.cu")) for name in kernels(path.read_text(), precision)}


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


class Launcher:
    """The array services of a backend, by its array module ``xp``, which is NumPy or speaks like it."""

    def asarray(self, values, dtype=None):
        """``values`` as a contiguous array of this kind, copied only if it is not one yet."""
        return self.xp.ascontiguousarray(self.xp.asarray(values), dtype)

    def zeros(self, shape, dtype=np.float32):
        return self.xp.zeros(shape, dtype)

    def take(self, table, index):
        return table[index]

    def repeat(self, x, count):
        return x.repeat(count, axis=0)

    def has_room_for(self, nbytes):
        return True

    def free_memory(self):
        return host_memory.available()

    def uploads(self, shape, dtype):
        return NoUploads(shape, dtype)


class EmulatorLauncher(Launcher):
    """NumPy arrays; kernels run on this CPU by the rules of CUDA, their threads in an order drawn from a seed."""

    xp = np
    kind = "NumPy"
    values_at_hand = True  # looking at an array's values costs nothing

    def __init__(self, module):
        self._module = module
        self.use_seed = module.use_seed

    def launch(self, kernel, grid, block, shared_bytes, arguments, precision="fp32"):
        """Run to the end. Raises ``RuntimeError``, naming the kernel, for what the emulator finds wrong."""
        self._module.launch(f"{kernel}_bf16" if precision == "bf16" else kernel, grid, block, shared_bytes, arguments)

    def empty(self, shape, dtype=np.float32):
        """An array of poison: NaN, or -1 in an integer."""
        array = np.empty(shape, dtype)
        array.reshape(-1).view(np.uint8).fill(0xFF)
        return array

    def compile_all(self, precision):
        """All were compiled when tinydiff was installed."""
        return {kernel: {} for kernel in kernel_files(precision)}

    def capture(self, step_fn, *, frozen_weights=False):
        return step_fn

    def synchronize(self):
        """Nothing is ever outstanding."""

    def describe(self):
        return f"{len(kernel_files('bf16'))} CUDA kernels, emulated on this CPU: slow, for tests and debuggers"


class CupyLauncher(Launcher):
    """CuPy arrays; kernels compiled by NVRTC for the GPU at hand, file by file as they are needed."""

    kind = "CuPy"
    values_at_hand = False  # it would wait for all work that is outstanding

    def __init__(self, cupy):
        self.xp = cupy
        self.empty = self.explaining(self.empty)
        self.asarray, self.zeros = self.explaining(self.asarray), self.explaining(self.zeros)
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

    def use_seed(self, seed):
        """The order in which threads run is the GPU's own."""

    def compile_all(self, precision):
        """Compile every kernel now; returns {name: {registers, shared and local bytes}}."""
        names = {"registers": "num_regs", "shared bytes": "shared_size_bytes", "local bytes": "local_size_bytes"}
        compiled = {kernel: self._kernel(kernel, precision) for kernel in kernel_files(precision)}
        return {
            kernel: {name: getattr(function, attribute) for name, attribute in names.items()}
            for kernel, function in compiled.items()
        }

    def empty(self, shape, dtype=np.float32):
        return self.xp.empty(shape, dtype)

    def explaining(self, function):
        """The function, which takes memory; where there is none, its ``MemoryError`` says what was needed and what to
        lower."""

        @functools.wraps(function)
        def explained(*arguments, **options):
            try:
                return function(*arguments, **options)
            except self.xp.cuda.memory.OutOfMemoryError as error:
                free, total = (f"{bytes / 1e9:.1f}" for bytes in self.xp.cuda.runtime.memGetInfo())
                raise MemoryError(
                    f"the GPU's memory is full, {free} of {total} GB are free ({error}); a smaller --batch, narrower "
                    "--channels, or fewer images drawn at a time need less"
                ) from error

        return explained

    def has_room_for(self, nbytes):
        """Whether so much, and as much again for what works on it, is free."""
        return 2 * nbytes <= self.free_memory()

    def free_memory(self):
        free, _ = self.xp.cuda.runtime.memGetInfo()
        return free

    def uploads(self, shape, dtype):
        return Uploads(self.xp, shape, dtype)

    def capture(self, step_fn, *, frozen_weights=False):
        return Graph(self, step_fn)

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
