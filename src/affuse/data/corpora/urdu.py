"""Urdu: spontaneous speech of talk shows, four emotions (Latif et al. 2018, arXiv:1812.10411)."""

from __future__ import annotations

from pathlib import Path

from affuse.data.corpora.base import Corpus, Dataset
from affuse.data.corpora.labelled import read_labelled

__all__ = ["CORPUS", "read_urdu_speech"]


def read_urdu_speech(data: Path, split: str) -> Dataset:
    """Read the pieces of 2.5 s of one split; see `affuse.data.corpora.labelled`."""
    return read_labelled(data, "urdu_speech", split, modality="voice", language="ur")


CORPUS = Corpus("urdu_speech", read_urdu_speech, "voice", open_splits=("dev",))
