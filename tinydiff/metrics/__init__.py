"""How good samples are: MMD, FID, conditional accuracy, memorisation."""


class SaysNothing(ValueError):
    """Of such images a measure would give a number, but one that says nothing."""
