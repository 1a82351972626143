"""The same U-Net in PyTorch on a GPU, as fast as it goes: channels-last, bfloat16 by autocast, eager and compiled."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from torch_unet import TorchUNet

MODES = {"torch eager": None, "torch compiled": "default", "torch max-autotune": "max-autotune"}


class Peer:
    """The U-Net in one of the ``MODES``, with the parameters of a tinydiff U-Net."""

    def __init__(self, mode, config, parameters):
        self.config = config
        module = TorchUNet(config)
        module.take(parameters)
        self.module = module.to("cuda", memory_format=torch.channels_last)
        mode = MODES[mode]
        self.network = torch.compile(self.module, dynamic=False, mode=mode) if mode else self.module

    def predict(self, *arguments):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return self.network(*arguments)

    def train_step(self, N):
        """A function that takes one step on a fixed batch and waits for it: less work than ours, as nothing is drawn and
        no average kept."""
        x, target = (images(self.config, N, seed) for seed in range(2))
        step, labels = conditions(self.config, N)
        parameters = list(self.module.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0, fused=True)

        def run():
            torch.compiler.cudagraph_mark_step_begin()
            optimizer.zero_grad()
            F.mse_loss(self.predict(x, step, labels).float(), target).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            torch.cuda.synchronize()

        return run

    def trajectory(self, schedule, N, steps):
        """A function that draws N images by DDIM and waits for them."""
        from tinydiff.generate import IMAGE_RANGE
        from tinydiff.noise.predictions import denoiser
        from tinydiff.samplers import ddim, finish

        start, (_, labels) = images(self.config, N, 0), conditions(self.config, N)

        def predict(x, step):
            torch.compiler.cudagraph_mark_step_begin()
            return self.predict(x, torch.full((N,), step, device="cuda"), labels).float().clone()

        denoise, grid = denoiser(predict, schedule, "v", clip=IMAGE_RANGE), schedule.grid(steps)

        def run():
            with torch.inference_mode():
                finish(ddim(denoise, start, schedule, grid))
            torch.cuda.synchronize()

        return run


def images(config, N, seed):
    shape = N, config.image_channels, config.size, config.size
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values).to("cuda", memory_format=torch.channels_last)


def conditions(config, N):
    """Noise steps and labels."""
    step, labels = np.arange(N) % 200, np.arange(N) % (config.classes + 1)
    return torch.from_numpy(step).float().cuda(), torch.from_numpy(labels).cuda()


def convolution(case):
    """{verb: function} of cuDNN's convolution at a ``Case``'s sizes, in bfloat16."""
    (N, H, W, C), (R, _, _, O) = case.inputs["x"], case.inputs["w"]
    like = dict(device="cuda", dtype=torch.bfloat16)
    x = torch.randn(N, C, H, W, **like).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(O, C, R, R, **like).to(memory_format=torch.channels_last).requires_grad_()
    b = torch.zeros(O, **like, requires_grad=True)
    stride, padding = case.options["stride"], case.options["padding"]
    y = F.conv2d(x, w, b, stride, padding)
    dy = torch.randn_like(y)

    def forward():
        with torch.inference_mode():
            F.conv2d(x, w, b, stride, padding)

    return {"forward": forward, "backward": lambda: torch.autograd.grad(y, (x, w, b), dy, retain_graph=True)}


def seconds(work, repeats, flushed):
    """Seconds of the GPU's clock of each repeat, from a cold cache as for our kernels."""
    times = []
    for _ in range(3 + repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flushed.zero_()
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return times[3:]
