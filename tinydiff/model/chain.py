"""Things one after another."""

from __future__ import annotations


class Chain:
    """y = last(... second(first(x))).

    links  layers, blocks or ops, each with forward(x) -> y, cache, and backward(dy, cache) -> dx or a tuple of which
           dx is the first; its other inputs, if it has any, are left out
    """

    def __init__(self, *links):
        self.links = links

    def forward(self, x):
        """x -> y, cache: the links' caches in their order."""
        caches = []
        for link in self.links:
            x, cache = link.forward(x)
            caches.append(cache)
        return x, caches

    def predict(self, x):
        """y alone. What only a backward would need is let go as soon as a link is done with it."""
        for link in self.links:
            x = link.forward(x)[0]
        return x

    def backward(self, dy, cache):
        """dy -> dx.

        The cache is used up: what a link kept is let go as soon as its gradients are known. A second backward needs a
        second forward.
        """
        dh = dy
        for link in reversed(self.links):
            gradients = link.backward(dh, cache.pop())
            dh = gradients[0] if isinstance(gradients, tuple) else gradients
        return dh
