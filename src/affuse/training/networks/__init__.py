"""Trainable networks by name (extra ``train``): faces, voices, words, and what joins them.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command. A
network of one's own is a subclass of `Network`; it is found by name after one line of an entry point of the group
"affuse.networks".
"""

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names
from affuse.training.networks.catalogue import NETWORKS, Entry, describe, find, make, names, options

if TYPE_CHECKING:
    from affuse.training.networks.base import Network, Output
    from affuse.training.networks.exporter import export

__all__ = ["NETWORKS", "Entry", "Network", "Output", "describe", "export", "find", "make", "names", "options"]

__getattr__, __dir__ = lazy_names(
    __name__, {"Network": ".base", "Output": ".base", "export": ".exporter"}, extra="train"
)
