"""RAVDESS: acted English speech of 24 actors (Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, find_folder, holds
from affuse.labels import RAVDESS

__all__ = ["CORPUS", "DEV_ACTORS", "TEST_ACTORS", "read_ravdess"]

TEST_ACTORS = frozenset({"01", "04", "09", "22"})
# The actors of the first fold of the published subject-wise protocol (Luna-Jimenez et al. 2021).
DEV_ACTORS = frozenset({"02", "05", "14", "15", "16"})


def split_of(actor: str) -> str:
    """Name of the split that an actor, "01" to "24", belongs to."""
    return "test" if actor in TEST_ACTORS else "dev" if actor in DEV_ACTORS else "train"


def read_ravdess(data: Path, split: str) -> Dataset:
    """Read the speech clips ``Actor_NN/03-01-EE-II-SS-RR-AA.*`` of one split."""
    folder = find_folder(data, "ravdess", "Actor_*")
    paths = sorted(
        p
        for p in folder.glob("Actor_*/03-01-*")
        if p.suffix in {".flac", ".wav"} and split_of(p.stem.split("-")[6]) == split
    )
    fields = [p.stem.split("-") for p in paths]
    return Dataset(
        name="ravdess",
        modality="voice",
        labels=RAVDESS,
        inputs=paths,
        targets=np.array([int(f[2]) - 1 for f in fields], dtype=int),  # EE counts from 01 in the order of RAVDESS
        groups=np.array([f[6] for f in fields]),
        language="en",
        columns={
            "sex": ["male" if int(f[6]) % 2 else "female" for f in fields],
            "intensity": ["strong" if f[3] == "02" else "normal" for f in fields],
            "sentence": [f[4] for f in fields],
        },
    )


CORPUS = Corpus(
    "ravdess",
    read_ravdess,
    "voice",
    "CC BY-NC-SA 4.0 (non-commercial)",
    lies_in=holds("Actor_*/03-01-*-*-*-*-*.*"),
)
