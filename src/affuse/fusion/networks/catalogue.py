"""The networks by name, and what each reads; known without torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from affuse.errors import ConfigError, MissingExtraError

__all__ = ["NETWORKS", "Entry", "Reads", "find", "names", "reads"]

Reads = Literal["row", "sequence", "context"]


@dataclass(frozen=True)
class Entry:
    """Where a network lives, and what it reads.

    A "row" is one vector a modality, a "sequence" several steps a modality and row, a "context" all rows of a group in
    their order, of which each is answered.
    """

    home: str
    kind: str
    reads: Reads


NETWORKS = {
    "autoencoder": Entry("rows", "MultimodalAutoencoder", "row"),
    "cnn_lstm": Entry("sequences", "ConvolutionalLSTM", "sequence"),
    "contextual": Entry("sequences", "ContextualLSTM", "context"),
    "contextual_attention": Entry("sequences", "ContextualAttention", "context"),
    "cross_attention": Entry("sequences", "CrossAttention", "sequence"),
    "gated": Entry("rows", "GatedMultimodalUnit", "row"),
    "late": Entry("rows", "LateFusion", "row"),
    "low_rank": Entry("rows", "LowRankFusion", "row"),
    "tensor": Entry("rows", "TensorFusion", "row"),
}


def names() -> list[str]:
    """Names of all networks, sorted."""
    return sorted(NETWORKS)


def reads(name: str) -> Reads:
    """What a network reads: "row", "sequence" or "context". Raises ConfigError for an unknown name."""
    return _entry(name).reads


def find(name: str) -> Any:
    """The class of a network. Raises ConfigError for an unknown name, MissingExtraError where torch is missing."""
    entry = _entry(name)
    try:
        module = import_module(f"affuse.fusion.networks.{entry.home}")
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), "train") from error
    return getattr(module, entry.kind)


def _entry(name: str) -> Entry:
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}; known: {', '.join(names())}")
    return NETWORKS[name]
