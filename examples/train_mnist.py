"""Train a class-conditional diffusion model on MNIST and draw digits with it.

    python examples/train_mnist.py                     # a laptop's CPU
    python examples/train_mnist.py --preset paper      # the 15.7 M U-Net; wants a GPU
    python examples/train_mnist.py --minutes 5         # stop early; what is there is drawn

What happens: MNIST is found or downloaded (drawn digits take its place without a network), a U-Net learns
to see through noise, and every 250 steps the same noise is drawn again into ``samples/``, so one watches
digits emerge. At the end the run's folder holds

    samples.png      ten of each digit, one row a digit
    denoising.gif    noise becoming digits: x on the left, what the network takes it for on the right
    loss.png         the loss curve
    metrics.jsonl    the same as numbers
    checkpoints/     what ``tinydiff sample`` draws from and ``--resume`` goes on from

This is ``tinydiff train`` under the name of what most people want it for; ``--help`` lists every knob.
"""

import argparse
import sys

from tinydiff import cli
from tinydiff.commands import train

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    train.add_arguments(parser)
    sys.exit(cli.call(cli.together(train.train), parser.parse_args()))
