"""Options that several commands take, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Adapt", "AsrModel", "Bundle", "Context", "Fuser", "PriorOption", "Transcribe"]

Bundle = Annotated[
    Path | None, typer.Option(help="Use the experts and the fuser of this folder, which affuse export wrote.")
]
Fuser = Annotated[
    Path | None, typer.Option(help="Folder of a fitted fuser, from affuse fuse --save (default: the shipped one).")
]
PriorOption = Annotated[
    str | None,
    typer.Option(
        "--prior", help="What is expected beforehand: dialogue, uniform, tempered or a file (default: the fuser's)."
    ),
]
Context = Annotated[str | None, typer.Option(help="Context of the recordings, where the prior knows some.")]
Adapt = Annotated[
    str,
    typer.Option(
        "--adapt",
        help="Take out, without labels, what shifts the answers: none, person (each recording's, or the column person "
        "of a manifest) or collection (what all recordings share, then each person's; they must show mixed emotions).",
    ),
]
Transcribe = Annotated[
    bool, typer.Option("--transcribe", help="Recognise the words of recordings without a transcript (extra asr).")
]
AsrModel = Annotated[
    Path | None, typer.Option(help="Whisper model for --transcribe: a folder (default: AFFUSE_WHISPER or the hub).")
]
