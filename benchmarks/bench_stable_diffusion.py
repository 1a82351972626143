"""How long one evaluation of Stable Diffusion's U-Net takes, and how much memory: 860 million parameters, random ones.

    python benchmarks/bench_stable_diffusion.py                        # tinydiff alone
    python benchmarks/bench_stable_diffusion.py --peer torch           # in turn with diffusers under PyTorch
    python benchmarks/bench_stable_diffusion.py --rounds 1 --dry-run   # once each, printed and not saved

That of version 1.x: latents of 64x64x4, which are an image of 512x512, and a text of 77 tokens of width 768. Every
evaluation is made in a process of its own, after one that does not count, so that no two networks are in memory at
once: A B C D A B C D. Memory is all that is resident in the process, at its peak in these two. ``cpu`` is the program
that a sampler runs, for which filters are prepared once and kept; op by op they are prepared each time, and take no
memory. CPU seconds are those of all threads, which other work on the machine stretches less.
"""

from __future__ import annotations

import argparse
import functools
import gc
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import measure
import numpy as np

from tinydiff import backends
from tinydiff.interop import conditional, weights
from tinydiff.model.transformer_block import Context
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.program.record import record
from tinydiff.program.text import flops
from tinydiff.tensors import Lazy

CONFIG = UNetConfig(
    size=64,
    image_channels=4,
    channels=(320, 640, 1280, 1280),
    attention_levels=(0, 1, 2),
    heads=(8, 8, 8, 8),
    classes=0,
    context_width=768,
)
TOKENS = 77
MILLION = 1_000_003  # a prime, so that rows differ
OURS = ("cpu", "cpu, op by op", "cpu, bf16", "cpu, bf16, op by op")
THEIRS = ("torch eager", "torch eager, bf16")  # channels-last took as many seconds of the CPU, and more of the clock


def inputs():
    """x (1, 64, 64, 4), step (1), tokens (1, 77, 768), float32."""
    rng = np.random.default_rng(0)
    x, tokens = rng.standard_normal((1, *CONFIG.shape)), rng.standard_normal((1, TOKENS, CONFIG.context_width))
    return x.astype(np.float32), np.full(1, 500, np.float32), tokens.astype(np.float32)


@functools.cache
def numbers():
    return np.random.default_rng(1).standard_normal(MILLION, np.float32)


def values(parameter):
    """Random values of a parameter, the same in every process, under which activations stay of one size: as many of a
    million, again and again, from a place on that its name decides."""
    first = zlib.crc32(parameter.name.encode()) % MILLION
    array = np.resize(np.roll(numbers(), first), parameter.shape)
    if parameter.decay:
        return array * np.float32(np.prod(parameter.shape[:-1]) ** -0.5)
    is_scale = "norm" in parameter.name and parameter.name.endswith("weight")
    return np.float32(0.1) * array + np.float32(is_scale)


def tinydiff_evaluation(variant):
    name, _, precision = variant.removesuffix(", op by op").partition(", ")
    backend = backends.get(name, precision or "fp32")
    model = UNet(CONFIG, backend, frozen=True)
    drawn = {each.name: Lazy(each.shape, functools.partial(values, each)) for each in model.parameters}
    model.parameters.load(model.parameters.values, drawn)
    x, step, tokens = inputs()
    context = Context(tokens.astype(backend.activations or np.float32))
    evaluate = lambda: model.predict(x, step, context=context)
    return evaluate if variant.endswith("op by op") else backend.capture(evaluate, frozen_weights=True)


def torch_evaluation(variant):
    import diffusers
    import torch
    import torch_unet

    torch.set_num_threads(len(measure.allowed_cores()))
    layout, _, dtype = torch_unet.VARIANTS[variant]
    settings = {name: value for name, value in conditional.from_unet_config(CONFIG).items() if name[0] != "_"}
    with torch.device("meta"):
        module = diffusers.UNet2DConditionModel(**settings).to(dtype).eval()
    module = module.to_empty(device="cpu")
    named, ours = dict(module.named_parameters()), UNet(CONFIG, backends.get("numpy"), frozen=True).parameters
    with torch.no_grad():
        for each in ours:
            (array,) = weights.to_torch({each.name: values(each)}, flip_sin_to_cos=True).values()
            named.pop(each.name).copy_(torch.from_numpy(array))
    assert not named
    module = module.to(memory_format=layout)
    x, step, tokens = map(torch.from_numpy, inputs())
    x = x.permute(0, 3, 1, 2).to(dtype).contiguous(memory_format=layout)

    @torch.inference_mode()
    def evaluate():
        return module(x, step, tokens.to(dtype)).sample.float().permute(0, 2, 3, 1).numpy()

    return evaluate


def print_one(variant, output):
    """Evaluate twice, write what comes out, and print what the second took."""
    evaluate = (tinydiff_evaluation if variant in OURS else torch_evaluation)(variant)
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far, in which weights were made
    evaluate()
    time.sleep(measure.REST)
    start, cpu = time.perf_counter(), time.process_time()
    array = evaluate()
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    np.save(output, np.asarray(array, np.float32))
    print(json.dumps(found | {"peak": measure.resident("VmHWM")}))


def in_a_process(variant, output):
    run = subprocess.run(
        [sys.executable, __file__, "--one", variant, str(output)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def count_flops():
    """Of one evaluation, by the program that it is; nothing is computed."""
    backend = backends.get("cpu")
    model = UNet(CONFIG, backend, frozen=True)
    x, step, tokens = inputs()
    recording = record(lambda: model.predict(x, step, context=Context(tokens)), backend)
    return sum(flops(call) for call in recording.program.calls)


def main():
    if sys.argv[1:2] == ["--one"]:
        return print_one(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", choices=["torch"], default=[])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dry-run", action="store_true", help="print the rows and write nothing")
    args = parser.parse_args()
    variants = [*OURS, *(THEIRS if args.peer else ())]
    found, outputs, total = {name: [] for name in variants}, {}, count_flops()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for variant in variants:
                output = Path(folder) / "output.npy"
                found[variant].append(in_a_process(variant, output))
                outputs[variant] = np.load(output)
                print(variant, found[variant][-1], flush=True)
    measure.check_same({name: lambda name=name: outputs[name] for name in variants})
    rows = []
    for variant in variants:
        seconds, cpu, peak = (np.array([each[key] for each in found[variant]]) for key in ("seconds", "cpu", "peak"))
        row = {"one evaluation": "Stable Diffusion 1.x, 64x64", "with": variant}
        row |= {"median s": measure.short(np.median(seconds)), "from": measure.short(seconds.min())}
        row |= {"to": measure.short(seconds.max()), "CPU s": measure.short(np.median(cpu)), "rounds": len(seconds)}
        rows.append(row | {"GFLOP": measure.short(total / 1e9), "peak GB": measure.short(peak.max() / 1e9)})
        print(rows[-1])
    versions = {name: importlib.metadata.version(name) for name in ("torch", "diffusers") if args.peer}
    measure.save("stable_diffusion", rows, dry_run=args.dry_run, **versions)


if __name__ == "__main__":
    main()
