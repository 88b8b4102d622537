"""What a recipe leaves beside its weights: a card of measured facts, and answers on rows that it did not learn from."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from affuse.files import replacing, write_json
from affuse.weights import sha256_of

__all__ = ["write_card", "write_held_out"]


def write_card(path: Path, weights: Path, facts: Mapping[str, Any]) -> None:
    """Write the measured facts of a run beside its weights, with size, checksum and versions."""
    card = {
        **facts,
        "bytes": weights.stat().st_size,
        "sha256": sha256_of(weights),
        "versions": {"python": platform.python_version(), "torch": version("torch"), "onnx": version("onnx")},
    }
    write_json(path, card)


def write_held_out(path: Path, **arrays: np.ndarray) -> None:
    """Write calibrated answers on rows that were not learned from (NPZ), from which a fuser can be learned."""
    with replacing(path) as (part,), part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
