"""Trainable networks by name (extra ``train``): faces, voices, words, and what joins them.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command.
"""

from affuse.training.networks.catalogue import NETWORKS, Entry, describe, find, make, names, options

__all__ = ["NETWORKS", "Entry", "describe", "find", "make", "names", "options"]
