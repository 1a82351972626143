"""Small MNIST-like files."""

import gzip

import numpy as np

NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")


def encode(array, kind=8):
    header = bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(np.uint8).tobytes()


def write(folder, n=40, size=28, zipped=True):
    """Write images of bars and their labels; return the two paths."""
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 10
    images = np.zeros((n, size, size), np.uint8)
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 4, rng.integers(2, 8) : 20] = 255
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, array in zip(NAMES, (images, labels)):
        content = encode(array)
        path = folder / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
        paths.append(path)
    return paths
