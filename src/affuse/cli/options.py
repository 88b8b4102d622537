"""Options that several commands take, said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsrModel", "Bundle", "Transcribe"]

Bundle = Annotated[
    Path | None, typer.Option(help="Use the experts and the fuser of this folder, which affuse export wrote.")
]
Transcribe = Annotated[
    bool, typer.Option("--transcribe", help="Recognise the words of recordings without a transcript (extra asr).")
]
AsrModel = Annotated[
    Path | None, typer.Option(help="Whisper model for --transcribe: a folder (default: AFFUSE_WHISPER or the hub).")
]
