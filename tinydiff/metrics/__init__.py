"""How good samples are: MMD, FID, conditional accuracy, memorisation."""
