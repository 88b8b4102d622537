"""Javanese acted emotion: video clips and sound of ten actors; six emotions, sentences that hold none of them."""

from __future__ import annotations

from pathlib import Path

from affuse.data.corpora.base import Corpus, Dataset
from affuse.data.corpora.labelled import read_labelled

__all__ = ["SPEECH", "VIDEO", "read_javanese_av", "read_javanese_speech"]


def read_javanese_av(data: Path, split: str) -> Dataset:
    """Read the video clips ``ACTOR-SENTENCE-EMOTION_01.mp4`` of one split; see `affuse.data.corpora.labelled`."""
    return read_labelled(data, "javanese_av", split, modality="video", language="jv")


def read_javanese_speech(data: Path, split: str) -> Dataset:
    """Read the sound of the same actors' other repetitions; see `affuse.data.corpora.labelled`."""
    return read_labelled(data, "javanese_speech", split, modality="voice", language="jv")


VIDEO = Corpus("javanese_av", read_javanese_av, "video")
SPEECH = Corpus("javanese_speech", read_javanese_speech, "voice")
