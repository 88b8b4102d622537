"""What networks read, and how their inputs vary; known without torch."""

from __future__ import annotations

from typing import Literal

__all__ = ["AXES", "Reads"]

Reads = Literal["waveform", "images", "clips", "frames", "landmarks", "tokens", "blocks"]
"""Kinds of inputs, see `affuse.training.networks.Network`."""

AXES: dict[str, dict[str, dict[int, str]]] = {
    "waveform": {"waveform": {0: "n", 1: "samples"}},
    "images": {"images": {0: "n"}},
    "clips": {"clips": {0: "n"}},
    "frames": {"frames": {0: "n", 1: "t"}, "lengths": {0: "n"}},
    "landmarks": {"landmarks": {0: "n"}},
    "tokens": {"ids": {0: "n", 1: "t"}, "mask": {0: "n", 1: "t"}},
}
"""Inputs of every kind of reader, with the axes that vary from call to call."""
