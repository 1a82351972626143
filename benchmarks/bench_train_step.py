"""How long a training step takes, and how much memory: forward, loss, backward, clip, AdamW.

    python benchmarks/bench_train_step.py                          # tinydiff alone
    python benchmarks/bench_train_step.py --peer torch             # in turn with the same network in PyTorch
    python benchmarks/bench_train_step.py --case small --dry-run   # one network, printed and not saved
    python benchmarks/bench_train_step.py --backend cpu cpu-bf16   # these of tinydiff, not all

tinydiff and PyTorch compute in float32 and in bfloat16. PyTorch runs eagerly and compiled, each with images as NCHW and
as channels-last, with its fused AdamW; compiled from NCHW it is timed with the small network only (``torch_unet``
says why). All start from the same weights; that they compute the same prediction is checked before anything is timed.
Memory is that of a process in which nothing else runs: the peak of a step, above what the process holds after a step of
a tiny network.
"""

from __future__ import annotations

import sys

import measure
import numpy as np

from tinydiff.model.unet import UNet, UNetConfig
from tinydiff.train.presets import PRESETS

CASES = {
    "laptop": ("laptop preset", PRESETS["laptop"].config.model, PRESETS["laptop"].config.batch),
    "small": ("small", UNetConfig(channels=(32, 64, 128)), 32),
    "reference": ("reference", UNetConfig(channels=(64, 128, 256)), 16),
}
ALL_VARIANTS = ("small",)  # of PyTorch: with other networks only those which may be its fastest
TINY = UNetConfig(size=4, channels=(4, 8), groups=2)


def batch_of(config, N):
    rng = np.random.default_rng(0)
    shape = (N, config.size, config.size, config.image_channels)
    x, target = rng.standard_normal((2, *shape), dtype=np.float32)
    step = rng.integers(0, 200, N).astype(np.float32)
    labels = rng.integers(0, config.classes + 1, N).astype(np.int32)
    return x, target, step, labels


def tinydiff_unet(config, variant):
    model = UNet(config, measure.backend(variant))
    rng = np.random.default_rng(1)
    model.parameters.values[...] = 0.05 * rng.standard_normal(model.parameters.count, dtype=np.float32)
    model.parameters.refresh()
    return model


def forward_flops(config, N):
    """Operations of one forward: its convolutions, linear layers and attention, a multiply-add counted as two."""
    widths, E, last = config.channels, 4 * config.channels[0], len(config.channels) - 1
    pixels = [(config.size // 2**i) ** 2 for i in range(len(widths))]

    def attention(i):
        C, L = widths[i], pixels[i]
        return 4 * L * C * C + 2 * L * L * C

    def res_block(i, C):
        O, L = widths[i], pixels[i]
        shortcut = L * C * O if C != O else 0
        return L * 9 * (C + O) * O + shortcut + E * O * (1 + config.film)

    def block(i, C):
        return res_block(i, C) + (attention(i) if config.has_attention(i) else 0)

    C = widths[0]
    ends = 2 * pixels[0] * 9 * config.image_channels * C
    multiply_adds = ends + C * E + E * E + 2 * res_block(last, widths[last]) + attention(last)
    skips = [C]
    for i, O in enumerate(widths):
        for _ in range(config.blocks):
            multiply_adds += block(i, C)
            C = O
            skips.append(C)
        if i < last:
            multiply_adds += pixels[i + 1] * 9 * C * C
            skips.append(C)
    for i, O in reversed(list(enumerate(widths))):
        for _ in range(config.blocks + 1):
            multiply_adds += block(i, C + skips.pop())
            C = O
        if i:
            multiply_adds += pixels[i - 1] * 9 * C * C
    return 2 * N * multiply_adds


def op_by_op(model, x, target, step, labels):
    """A function that makes one step and returns the prediction, which lies on the backend."""
    backend, parameters = model.backend, model.parameters
    mean, mean_square = np.zeros_like(parameters.values), np.zeros_like(parameters.values)
    learning_rate, number = np.full(1, 1e-4, np.float32), np.ones(1, np.int64)
    labels = labels.astype(np.int64)

    def run():
        prediction, cache = model.forward(x, step, labels)
        _, loss_cache = backend.mse_loss.forward(prediction, target)
        model.backward(backend.mse_loss.backward(1.0, loss_cache, prediction_only=True)[0], cache)
        backend.adamw.forward(
            parameters.values,
            parameters.grads,
            mean,
            mean_square,
            copy=parameters.rounded,  # in bfloat16, which the next step reads
            decayed=parameters.decayed,
            learning_rate=learning_rate,
            step_number=number,
            norm=backend.global_norm.forward(parameters.grads),
            limit=1.0,
        )
        return prediction

    return run


def tinydiff_step(model, *batch):
    """The same as the trainer runs it: captured."""
    run = model.backend.capture(op_by_op(model, *batch))
    return lambda: model.backend.to_numpy(run())


def torch_step(peer, x, target, step, labels):
    import torch

    (x, step, labels), (target,) = peer.tensors(x, step, labels), peer.tensors(target)
    parameters = list(peer.module.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0, fused=True)

    def run():
        optimizer.zero_grad()
        prediction = peer.network(x, step, labels)
        torch.nn.functional.mse_loss(prediction, target).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return peer.array(prediction)

    return run


def print_memory_of(variant, case):
    """The peak of one variant's step, in this process."""
    _, config, N = CASES[case]

    def make_step(config, N):
        if measure.is_ours(variant):
            return tinydiff_step(tinydiff_unet(config, variant), *batch_of(config, N))
        import torch_unet

        return torch_step(torch_unet.Peer(variant, config), *batch_of(config, N))

    make_step(TINY, 2)()  # brings in what a library loads at its first step: kernels, and for torch a compiler
    measure.print_peak_memory(lambda: make_step(config, N))


def main():
    if sys.argv[1:2] == ["--memory-of"]:  # the process that ``measure.peak_memory`` starts
        return print_memory_of(*sys.argv[2:])

    args = measure.arguments(__doc__, repeats=7, cases=list(CASES)).parse_args()
    rows, peers, versions = [], {}, {}
    if args.peer:
        import torch_unet

        versions["torch"] = torch_unet.torch.__version__
    for case in args.case:
        name, config, N = CASES[case]
        batch = batch_of(config, N)
        models = {variant: tinydiff_unet(config, variant) for variant in args.backend}
        steps = {variant: tinydiff_step(model, *batch) for variant, model in models.items()}
        if args.peer:
            peers = torch_unet.peers(config, models[args.backend[0]].parameters, every=case in ALL_VARIANTS)
            steps |= {variant: torch_step(peer, *batch) for variant, peer in peers.items()}
        timed = measure.compare(steps, args.repeats, 3 * forward_flops(config, N), peers)
        memory = measure.peak_memory({variant: ("--memory-of", variant, case) for variant in timed})
        for variant, columns in timed.items():
            row = {"training step": name, "channels": str(config.channels), "batch": N, "with": variant, **columns}
            rows.append(row | memory[variant])
            print(rows[-1])
    measure.save("train_step", rows, dry_run=args.dry_run, **versions)


if __name__ == "__main__":
    main()
