"""Where the time goes: the ops of a training step, the versions of the convolution, every op against its reference.

    python benchmarks/bench_ops.py                # all three tables
    python benchmarks/bench_ops.py --peer torch   # the last also against PyTorch's op (eager, the layout it likes best)

Rates are set against what this machine reaches with NumPy's matrix product, measured in the same run. A multiply-add
counts as two operations, and a convolution counts as many as the direct sum has, however it is computed: so Winograd may
exceed the machine's peak. Errors are the largest, relative to the largest value, against the reference in float64.
"""

from __future__ import annotations

import functools
import time
from collections import defaultdict

import bench_train_step
import measure
import numpy as np

from tinydiff import backends
from tinydiff.ops import OPS

MATRIX = 2048

# N, H = W, C, O of 3x3 stride-1 convolutions
CONVOLUTIONS = [(16, 28, 64, 64), (32, 28, 32, 32), (32, 7, 128, 128), (1, 28, 64, 64)]


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def matmul():
    a, b = normal(MATRIX, MATRIX), normal(MATRIX, MATRIX, seed=1)
    return lambda: a @ b


class Timed:
    """An op whose calls add their seconds, and the operations they stand for, to a tally."""

    def __init__(self, name, op, tally):
        for verb in ("forward", "backward"):
            if hasattr(op, verb):
                setattr(self, verb, self._timed(getattr(op, verb), tally[name, verb]))

    @staticmethod
    def _timed(function, entry):
        def call(*args, **options):
            start = time.perf_counter()
            result = function(*args, **options)
            entry["seconds"] += time.perf_counter() - start
            entry["calls"] += 1
            entry["flops"] += flops(args, result)
            return result

        return call


def flops(args, result):
    """The operations of one call of linear, conv2d or attention, told by what it takes and gives; else 0."""
    if hasattr(args[-1], "_fields"):  # backward(dy, cache): each product of the forward gives two
        dy, cache = args[0], args[-1]
        if hasattr(cache, "w"):
            return 4 * dy.size * cache.w.size // cache.w.shape[-1]
        return 10 * cache.q.size * cache.k.shape[1] if hasattr(cache, "lse") else 0
    cache = result[1] if isinstance(result, tuple) else None
    if hasattr(cache, "w"):
        return 2 * result[0].size * cache.w.size // cache.w.shape[-1]
    return 4 * cache.q.size * cache.k.shape[1] if hasattr(cache, "lse") else 0


def shares_of_a_step(args):
    """How a training step divides among its ops, on the fastest backend."""
    rows = []
    for case in args.case:
        name, config, N = bench_train_step.CASES[case]
        model = bench_train_step.tinydiff_unet(config, "auto")
        tally = defaultdict(lambda: defaultdict(int))
        backend = model.backend
        for op in OPS:
            setattr(backend, op, Timed(op, getattr(backend, op), tally))
        model = type(model)(config, backend)  # its layers look their ops up when they are made
        step = bench_train_step.op_by_op(model, *bench_train_step.batch_of(config, N))
        seconds, tallies = [], []

        def counted():
            for entry in tally.values():
                entry.clear()
            start = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - start)
            tallies.append({key: dict(entry) for key, entry in tally.items() if entry})

        product = matmul()
        peak = 2 * MATRIX**3 / np.median(measure.interleaved({"": product, "step": counted}, args.repeats)[""])
        seconds, tallies = seconds[2:], tallies[2:]  # without the first round, which calls twice
        whole = np.median(seconds)
        for key in sorted(tallies[-1], key=lambda key: -tallies[-1][key]["seconds"]):
            spent = np.median([each[key]["seconds"] for each in tallies])
            if spent < 0.002 * whole:
                continue
            row = {"in a step of": name, "op": key[0], "": key[1], "calls": tallies[-1][key]["calls"]}
            row |= {"ms": measure.short(1e3 * spent), "share": f"{spent / whole:.1%}"}
            if count := tallies[-1][key]["flops"]:
                row |= {"GFLOP/s": round(count / spent / 1e9), "of matmul": f"{count / spent / peak:.0%}"}
            rows.append(row)
        inside = np.median([sum(entry["seconds"] for entry in each.values()) for each in tallies])
        rows.append({"in a step of": name, "op": "all else", "ms": measure.short(1e3 * (whole - inside))})
        rows[-1]["share"] = f"{1 - inside / whole:.1%}"
        rows.append({"in a step of": name, "op": "together", "ms": measure.short(1e3 * whole), "share": "100%"})
    return rows


