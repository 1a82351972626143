"""How long sampling takes: one evaluation of the network, and all of a DDIM trajectory.

    python benchmarks/bench_sampling.py                          # tinydiff alone
    python benchmarks/bench_sampling.py --peer torch             # in turn with the same network in PyTorch
    python benchmarks/bench_sampling.py --case small --dry-run   # one network, printed and not saved

The variants of PyTorch are those of bench_train_step.py, in inference mode, where the compiler also freezes the
weights. That all compute the same evaluation, or the same images, is checked before anything is timed.
"""

from __future__ import annotations

import numpy as np

import measure
from bench_train_step import CASES, batch_of, forward_flops, tinydiff_unet
from tinydiff.generate import IMAGE_RANGE, generate
from tinydiff.noise import schedules
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import ddim, finish

BATCHES = (1, 16, 64)
STEPS, GUIDANCE, IMAGES = 25, 2.0, 16
TRAJECTORY_REPEATS = 3  # each is many evaluations
TRAJECTORY = f"DDIM, {STEPS} steps, guidance {GUIDANCE:g}"
SCHEDULE = schedules.cosine(200)


def tinydiff_evaluation(model, N):
    x, _, step, labels = batch_of(model.config, N)
    return lambda: model.backend.to_numpy(model.predict(x, step, labels))


def torch_evaluation(peer, model, N):
    import torch

    x, _, step, labels = batch_of(model.config, N)
    arguments = peer.tensors(x, step, labels)
    return torch.inference_mode()(lambda: peer.array(peer.network(*arguments)))


def states(model, N):
    labels = np.arange(N) % model.config.classes
    return generate(model, SCHEDULE, "v", labels, sampler="ddim", steps=STEPS, guidance=GUIDANCE)


def tinydiff_trajectory(model, N):
    return lambda: model.backend.to_numpy(finish(states(model, N)))


def torch_trajectory(peer, model, N):
    """The same from the same noise: as much arithmetic, by the same DDIM on tensors."""
    import torch

    null = model.config.classes
    start, labels = peer.tensors(next(states(model, N)).x, np.arange(N) % null)
    both_labels = torch.cat([labels, torch.full_like(labels, null)])

    def predict(x, step):
        conditional, null = peer.network(torch.cat([x, x]), torch.full((2 * N,), step), both_labels).chunk(2)
        return null + GUIDANCE * (conditional - null)

    denoise, grid = denoiser(predict, SCHEDULE, "v", clip=IMAGE_RANGE), SCHEDULE.grid(STEPS)
    return torch.inference_mode()(lambda: peer.array(finish(ddim(denoise, start, SCHEDULE, grid))))


def main():
    args = measure.arguments(__doc__, cases=["small", "reference"]).parse_args()
    rows, peers, versions = [], {}, {}
    if args.peer:
        import torch_unet

        versions["torch"] = torch_unet.torch.__version__
    for case in args.case:
        name, config, _ = CASES[case]
        models = {backend: tinydiff_unet(config, backend) for backend in args.backend}
        works = [
            ("one evaluation", tinydiff_evaluation, torch_evaluation, N, forward_flops(config, N)) for N in BATCHES
        ]
        if case == "small":  # at the size of the reference it would take an hour
            flops = STEPS * forward_flops(config, 2 * IMAGES)
            works.append((TRAJECTORY, tinydiff_trajectory, torch_trajectory, IMAGES, flops))
        for what, ours, theirs, N, flops in works:
            functions = {backend: ours(model, N) for backend, model in models.items()}
            if args.peer:
                model = models[args.backend[0]]
                peers = torch_unet.peers(config, model.parameters)
                functions |= {variant: theirs(peer, model, N) for variant, peer in peers.items()}
            repeats = min(args.repeats, TRAJECTORY_REPEATS) if what == TRAJECTORY else args.repeats
            for variant, columns in measure.compare(functions, repeats, flops, peers).items():
                rows.append({"sampling": what, "network": name, "batch": N, "with": variant, **columns})
                print(rows[-1])
    measure.save("sampling", rows, dry_run=args.dry_run, **versions)


if __name__ == "__main__":
    main()
