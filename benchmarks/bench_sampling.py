"""How long sampling takes: one evaluation of the network, and all of a DDIM trajectory.

    python benchmarks/bench_sampling.py                          # tinydiff alone
    python benchmarks/bench_sampling.py --peer torch             # in turn with the same network in PyTorch
    python benchmarks/bench_sampling.py --peer torch onnxruntime openvino
    python benchmarks/bench_sampling.py --case small --dry-run   # one network, printed and not saved

On the cpu backend an evaluation is measured as the program that a sampler runs, with its filters prepared, and also as
ops called from Python one by one. The variants of PyTorch are those of bench_train_step.py, in inference mode, where
the compiler also freezes the weights; onnxruntime and OpenVINO compile the graph of onnx_unet.py for the size of batch,
OpenVINO also in bfloat16. That all compute the same evaluation, or the same images, is checked before anything is
timed.
"""

from __future__ import annotations

import numpy as np

import measure
from bench_train_step import CASES, batch_of, forward_flops, tinydiff_unet
from tinydiff.generate import IMAGE_RANGE, Trajectory
from tinydiff.noise import schedules
from tinydiff.noise.predictions import denoiser
from tinydiff.samplers import ddim, finish

BATCHES = (1, 16, 64)
STEPS, GUIDANCE, IMAGES = 25, 2.0, 16
TRAJECTORY_REPEATS = 3  # each is many evaluations
TRAJECTORY = f"DDIM, {STEPS} steps, guidance {GUIDANCE:g}"
SCHEDULE = schedules.cosine(200)
PEERS = ("torch", "onnxruntime", "openvino")


def tinydiff_evaluation(model, N):
    """{variant: function}."""
    backend = model.backend
    x, _, step, labels = batch_of(model.config, N)
    labels = labels.astype(np.int64)
    by_ops = lambda: model.predict(x, step, labels)
    if backend.name != "cpu":
        return {backend.name: lambda: backend.to_numpy(by_ops())}
    return {"cpu": backend.capture(by_ops, frozen_weights=True), "cpu, op by op": by_ops}


def torch_evaluation(peer, model, N):
    import torch

    x, _, step, labels = batch_of(model.config, N)
    arguments = peer.tensors(x, step, labels)
    return torch.inference_mode()(lambda: peer.array(peer.network(*arguments)))


def onnx_evaluation(evaluate, model, N):
    x, _, step, labels = batch_of(model.config, N)
    labels = labels.astype(np.int64)
    return lambda: evaluate(x, step, labels)


def trajectory(model, N):
    """The ``Trajectory`` that is measured, and the labels of its images."""
    options = dict(sampler="ddim", steps=STEPS, guidance=GUIDANCE)
    return Trajectory(model, SCHEDULE, "v", N, **options), np.arange(N) % model.config.classes


def tinydiff_trajectory(model, N):
    backend, (whole, labels) = model.backend, trajectory(model, N)
    drawn = {backend.name: lambda: backend.to_numpy(whole.draw(labels))}
    if backend.name == "cpu":
        drawn["cpu, op by op"] = lambda: backend.to_numpy(finish(whole.states(labels)))
    return drawn


def starting_noise(model, N):
    whole, labels = trajectory(model, N)
    return model.backend.to_numpy(next(whole.states(labels)).x)


def torch_trajectory(peer, model, N):
    """The same from the same noise: as much arithmetic, by the same DDIM on tensors."""
    import torch

    null = model.config.classes
    start, labels = peer.tensors(starting_noise(model, N), np.arange(N) % null)
    both_labels = torch.cat([labels, torch.full_like(labels, null)])

    def predict(x, step):
        conditional, null = peer.network(torch.cat([x, x]), torch.full((2 * N,), step), both_labels).chunk(2)
        return null + GUIDANCE * (conditional - null)

    denoise, grid = denoiser(predict, SCHEDULE, "v", clip=IMAGE_RANGE), SCHEDULE.grid(STEPS)
    return torch.inference_mode()(lambda: peer.array(finish(ddim(denoise, start, SCHEDULE, grid))))


def onnx_trajectory(evaluate, model, N):
    """Likewise, on NumPy arrays; its network is compiled for 2 N images."""
    null, start = model.config.classes, starting_noise(model, N)
    both_labels = np.concatenate([np.arange(N) % null, np.full(N, null)])

    def predict(x, step):
        both = evaluate(np.concatenate([x, x]), np.full(2 * N, step, np.float32), both_labels)
        return both[N:] + GUIDANCE * (both[:N] - both[N:])

    denoise, grid = denoiser(predict, SCHEDULE, "v", clip=IMAGE_RANGE), SCHEDULE.grid(STEPS)
    return lambda: finish(ddim(denoise, start, SCHEDULE, grid))


def main():
    args = measure.arguments(__doc__, cases=["small", "reference"], peers=PEERS).parse_args()
    rows, versions = [], {}
    runtimes = [name for name in args.peer if name != "torch"]
    if "torch" in args.peer:
        import torch_unet

        versions["torch"] = torch_unet.torch.__version__
    if runtimes:
        import onnx_unet

        versions |= onnx_unet.versions(runtimes)
    for case in args.case:
        name, config, _ = CASES[case]
        models = {backend: tinydiff_unet(config, backend) for backend in args.backend}
        model = models[args.backend[0]]
        works = [("one evaluation", EVALUATION, N, N, forward_flops(config, N)) for N in BATCHES]
        if case == "small":  # at the size of the reference it would take an hour
            flops = STEPS * forward_flops(config, 2 * IMAGES)
            works.append((TRAJECTORY, WHOLE, IMAGES, 2 * IMAGES, flops))
        for what, (ours, theirs, of_runtime), N, at_once, flops in works:
            functions, peers = {}, []
            for each in models.values():
                functions |= ours(each, N)
            if "torch" in args.peer:
                networks = torch_unet.peers(config, model.parameters)
                functions |= {variant: theirs(peer, model, N) for variant, peer in networks.items()}
                peers += networks
            if runtimes:
                networks = onnx_unet.peers(model, at_once, runtimes)
                functions |= {variant: of_runtime(evaluate, model, N) for variant, evaluate in networks.items()}
                peers += networks
            repeats = min(args.repeats, TRAJECTORY_REPEATS) if what == TRAJECTORY else args.repeats
            best_of = "peer in float32" if runtimes else "torch"
            for variant, columns in measure.compare(functions, repeats, flops, peers, best_of=best_of).items():
                rows.append({"sampling": what, "network": name, "batch": N, "with": variant, **columns})
                print(rows[-1])
    measure.save("sampling", rows, dry_run=args.dry_run, **versions)


# how tinydiff, PyTorch and the runtimes of ONNX do it
EVALUATION = tinydiff_evaluation, torch_evaluation, onnx_evaluation
WHOLE = tinydiff_trajectory, torch_trajectory, onnx_trajectory

if __name__ == "__main__":
    main()
