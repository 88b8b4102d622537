"""The networks by name, and what each reads; known without torch.

A network is one class and one line of `NETWORKS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from affuse.registry import Registry

__all__ = ["NETWORKS", "Entry", "Reads", "class_homes", "find", "names", "reads"]

Reads = Literal["row", "sequence", "context"]


@dataclass(frozen=True)
class Entry:
    """Where a network is, as ``"module:class"``, and what it reads.

    A "row" is one vector a modality, a "sequence" several steps a modality and row, a "context" all rows of a group in
    their order, of which each is answered.
    """

    place: str
    reads: Reads


_ROWS, _SEQUENCES = "affuse.fusion.networks.rows", "affuse.fusion.networks.sequences"

NETWORKS = {
    "autoencoder": Entry(f"{_ROWS}:MultimodalAutoencoder", "row"),
    "cnn_lstm": Entry(f"{_SEQUENCES}:ConvolutionalLSTM", "sequence"),
    "contextual": Entry(f"{_SEQUENCES}:ContextualLSTM", "context"),
    "contextual_attention": Entry(f"{_SEQUENCES}:ContextualAttention", "context"),
    "cross_attention": Entry(f"{_SEQUENCES}:CrossAttention", "sequence"),
    "gated": Entry(f"{_ROWS}:GatedMultimodalUnit", "row"),
    "late": Entry(f"{_ROWS}:LateFusion", "row"),
    "low_rank": Entry(f"{_ROWS}:LowRankFusion", "row"),
    "tensor": Entry(f"{_ROWS}:TensorFusion", "row"),
}
"""Where every network is, and what it reads, by name."""

_REGISTRY = Registry("network", {name: entry.place for name, entry in NETWORKS.items()}, extra="train")


def names() -> list[str]:
    """Names of all networks, sorted.

    Returns
    -------
    list of str

    Examples
    --------
    >>> names()[:3]
    ['autoencoder', 'cnn_lstm', 'contextual']
    """
    return _REGISTRY.names()


def reads(name: str) -> Reads:
    """What a network reads.

    Parameters
    ----------
    name : str
        One of `names`.

    Returns
    -------
    str
        "row" (one vector a modality), "sequence" (several steps a modality and row) or "context" (all rows of a group
        in their order).

    Raises
    ------
    ConfigError
        If there is no such network.

    Examples
    --------
    >>> reads("cross_attention")
    'sequence'
    """
    return NETWORKS[_REGISTRY.canonical(name)].reads


def find(name: str) -> Any:
    """The class of a network. Raises ConfigError for an unknown name, MissingExtraError where torch is missing."""
    return _REGISTRY.find(name)


def class_homes() -> dict[str, str]:
    """Modules of the networks, by name of the class."""
    return {kind: module for module, _, kind in (entry.place.partition(":") for entry in NETWORKS.values())}
