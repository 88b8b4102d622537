"""``affuse people``: who is in a recording, of those who agreed to be recognised?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli.command import AffuseCommand, epilog
from affuse.cli.options import Json, with_limits

if TYPE_CHECKING:
    from affuse.people.gallery import Gallery

__all__ = ["app"]

app = typer.Typer(
    help="Enrol people who agreed to it, find them in recordings, and forget them (biometric data).",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option("--gallery", help="Folder of the people who are enrolled.")]
KeyFile = Annotated[
    Path | None,
    typer.Option("--key-file", help="Text file with the key by which the gallery is encrypted (extra people)."),
]


@app.command(cls=AffuseCommand, epilog=epilog("people enrol"))
@with_limits
def enrol(
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    recordings: Annotated[list[Path], typer.Argument(help="Recordings or pictures that show nobody else.")],
    gallery: Folder = Path("gallery"),
    key_file: KeyFile = None,
) -> None:
    """Add a person to the gallery: embeddings of face and voice, never pictures or sound."""
    from affuse.media import Recording
    from affuse.people.recognition import enrol_recordings

    own = _gallery(gallery, key_file)
    added = enrol_recordings(own, name, [Recording.open(path) for path in recordings])
    typer.echo(f"{name}: {len(added.faces)} faces and {len(added.voices)} stretches of speech added to {gallery}")
    if not len(added.voices):
        typer.echo(_no_voice(), err=True)


@app.command("list", cls=AffuseCommand, epilog=epilog("people list"))
def list_people(gallery: Folder = Path("gallery"), key_file: KeyFile = None, as_json: Json = False) -> None:
    """List who is in the gallery."""
    people = _gallery(gallery, key_file).people()
    rows = [
        {"name": name, "faces": len(people[name].faces), "voices": len(people[name].voices)} for name in sorted(people)
    ]
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['name']}: {row['faces']} faces, {row['voices']} stretches of speech")
    if not rows:
        typer.echo(f"nobody is enrolled in {gallery}")


@app.command(cls=AffuseCommand, epilog=epilog("people find"))
@with_limits
def find(
    recording: Annotated[Path, typer.Argument(help="Recording or picture.")],
    gallery: Folder = Path("gallery"),
    key_file: KeyFile = None,
    false_accept_rate: Annotated[
        float, typer.Option(help="How often, at most, a stranger is taken for somebody of the gallery.")
    ] = 0.01,
    as_json: Json = False,
) -> None:
    """Say who each person in a recording is: a name of the gallery or "unknown", with its probability."""
    from affuse.media import Recording
    from affuse.people.identity import UNKNOWN
    from affuse.people.recognition import find_people

    found = find_people(_gallery(gallery, key_file), Recording.open(recording), false_accept_rate)
    if as_json:
        rows = [
            {
                "person": f"person {i}",
                "name": own.match.name,
                "probability": round(own.match.probability, 4),
                "start": round(own.span.start, 3),
                "end": round(own.span.end, 3),
                "evidence": list(own.evidence),
            }
            for i, own in enumerate(found, 1)
        ]
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for i, own in enumerate(found, 1):
        what = "by " + " and ".join(own.evidence)
        if own.match.name == UNKNOWN and own.match.probability < 0.5:
            what += "; somebody enrolled is likelier, but not surely enough"
        seen = f"{own.span.start:.1f} to {own.span.end:.1f} s"
        typer.echo(f"person {i}, {seen}: {own.match.name} ({own.match.probability:.0%}, {what})")
    if not found:
        typer.echo(f"nobody is seen or heard in {recording}")


@app.command(cls=AffuseCommand, epilog=epilog("people setup"))
def setup(
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write to, which AFFUSE_MODELS may name (default: the cache)."),
    ] = None,
) -> None:
    """Make the speaker encoder, which tells voices apart, from the installed package Resemblyzer."""
    from affuse import weights
    from affuse.people.speaker_weights import make_encoder

    path = weights.find("speaker") if out is None else None
    if path is not None:
        typer.echo(f"the speaker encoder is here already: {path}")
        return
    path = make_encoder(out)
    typer.echo(f"{path}: made and checked ({weights.DOWNLOADS['speaker'][0].licence})")
    if out is not None:
        typer.echo(f"affuse finds it where AFFUSE_MODELS names its folder: export AFFUSE_MODELS={out.resolve()}")


@app.command(cls=AffuseCommand, epilog=epilog("people forget"))
def forget(
    name: Annotated[str, typer.Argument(help="Name of the person.")],
    gallery: Folder = Path("gallery"),
    key_file: KeyFile = None,
) -> None:
    """Remove a person from the gallery, with every trace in it."""
    _gallery(gallery, key_file).forget(name)
    typer.echo(f"{name}: forgotten in {gallery}; copies elsewhere, such as backups, are yours to delete")


def _no_voice() -> str:
    from affuse import weights

    if weights.find("speaker") is None:
        made_by = weights.DOWNLOADS["speaker"][0].made_by
        return f"affuse: no voice was enrolled: the speaker encoder is not here; make it with: {made_by}"
    return "affuse: no voice was enrolled: nobody speaks"


def _gallery(folder: Path, key_file: Path | None) -> Gallery:
    from affuse.encryption import read_key_file
    from affuse.people.gallery import Gallery

    return Gallery(folder, None if key_file is None else read_key_file(key_file))
