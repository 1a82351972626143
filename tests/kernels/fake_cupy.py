"""CuPy as the backend uses it, without a GPU: arrays on this CPU, kernels noted or run by the emulator, CUDA graphs.

It is stricter than a GPU, on which mistakes may go unnoticed. Within a capture it refuses, with an ``AssertionError``,
to wait, to let values be seen, to copy from or to the host, to compile, and to take memory from any pool but the one
chosen for it. Streams that use each other's results must have waited for each other. A replay begins with NaN in all
memory that was taken while the graph was recorded, and memory that is given back becomes NaN at once.
"""

import types
import weakref

import numpy as np


class Pool:
    """A memory pool: only its name counts, and whether it is still alive."""

    def malloc(self, size):
        raise AssertionError("the fake asks allocators for nothing but their pool")


class Stream:
    def __init__(self, device, null=False):
        self.device, self.null = device, null
        self.done, self.seen = 0, {}  # how much was put into it, and how much of others it has waited for
        self.recording = None

    def __enter__(self):
        self.device.streams.append(self)

    def __exit__(self, *_):
        self.device.streams.pop()

    def record(self):
        return {**self.seen, self: self.done}

    def wait_event(self, event):
        for stream, done in event.items():
            self.seen[stream] = max(done, self.seen.get(stream, 0))

    def synchronize(self):
        self.device.refuse_in_capture("to wait for a stream")
        for stream in self.device.all_streams:
            stream.wait_event(self.record())

    def put(self, work):
        """Do it now, or note it where a graph is being recorded."""
        for other in self.device.all_streams:
            assert other is self or self.seen.get(other, 0) == other.done, "a stream that did not wait for another"
        if self.recording is None:
            self.done += 1
            work()
        else:
            self.recording.works.append(work)

    def begin_capture(self):
        assert not self.null, "the null stream cannot be captured"
        self.recording = Graph(self.device)

    def end_capture(self):
        graph, self.recording = self.recording, None
        return graph


class Graph:
    def __init__(self, device):
        self.device, self.works, self.taken, self.replays = device, [], [], 0
        self.pool = weakref.ref(device.pool)
        device.graphs.append(self)

    def launch(self):
        assert self.pool() is not None, "the graph's memory pool is gone"
        self.replays += 1
        self.device.streams[-1].put(self.replay)

    def replay(self):
        for memory in self.taken:
            poison(memory)
        for work in self.works:
            work()


def poison(memory):
    memory.reshape(-1).view(np.uint8).fill(0xFF)


class Array(np.lib.mixins.NDArrayOperatorsMixin):
    """What a CuPy array can do that the backend and models rely on, and nothing more."""

    def __init__(self, device, data, owner=None):
        self._device, self._data, self._owner = device, data, owner

    shape, dtype, ndim, size, nbytes, flags, itemsize = (
        property(lambda self, name=name: getattr(self._data, name))
        for name in ("shape", "dtype", "ndim", "size", "nbytes", "flags", "itemsize")
    )

    def __len__(self):
        return len(self._data)

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def get(self):
        self._device.refuse_in_capture("to copy to the host")
        self._device.streams[-1].synchronize()
        return self._data.copy()

    def __float__(self):
        return float(self.get())

    def __bool__(self):
        return bool(self.get())

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        assert method == "__call__"
        data = [self._device.data_of(each) for each in inputs]
        if out is None:
            with np.errstate(all="ignore"):
                like = ufunc(*(np.ones_like(each) if isinstance(each, np.ndarray) else each for each in data))
            out = (self._device.take(like.shape, like.dtype),)
        (into,) = out
        self._device.put(lambda: ufunc(*data, out=into._data, **options))
        return into

    def _made_by(self, function, shape=None, dtype=None):
        """A new array that ``function`` of the data fills."""
        result = self._device.take(self.shape if shape is None else shape, dtype or self.dtype)
        self._device.put(lambda: result._data.__setitem__(..., function(self._data)))
        return result

    def astype(self, dtype, copy=True):
        if not copy and dtype == self.dtype:
            return self
        return self._made_by(lambda data: data.astype(dtype), dtype=np.dtype(dtype))

    def copy(self):
        return self._made_by(lambda data: data)

    def clip(self, low, high=None):
        return self._made_by(lambda data: data.clip(low, high))

    def _view(self, data):
        assert np.shares_memory(data, self._data) or not data.size
        return Array(self._device, data, self if self._owner is None else self._owner)

    def reshape(self, *shape):
        return self._view(self._data.reshape(*shape))

    def view(self, dtype=None):
        return self._view(self._data.view(dtype or self.dtype))

    def __getitem__(self, at):
        parts = at if isinstance(at, tuple) else (at,)
        if not any(isinstance(part, Array) for part in parts):
            assert not any(isinstance(part, (np.ndarray, list)) for part in parts), "an index on the host"
            return self._view(self._data[at if Ellipsis in parts else (*parts, ...)])  # a view, of one value too
        at = tuple(part._data if isinstance(part, Array) else part for part in parts)
        return self._made_by(lambda data: data[at], shape=np.empty(self.shape, bool)[at].shape)

    def __setitem__(self, at, value):
        value = self._device.data_of(value)
        self._device.put(lambda: self._data.__setitem__(at, value))


