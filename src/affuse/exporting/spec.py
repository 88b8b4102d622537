"""What is exported to where, and what is found out about it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["SHIPPED", "TARGETS", "ExportSpec", "Facts", "Network"]

SHIPPED = "shipped"
TARGETS = ("onnx", "onnx-int8", "tensorrt")


@dataclass(frozen=True)
class ExportSpec:
    """The arguments of `export`; ``clip`` is a drawn one by the time it is used."""

    target: str
    out: Path
    data: Path | None = None
    rows: int | None = None
    clip: Path | None = None
    transcript: Path | None = None
    times: int = 5


@dataclass
class Facts:
    """What parity.json will hold."""

    target: str
    source: str
    weights: str | None = None
    networks: dict[str, Any] = field(default_factory=dict)
    fixed_inputs: dict[str, Any] = field(default_factory=dict)
    held_out: list[dict[str, Any]] = field(default_factory=list)
    analysis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Network:
    """One network on its way: where it comes from and goes to, and the expert that asks it."""

    name: str
    modality: str
    source: Path
    target: Path