def versions_of_conv2d(args):
    """The ladder: the reference, then each version of the kernel in both precisions, with its error.

    In bfloat16 operands and results are rounded; what that costs by itself is the error of the reference so rounded.
    """
    from tinydiff.backends import cpu

    rows = []
    kernels = {precision: backends.get("cpu", precision) for precision in backends.PRECISIONS}
    reference, bfloat16 = backends.get("numpy").conv2d, kernels["bf16"].activations
    for N, H, C, O in CONVOLUTIONS:
        x, w, dy = normal(N, H, H, C), normal(3, 3, C, O, seed=1) / np.float32(3 * C**0.5), normal(N, H, H, O, seed=2)
        arrays = {"fp32": (x, w, dy), "bf16": tuple(each.astype(bfloat16) for each in (x, w, dy))}

        def found(op, x, w, dy):
            y, cache = op.forward(x, w, padding=1)
            return y, *op.backward(dy, cache)[:2]

        def rounded(arrays):
            return [each.astype(bfloat16).astype(np.float32) for each in arrays]

        exact = found(reference, *(each.astype(np.float64) for each in arrays["fp32"]))
        y, dx, dw = found(reference, *rounded(arrays["fp32"]))
        results = {"numpy reference": found(reference, x, w, dy)}
        functions = {"matmul": matmul(), **timed("numpy reference", reference, x, w, dy)}
        for precision, backend in kernels.items():
            mark = "" if precision == "fp32" else f", {precision}"
            if mark:
                results[f"numpy reference{mark}"] = *rounded((y, dx)), dw
            for version in cpu.CONV2D_VERSIONS:
                cpu.use_conv2d_version(version)
                results[f"{version}{mark}"] = found(backend.conv2d, *arrays[precision])
                use = functools.partial(cpu.use_conv2d_version, version)
                functions |= timed(f"{version}{mark}", backend.conv2d, *arrays[precision], use)
        seconds = measure.interleaved(functions, args.repeats)
        cpu.use_conv2d_version("fastest")
        peak = 2 * MATRIX**3 / np.median(seconds["matmul"])
        for version, made in results.items():
            row = {"3x3 conv2d": f"{N}x{H}x{H}x{C} to {O}", "version": version}
            for verb, count in (("forward", 1), ("backward", 2)):
                if (version, verb) in seconds:
                    rate = count * 2 * N * H * H * 9 * C * O / np.median(seconds[version, verb])
                    row |= {f"{verb} ms": measure.short(1e3 * np.median(seconds[version, verb]))}
                    row |= {f"{verb} of matmul": f"{rate / peak:.0%}"}
            for name, a, b in zip(("y", "dx", "dw"), made, exact):
                row[f"error of {name}"] = f"{np.abs(a.astype(np.float64) - b).max() / np.abs(b).max():.1e}"
            rows.append(row)
    return rows


def timed(version, op, x, w, dy, use=lambda: None):
    """{(version, verb): what is timed} of a convolution; ``use`` puts the version in use."""
    cache = op.forward(x, w, padding=1)[1]

    def forward():
        use()
        op.forward(x, w, padding=1)

    def backward():
        use()
        op.backward(dy, cache)

    return {(version, "forward"): forward, (version, "backward"): backward}


# op: inputs, options; at the sizes of the small U-Net
CASES = {
    "linear": ([normal(1568, 128), normal(128, 128), normal(128)], {}),
    "conv2d": ([normal(32, 28, 28, 64), normal(1, 1, 64, 32), normal(32)], {}),
    "group_norm": ([normal(32, 28, 28, 64), normal(64), normal(64)], {"groups": 32, "silu": True}),
    "layer_norm": ([normal(32, 77, 256), normal(256), normal(256)], {}),
    "silu": ([normal(32, 28, 28, 64)], {}),
    "gelu": ([normal(32, 28, 28, 64)], {}),
    "geglu": ([normal(32, 49, 2048)], {}),
    "dropout": ([normal(32, 28, 28, 64), np.ones(1, np.int64)], {"rate": 0.1, "layer": 0, "seed": 0}),
    "attention": ([normal(32, 49, 2, 64), normal(32, 49, 2, 64), normal(32, 49, 2, 64)], {}),
    "upsample2x": ([normal(32, 14, 14, 64)], {}),
    "concat": ([normal(32, 28, 28, 64), normal(32, 28, 28, 32)], {}),
    "class_embedding": ([normal(11, 128), np.arange(32) % 11], {}),
    "mse_loss": ([normal(32, 28, 28, 64), normal(32, 28, 28, 64, seed=1), normal(32)], {}),
    "l1_loss": ([normal(32, 28, 28, 64), normal(32, 28, 28, 64, seed=1), normal(32)], {}),
    "gaussian_sample": ([normal(32, 16, 16, 8), normal(32, 16, 16, 4, seed=1)], {}),
    "gaussian_kl": ([normal(32, 16, 16, 8)], {}),
}


def ops_against_references(args):
    """Every op with a gradient: kernel, reference, and with ``--peer torch`` PyTorch."""
    rows = []
    for op, (inputs, options) in CASES.items():
        functions = {}
        for name in args.backend:
            kernel = getattr(backends.get(name), op)
            y, cache = kernel.forward(*inputs, **options)
            dy = np.float32(1) if y.ndim == 0 else normal(*y.shape, seed=3)
            functions[name, "forward"] = lambda kernel=kernel: kernel.forward(*inputs, **options)
            functions[name, "backward"] = lambda kernel=kernel, dy=dy, cache=cache: kernel.backward(dy, cache)
        if args.peer:
            import torch_ops

            functions |= torch_ops.functions(op, inputs, options)
        seconds = measure.interleaved(functions, args.repeats)
        for verb in ("forward", "backward"):
            row = {"op": op, "x": "x".join(map(str, inputs[0].shape)), "": verb}
            for name in dict.fromkeys(name for name, _ in functions):
                if (name, verb) in seconds:
                    row[f"{name} ms"] = measure.short(1e3 * np.median(seconds[name, verb]))
            if "cpu" in args.backend:
                for other in ("numpy", "torch"):
                    if (other, verb) in seconds:
                        row[f"{other} / cpu"] = measure.ratio(seconds[other, verb], seconds["cpu", verb])
            rows.append(row)
    return rows


def main():
    args = measure.arguments(__doc__, repeats=7, cases=["small", "reference"], precisions=["fp32"]).parse_args()
    versions = {}
    if args.peer:
        import torch

        versions["torch"] = torch.__version__
    for section, benchmark in (
        ("ops_of_a_step", shares_of_a_step),
        ("conv2d_versions", versions_of_conv2d),
        ("ops", ops_against_references),
    ):
        rows = benchmark(args)
        for row in rows:
            print(row)
        measure.save(section, rows, dry_run=args.dry_run, **versions)


if __name__ == "__main__":
    main()
