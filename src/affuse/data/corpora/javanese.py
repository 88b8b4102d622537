"""Javanese acted emotion: video clips and sound of ten actors; six emotions, sentences that hold none of them.

Two of the six open actors, the last woman and the last man, are ``dev``; the shipped voice learned from the others.
"""

from __future__ import annotations

from pathlib import Path

from affuse.data.corpora.base import Corpus, Dataset
from affuse.data.corpora.labelled import read_labelled

__all__ = ["DEV_ACTORS", "SPEECH", "VIDEO", "read_javanese_av", "read_javanese_speech"]

DEV_ACTORS = frozenset({"05", "09"})
"""Actors whose clips only report; training never hears or sees them."""


def read_javanese_av(data: Path, split: str) -> Dataset:
    """Read the video clips ``ACTOR-SENTENCE-EMOTION_01.mp4`` of one split; see `affuse.data.corpora.labelled`."""
    return read_labelled(data, "javanese_av", split, modality="video", language="jv", dev_speakers=DEV_ACTORS)


def read_javanese_speech(data: Path, split: str) -> Dataset:
    """Read the sound of the same actors' other repetitions; see `affuse.data.corpora.labelled`."""
    return read_labelled(data, "javanese_speech", split, modality="voice", language="jv", dev_speakers=DEV_ACTORS)


VIDEO = Corpus("javanese_av", read_javanese_av, "video", "MIT")
SPEECH = Corpus("javanese_speech", read_javanese_speech, "voice", "MIT")
