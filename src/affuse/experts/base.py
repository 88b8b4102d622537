"""What an expert is, and how one is found by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from affuse.labels import LabelSpace
from affuse.media import Recording
from affuse.timeline import Timeline

__all__ = ["NO_WORDS", "Expert", "ExpertOutput"]

NO_WORDS = "no words"
"""Why the words say nothing where there are none in a whole recording."""


@dataclass(frozen=True)
class ExpertOutput:
    """What an expert found: probabilities per window, for one person or for a whole scene.

    ``probabilities`` (n, k) over the expert's labels, NaN rows where there is no evidence; ``reasons`` has n entries,
    empty where there is evidence. ``sentiment`` (n, 3) over `labels.SENTIMENT`, NaN likewise, where the expert judges
    it itself. ``person``, ``times`` (m,) and ``boxes`` (m, 4: x, y, width, height as fractions of the picture) where a
    person was followed. ``notes``: what a reader should know about it, one sentence each.
    """

    probabilities: np.ndarray
    reasons: tuple[str, ...]
    sentiment: np.ndarray | None = None
    person: str | None = None
    times: np.ndarray = field(default_factory=lambda: np.empty(0))
    boxes: np.ndarray = field(default_factory=lambda: np.empty((0, 4)))
    notes: tuple[str, ...] = ()


@runtime_checkable
class Expert(Protocol):
    """Reads one modality of a recording.

    ``read`` returns one `ExpertOutput` a person, the person seen most first, and never an empty list: where nobody is
    seen, a single reading without evidence says why. ``predict`` is its first reading's probabilities (n, k): rows
    sum to 1 or are NaN.
    """

    name: str
    modality: str
    labels: LabelSpace

    def read(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]: ...

    def predict(self, recording: Recording, timeline: Timeline) -> np.ndarray: ...
