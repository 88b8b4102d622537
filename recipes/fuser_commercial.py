"""Recipe of the fuser of the commercial set, from answers of its experts that `recipes.fuser` learns from.

``python -m recipes.fuser_commercial --face runs/face_commercial/held_out.npz --voice
runs/voice_commercial/held_out.npz --text runs/text_commercial/held_out.npz --out runs/fuser_commercial`` writes the
folder ``fuser_commercial`` there, in seconds.

Faces and voices are of Javanese actors, judged by models that never saw or heard them; words are comments and posts
that no model saw. How far collections differ is the research set's (`recipes.fuser.DOMAIN`), which was chosen with
figures of research data in sight: three numbers. Everything else is learned from the rows given.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affuse.labels import FERPLUS, merge_emotions
from recipes.command import errors_as_sentences
from recipes.fuser import LabelledOutputs, columns_of_emotions, learn, voice_rows

__all__ = ["face_rows", "main", "text_rows"]

NAME = "fuser_commercial"


def face_rows(path: Path) -> LabelledOutputs:
    """What ``python -m recipes.face_commercial`` wrote about actors that its models never saw."""
    with np.load(path, allow_pickle=False) as arrays:
        P = merge_emotions(arrays["probabilities"], FERPLUS)
        return LabelledOutputs(P, columns_of_emotions(FERPLUS)[arrays["targets"]], arrays["groups"])


def text_rows(path: Path) -> LabelledOutputs:
    """What ``python -m recipes.text_commercial`` wrote about texts that no model saw, each a person of its own."""
    with np.load(path, allow_pickle=False) as arrays:
        y = arrays["targets"]
        return LabelledOutputs(arrays["probabilities"], y, np.array([f"text/{i}" for i in range(len(y))]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit the fuser and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--face", type=Path, required=True, help="held_out.npz of a run of recipes.face_commercial")
    parser.add_argument("--voice", type=Path, required=True, help="held_out.npz of a run of recipes.voice_commercial")
    parser.add_argument("--text", type=Path, required=True, help="held_out.npz of a run of recipes.text_commercial")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        rows = {
            "face": face_rows(options.face),
            "voice": voice_rows(options.voice),
            "text": text_rows(options.text),
        }
        learn(rows).write(options.out / NAME)
    print({name: {"rows": len(own.y), "persons": len(np.unique(own.persons))} for name, own in rows.items()})


if __name__ == "__main__":
    main()
