"""How long a training step takes: forward, loss, backward, clip, AdamW.

    python benchmarks/bench_train_step.py                 # tinydiff alone
    python benchmarks/bench_train_step.py --peer torch    # in turn with the same network in PyTorch (eager)

Both start from the same weights; that they compute the same prediction is checked before anything is timed.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

import measure
from tinydiff import backends
from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train.gradients import clip_factor

CASES = [
    ("laptop preset", UNetConfig(channels=(16, 32, 64), blocks=1, groups=8), 32),
    ("small", UNetConfig(channels=(32, 64, 128)), 32),
    ("reference", UNetConfig(channels=(64, 128, 256)), 16),
]


def batch_of(config, N):
    rng = np.random.default_rng(0)
    shape = (N, config.size, config.size, config.image_channels)
    x, target = rng.standard_normal((2, *shape), dtype=np.float32)
    step = rng.integers(0, 200, N).astype(np.float32)
    labels = rng.integers(0, config.classes + 1, N).astype(np.int32)
    return x, target, step, labels


def tinydiff_step(model, x, target, step, labels):
    backend, parameters = model.backend, model.parameters
    mean, mean_square = np.zeros_like(parameters.values), np.zeros_like(parameters.values)
    learning_rate, number = np.full(1, 1e-4, np.float32), np.ones(1, np.int64)

    def run():
        prediction, cache = model.forward(x, step, labels)
        _, loss_cache = backend.mse_loss.forward(prediction, target)
        model.backward(backend.mse_loss.backward(1.0, loss_cache)[0], cache)
        _, clip = clip_factor(parameters.grads, 1.0)
        backend.adamw.forward(
            parameters.values,
            parameters.grads,
            mean,
            mean_square,
            learning_rate=learning_rate,
            step_number=number,
            clip=clip,
        )

    return run


def torch_step(model, x, target, step, labels):
    import torch
    from torch_unet import TorchUNet

    torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    peer = TorchUNet(model.config)
    peer.take(model.parameters)
    x, target = (torch.from_numpy(np.ascontiguousarray(each.transpose(0, 3, 1, 2))) for each in (x, target))
    step, labels = torch.from_numpy(step), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, weight_decay=0)

    def run():
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(peer(x, step, labels), target).backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()

    with torch.no_grad():
        prediction = peer(x, step, labels).permute(0, 2, 3, 1).numpy()
    return run, prediction, torch.__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=["torch"])
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()

    rows, versions = [], {}
    for name, config, N in CASES:
        model = UNet(config, backends.get("numpy"))
        rng = np.random.default_rng(1)
        model.parameters.values[...] = 0.05 * rng.standard_normal(model.parameters.count, dtype=np.float32)
        batch = batch_of(config, N)
        steps = {"numpy": tinydiff_step(model, *batch)}
        if args.peer:
            x, _, step, labels = batch
            steps["torch"], theirs, versions["torch"] = torch_step(model, *batch)
            ours, _ = model.forward(x, step, labels)
            if not np.allclose(ours, theirs, atol=1e-4 * np.abs(theirs).max()):
                raise SystemExit(f"{name}: the two networks do not agree")
        seconds = measure.interleaved(steps, args.repeats)
        for backend in steps:
            row = {"training step": name, "channels": str(config.channels), "batch": N, "with": backend}
            row.update(measure.summary(seconds[backend]))
            if args.peer:
                row["time / torch"] = measure.ratio(seconds[backend], seconds["torch"])
            rows.append(row)
            print(row)
    measure.save("train_step", rows, **versions)


if __name__ == "__main__":
    main()
