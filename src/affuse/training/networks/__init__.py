"""Trainable networks by name (extra ``train``): faces, voices, words, and what joins them.

Nothing here imports torch until a network is made; where it is missing, MissingExtraError names the pip command. A
network of one's own is a subclass of `Network`; it is found by name after one line of an entry point of the group
"affuse.networks".
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from affuse.errors import MissingExtraError
from affuse.training.networks.catalogue import NETWORKS, Entry, describe, find, make, names, options

if TYPE_CHECKING:
    from affuse.training.networks.base import Network, Output
    from affuse.training.networks.exporter import export

__all__ = ["NETWORKS", "Entry", "Network", "Output", "describe", "export", "find", "make", "names", "options"]

_LAZY = {"Network": "base", "Output": "base", "export": "exporter"}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("affuse"):
            raise
        raise MissingExtraError(str(error.name), "train") from error
