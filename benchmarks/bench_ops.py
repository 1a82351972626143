"""How fast the reference convolution is: its rate against this machine's own NumPy matrix product.

    python benchmarks/bench_ops.py

Forward and backward at the shapes of the small U-Net, in float32. A multiply-add counts as two operations;
a backward has twice the operations of its forward.
"""

from __future__ import annotations

import argparse

import numpy as np

import measure
from tinydiff import backends

# N, H = W, C, O of 3x3 stride-1 convolutions; the first is the one the project holds itself to
SHAPES = [(16, 28, 64, 64), (32, 28, 32, 32), (32, 14, 64, 64), (32, 7, 128, 128), (64, 28, 16, 16)]
MATRIX = 2048


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=30)
    repeats = parser.parse_args().repeats

    conv2d = backends.get("numpy").conv2d
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    a, b = normal(MATRIX, MATRIX), normal(MATRIX, MATRIX)
    rows = []
    for N, H, C, O in SHAPES:
        x, w, bias, dy = normal(N, H, H, C), normal(3, 3, C, O), normal(O), normal(N, H, H, O)
        _, cache = conv2d.forward(x, w, bias, padding=1)
        seconds = measure.interleaved(
            {
                "matmul": lambda: a @ b,
                "forward": lambda: conv2d.forward(x, w, bias, padding=1),
                "backward": lambda: conv2d.backward(dy, cache),
            },
            repeats,
        )
        forward_flops = 2 * N * H * H * 9 * C * O
        peak = 2 * MATRIX**3 / np.array(seconds["matmul"])
        for name, flops in (("forward", forward_flops), ("backward", 2 * forward_flops)):
            rate = flops / np.array(seconds[name])
            rows.append(
                {
                    "conv2d 3x3": name,
                    "x": f"{N}x{H}x{H}x{C}",
                    "channels out": O,
                    **measure.summary(seconds[name]),
                    "GFLOP/s": round(float(np.median(rate)) / 1e9),
                    "of matmul": f"{np.median(rate / peak):.0%}",
                }
            )
            print(rows[-1])
    measure.save("ops", rows)


if __name__ == "__main__":
    main()
