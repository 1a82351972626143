"""Samplers: from noise to images, each a generator with one signature.

    sampler(denoise, x, schedule, steps, *, noise=None, ...) yields State(step, x, x0_hat)

A sampler knows no network: ``denoise(x, step) -> x0_hat`` is all it asks for
(``tinydiff.noise.predictions.denoiser`` makes one from a network, ``tinydiff.noise.guidance`` adds guidance).
"""

from typing import Any, Callable, NamedTuple

from tinydiff.samplers.ddim import ddim
from tinydiff.samplers.ddpm import ddpm
from tinydiff.samplers.dpm_solver_pp import dpm_solver_pp
from tinydiff.samplers.flow import euler, flow_heun
from tinydiff.samplers.heun import heun
from tinydiff.samplers.trajectory import State, finish


class Sampler(NamedTuple):
    """A sampler and the spacing of steps it works best on."""

    run: Callable[..., Any]
    spacing: str


SAMPLERS = {
    "ddpm": Sampler(ddpm, "trailing"),
    "ddim": Sampler(ddim, "trailing"),
    "heun": Sampler(heun, "karras"),
    "dpm++": Sampler(dpm_solver_pp, "trailing"),
    "euler": Sampler(euler, "trailing"),
    "flow-heun": Sampler(flow_heun, "trailing"),
}

__all__ = ["SAMPLERS", "Sampler", "State", "ddim", "ddpm", "dpm_solver_pp", "euler", "finish", "flow_heun", "heun"]
