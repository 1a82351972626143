"""The page lab.html."""

from __future__ import annotations


def make(checkpoint):
    """(facts, files) of the page, see ``build.contents``."""
    return {}, {}
