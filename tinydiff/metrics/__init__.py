"""How good samples are: MMD, FID, conditional accuracy, memorisation; and how good reconstructions: PSNR."""


class SaysNothing(ValueError):
    """Of such images a measure would give a number, but one that says nothing."""
