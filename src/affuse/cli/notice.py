"""``affuse notice``: what the people in recordings are to be told, in their language."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from affuse.cli import completion
from affuse.cli.options import Exemption, PurposeOption, names_of
from affuse.errors import OutputError

__all__ = ["notice"]


def notice(
    language: Annotated[
        str, typer.Option(help="Language: en, zh, de, fr or es.", autocompletion=completion.notice_languages)
    ] = "en",
    purpose: PurposeOption = None,
    exemption: Exemption = None,
    experts: Annotated[
        str | None,
        typer.Option(
            help="What is read of the people: face, voice, text (default: all three).",
            autocompletion=completion.modalities,
        ),
    ] = None,
    controller: Annotated[str | None, typer.Option(help="Who is responsible.")] = None,
    contact: Annotated[str | None, typer.Option(help="How those who are responsible can be reached.")] = None,
    retention: Annotated[int | None, typer.Option(help="Days after which everything is deleted.", min=1)] = None,
    out: Annotated[Path | None, typer.Option(help="File to write, Markdown (default: print it).")] = None,
) -> None:
    """Write the notice for people whose emotions are to be inferred; what you do not give stays a blank."""
    from affuse.files import write_text
    from affuse.report.notice import BLANK, write_notice

    if out is not None and out.exists():
        raise OutputError(f"{out} exists, and may have been filled in; choose another name")
    text = write_notice(
        language, purpose=purpose, exemption=exemption, modalities=names_of(experts), controller=controller,
        contact=contact, retention=retention,
    )  # fmt: skip
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_text(out, text)
        typer.echo(f"written: {out}")
    typer.echo(f"affuse: {text.count(BLANK)} blanks ({BLANK}) are left for you to fill in", err=True)
