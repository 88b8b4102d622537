"""EMO-DB: acted German speech of 10 speakers (Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from affuse.data.corpora.base import Corpus, Dataset, find_folder
from affuse.labels import EMODB

__all__ = ["CORPUS", "DEV_SPEAKERS", "TEST_SPEAKERS", "read_emodb"]

TEST_SPEAKERS = frozenset({"03", "16"})
DEV_SPEAKERS = frozenset({"10", "14"})  # a man and a woman, as in the test part

_MEN = frozenset({"03", "10", "11", "12", "15"})

_LETTERS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}


_CLIP = re.compile(r"\d\d[abc]\d\d[WLEAFTN][a-z]\.(wav|flac)")


def split_of(speaker: str) -> str:
    """Name of the split that a speaker, "03" to "16", belongs to."""
    return "test" if speaker in TEST_SPEAKERS else "dev" if speaker in DEV_SPEAKERS else "train"


def read_emodb(data: Path, split: str) -> Dataset:
    """Read the clips ``SSTTTEV.*`` (speaker, text, emotion letter, version) of one split."""
    folder = find_folder(data, "emodb", "*.flac", "*.wav")
    paths = sorted(
        p
        for p in folder.iterdir()
        if p.suffix in {".flac", ".wav"} and len(p.stem) == 7 and split_of(p.stem[:2]) == split
    )
    return Dataset(
        name="emodb",
        modality="voice",
        labels=EMODB,
        inputs=paths,
        targets=np.array([EMODB.index(_LETTERS[p.stem[5]]) for p in paths], dtype=int),
        groups=np.array([p.stem[:2] for p in paths]),
        language="de",
        columns={"sex": ["male" if p.stem[:2] in _MEN else "female" for p in paths]},
    )


def _has_clips(folder: Path) -> bool:
    return any(_CLIP.fullmatch(path.name) for path in folder.iterdir())


CORPUS = Corpus("emodb", read_emodb, "voice", "free for research with citation", lies_in=_has_clips)
