"""How long sampling takes: one evaluation of the network, and all of a DDIM trajectory.

    python benchmarks/bench_sampling.py                                      # tinydiff alone
    python benchmarks/bench_sampling.py --peer torch onnxruntime openvino    # in turn with the same network in others
    python benchmarks/bench_sampling.py --case small --dry-run               # one network, printed and not saved

On the cpu backend an evaluation is the program that a sampler runs, with its filters prepared, and also ops called from
Python one by one. The variants of PyTorch are those of bench_train_step.py, in inference mode, where the compiler also
freezes the weights and bfloat16 is that of a module converted whole. ONNX Runtime and OpenVINO run the file of
``tinydiff export --format onnx``: the first in float32 alone, as on x86 it has no kernels of bfloat16, the second in
both. That all compute the same evaluation, or the same images, is checked before anything is timed.
"""

from __future__ import annotations

import importlib.metadata

import measure
import numpy as np
from bench_train_step import ALL_VARIANTS, CASES, batch_of, forward_flops, tinydiff_unet

from tinydiff.generate import IMAGE_RANGE, Trajectory
from tinydiff.noise import schedules
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import ddim, finish

BATCHES = {"small": (1, 16, 64), "reference": (1, 16)}  # with 64 the large network tells no more, in some 8 minutes
STEPS, GUIDANCE, IMAGES = 25, 2.0, 8
TRAJECTORY_REPEATS = 3  # each is many evaluations
TRAJECTORY = f"DDIM, {STEPS} steps, guidance {GUIDANCE:g}"
SCHEDULE = schedules.cosine(200)


PEERS = ("torch", "onnxruntime", "openvino")


def tinydiff_evaluation(model, N):
    """{variant: function}."""
    backend = model.backend
    variant = measure.variant(backend.name, backend.precision)
    x, _, step, labels = batch_of(model.config, N)
    labels = labels.astype(np.int64)

    def by_ops():
        return model.predict(x, step, labels)

    if backend.name != "cpu":
        return {variant: lambda: backend.to_numpy(by_ops())}
    # the peers take their weights apart when they load or compile, too
    return {variant: backend.capture(by_ops, frozen_weights=True), f"{variant}, op by op": by_ops}


def peer_evaluation(peer, model, N):
    x, _, step, labels = batch_of(model.config, N)
    arguments = peer.tensors(x, step, labels)
    return peer.inference(lambda: peer.array(peer.network(*arguments)))


def trajectory(model, N):
    """A ``Trajectory`` and the labels that it draws."""
    labels = np.arange(N) % model.config.classes
    return Trajectory(model, SCHEDULE, "v", N, sampler="ddim", steps=STEPS, guidance=GUIDANCE), labels


def tinydiff_trajectory(model, N):
    backend, (whole, labels) = model.backend, trajectory(model, N)
    variant = measure.variant(backend.name, backend.precision)
    drawn = {variant: lambda: backend.to_numpy(whole.draw(labels))}
    if backend.name == "cpu":
        drawn[f"{variant}, op by op"] = lambda: backend.to_numpy(finish(whole.states(labels)))
    return drawn


def peer_trajectory(peer, model, N):
    """The same from the same noise: as much arithmetic, by the same DDIM on a peer's arrays."""
    whole, labels = trajectory(model, N)
    both_labels = np.concatenate([labels, np.full(N, model.config.classes)])
    start, both_labels = peer.tensors(model.backend.to_numpy(next(whole.states(labels)).x), both_labels)

    def predict(x, step):
        conditional, null = peer.guided(x, step, both_labels)
        return null + GUIDANCE * (conditional - null)

    denoise, grid = denoiser(predict, SCHEDULE, "v", clip=IMAGE_RANGE), SCHEDULE.grid(STEPS)
    return peer.inference(lambda: peer.array(finish(ddim(denoise, start, SCHEDULE, grid))))


def peers_of(names, case, parameters, N):
    """{variant: peer} of the peers named, for networks that see N samples at a time."""
    _, config, _ = CASES[case]
    made = {}
    if "torch" in names:
        import torch_unet

        made |= torch_unet.peers(config, parameters, every=case in ALL_VARIANTS, trains=False)
    if others := set(names) - {"torch"}:
        import onnx_peers

        made |= onnx_peers.peers(others, config, parameters, N)
    return made


def versions_of(names):
    return {name: importlib.metadata.version(name) for name in names}


def main():
    args = measure.arguments(__doc__, cases=["small", "reference"], peers=PEERS).parse_args()
    rows = []
    for case in args.case:
        name, config, _ = CASES[case]
        models = {variant: tinydiff_unet(config, variant) for variant in args.backend}
        works = [("one evaluation", tinydiff_evaluation, peer_evaluation, N, N, 1) for N in BATCHES[case]]
        if case == "small":  # at the size of the reference it would take an hour
            works.append((TRAJECTORY, tinydiff_trajectory, peer_trajectory, IMAGES, 2 * IMAGES, STEPS))
        for what, ours, theirs, N, evaluated, times in works:
            model = models[args.backend[0]]
            peers = peers_of(args.peer, case, model.parameters, evaluated)
            functions = {variant: each for one in models.values() for variant, each in ours(one, N).items()}
            functions |= {variant: theirs(peer, model, N) for variant, peer in peers.items()}
            repeats = min(args.repeats, TRAJECTORY_REPEATS) if what == TRAJECTORY else args.repeats
            flops = times * forward_flops(config, evaluated)
            for variant, columns in measure.compare(functions, repeats, flops, peers).items():
                rows.append({"sampling": what, "network": name, "batch": N, "with": variant, **columns})
                print(rows[-1])
    measure.save("sampling", rows, dry_run=args.dry_run, **versions_of(args.peer))


if __name__ == "__main__":
    main()