class FakeCupy(types.ModuleType):
    """The module. ``run`` is what runs a kernel, as the emulator's launcher does; None: launches are only noted."""

    ndarray = Array

    def __init__(self, capability="90", error=None, run=None):
        super().__init__("cupy")
        self.launched, self.compiled, self.graphs = [], [], []
        self.default_pool = self.pool = Pool()
        null = Stream(self, null=True)
        self.streams, self.all_streams = [null], [null]
        device = self

        class CUDARuntimeError(RuntimeError):
            pass

        class OutOfMemoryError(MemoryError):
            pass

        class Device:
            def __init__(self):
                if error:
                    raise CUDARuntimeError(error)
                self.compute_capability = capability

        class Function:
            def __init__(self, name, precision):
                self.name, self.precision, self.max_dynamic_shared_size_bytes = name, precision, 48 * 1024

            def __call__(self, grid, block, arguments, shared_mem):
                assert shared_mem <= self.max_dynamic_shared_size_bytes
                device.launched.append((self.name, grid, block, arguments, shared_mem))
                data = [each._data if isinstance(each, Array) else each for each in arguments]
                data = [None if isinstance(each, np.uint64) and not each else each for each in data]  # a null pointer
                device.put(lambda: run and run(self.name, grid, block, shared_mem, data, self.precision))

        class RawModule:
            def __init__(self, code, options):
                device.refuse_in_capture("to compile")
                device.compiled.append((code, options))
                self.precision = "bf16" if "-DTINYDIFF_BF16" in options else "fp32"

            def get_function(self, name):
                return Function(name, self.precision)

        class using_allocator:
            def __init__(self, allocator):
                self.pool = getattr(allocator, "__wrapped__", allocator).__self__

            def __enter__(self):
                self.before, device.pool = device.pool, self.pool

            def __exit__(self, *_):
                device.pool = self.before

        def new_stream(non_blocking=False):
            assert non_blocking
            device.all_streams.append(Stream(device))
            return device.all_streams[-1]

        self.RawModule = RawModule
        self.cuda = types.SimpleNamespace(
            Device=Device,
            MemoryPool=Pool,
            Stream=new_stream,
            get_current_stream=lambda: self.streams[-1],
            using_allocator=using_allocator,
            runtime=types.SimpleNamespace(
                CUDARuntimeError=CUDARuntimeError, memGetInfo=lambda: (2_000_000_000, 80_000_000_000)
            ),
            memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
        )

    def put(self, work):
        self.streams[-1].put(work)

    def refuse_in_capture(self, what):
        assert all(stream.recording is None for stream in self.all_streams), f"{what} within a capture"

    def take(self, shape, dtype):
        """A new array full of NaN, which becomes so again when nobody holds it any more."""
        data = np.empty(shape, dtype)
        poison(data)
        array = Array(self, data)
        recording = self.streams[-1].recording
        if recording:
            assert self.pool is recording.pool() is not self.default_pool, "memory of another pool within a capture"
            recording.taken.append(data)
        else:
            weakref.finalize(array, poison, data)
        return array

    def data_of(self, value):
        """The memory of an array, or a number."""
        if isinstance(value, np.ndarray) and value.ndim:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>")
        return value._data if isinstance(value, Array) else value

    def empty(self, shape, dtype=np.float32):
        return self.take(shape, dtype)

    def zeros(self, shape, dtype=np.float32):
        array = self.take(shape, dtype)
        array[...] = 0
        return array

    def asarray(self, values, dtype=None):
        if isinstance(values, Array):
            return values if dtype in (None, values.dtype) else values.astype(dtype)
        self.refuse_in_capture("to copy from the host")
        values = np.array(values, dtype)
        array = self.take(values.shape, values.dtype)
        self.put(lambda: array._data.__setitem__(..., values))
        return array

    def ascontiguousarray(self, values, dtype=None):
        array = self.asarray(values, dtype)
        return array if array.flags.c_contiguous else array.copy()
