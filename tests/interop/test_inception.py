"""The network of FID as PyTorch runs it, written out here from pytorch-fid: the same features of the same weights."""

import warnings

import numpy as np
import pytest

from tests.checks import assert_as_good
from tests.metrics.test_inception import random_state
from tinydiff import backends
from tinydiff.metrics import inception

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'tinydiff[interop]'")
    from torch.nn import functional as F
pytestmark = pytest.mark.filterwarnings("default")  # what other libraries warn of is theirs to mend


class Theirs:
    """(N, 3, H, W) in [0, 1] -> (N, 2048)."""

    def __init__(self, state, dtype):
        self.state = {name: torch.from_numpy(array).to(dtype) for name, array in state.items()}

    def conv(self, name, x, stride=1, padding=0):
        x = F.conv2d(x, self.state[f"{name}.conv.weight"], stride=stride, padding=padding)
        mean, variance, gamma, beta = (
            self.state[f"{name}.bn.{each}"] for each in ("running_mean", "running_var", "weight", "bias")
        )
        return F.relu(F.batch_norm(x, mean, variance, gamma, beta, eps=0.001))

    def average(self, name, x):
        x = F.avg_pool2d(x, kernel_size=3, stride=1, padding=1, count_include_pad=False)
        return self.conv(f"{name}.branch_pool", x)

    def a(self, name, x):
        five = self.conv(f"{name}.branch5x5_2", self.conv(f"{name}.branch5x5_1", x), padding=2)
        double = self.conv(f"{name}.branch3x3dbl_2", self.conv(f"{name}.branch3x3dbl_1", x), padding=1)
        double = self.conv(f"{name}.branch3x3dbl_3", double, padding=1)
        return torch.cat([self.conv(f"{name}.branch1x1", x), five, double, self.average(name, x)], 1)

    def b(self, name, x):
        double = self.conv(f"{name}.branch3x3dbl_2", self.conv(f"{name}.branch3x3dbl_1", x), padding=1)
        double = self.conv(f"{name}.branch3x3dbl_3", double, stride=2)
        return torch.cat([self.conv(f"{name}.branch3x3", x, stride=2), double, F.max_pool2d(x, 3, 2)], 1)

    def c(self, name, x):
        seven = self.conv(f"{name}.branch7x7_2", self.conv(f"{name}.branch7x7_1", x), padding=(0, 3))
        seven = self.conv(f"{name}.branch7x7_3", seven, padding=(3, 0))
        double = self.conv(f"{name}.branch7x7dbl_1", x)
        for i in (2, 3, 4, 5):
            double = self.conv(f"{name}.branch7x7dbl_{i}", double, padding=(0, 3) if i % 2 else (3, 0))
        return torch.cat([self.conv(f"{name}.branch1x1", x), seven, double, self.average(name, x)], 1)

    def d(self, name, x):
        three = self.conv(f"{name}.branch3x3_2", self.conv(f"{name}.branch3x3_1", x), stride=2)
        seven = self.conv(f"{name}.branch7x7x3_2", self.conv(f"{name}.branch7x7x3_1", x), padding=(0, 3))
        seven = self.conv(f"{name}.branch7x7x3_3", seven, padding=(3, 0))
        return torch.cat([three, self.conv(f"{name}.branch7x7x3_4", seven, stride=2), F.max_pool2d(x, 3, 2)], 1)

    def e(self, name, x, pool):
        three = self.conv(f"{name}.branch3x3_1", x)
        three = [
            self.conv(f"{name}.branch3x3_2a", three, padding=(0, 1)),
            self.conv(f"{name}.branch3x3_2b", three, padding=(1, 0)),
        ]
        double = self.conv(f"{name}.branch3x3dbl_2", self.conv(f"{name}.branch3x3dbl_1", x), padding=1)
        double = [
            self.conv(f"{name}.branch3x3dbl_3a", double, padding=(0, 1)),
            self.conv(f"{name}.branch3x3dbl_3b", double, padding=(1, 0)),
        ]
        last = self.conv(f"{name}.branch_pool", F.max_pool2d(x, 3, 1, 1)) if pool == "max" else self.average(name, x)
        return torch.cat([self.conv(f"{name}.branch1x1", x), *three, *double, last], 1)

    def __call__(self, x):
        x = 2 * F.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) - 1
        x = self.conv("Conv2d_2a_3x3", self.conv("Conv2d_1a_3x3", x, stride=2))
        x = F.max_pool2d(self.conv("Conv2d_2b_3x3", x, padding=1), 3, 2)
        x = F.max_pool2d(self.conv("Conv2d_4a_3x3", self.conv("Conv2d_3b_1x1", x)), 3, 2)
        for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self.a(name, x)
        x = self.b("Mixed_6a", x)
        for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self.c(name, x)
        x = self.d("Mixed_7a", x)
        x = self.e("Mixed_7c", self.e("Mixed_7b", x, "average"), "max")
        return F.adaptive_avg_pool2d(x, (1, 1)).flatten(1)


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.mark.parametrize("size", [32, 320])
def test_the_features_are_those_of_pytorch(state, size):
    images = np.random.default_rng(1).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    features = inception.Inception(state, backends.get("auto")).features(images)
    truth, rival = (
        Theirs(state, dtype)(torch.from_numpy(images.transpose(0, 3, 1, 2) / 255).to(dtype)).numpy()
        for dtype in (torch.float64, torch.float32)
    )
    assert features.std() > 0.1 * features.mean()  # they tell something apart
    assert_as_good(features, truth, rival, times=8)  # some 100 convolutions, each with sums in an order of its own
