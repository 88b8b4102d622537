"""``affuse batch``: thousands of recordings into one data set, by a run that may be killed at any time."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli.options import (
    AsrModel,
    Context,
    Exemption,
    ExpertLabelMap,
    Experts,
    FeatureTable,
    Fuser,
    Hop,
    Json,
    Language,
    NumberOfSpeakers,
    Package,
    PriorOption,
    PurposeOption,
    SharedVoice,
    Transcribe,
    WeightSet,
    Window,
    check_lengths,
    parse_experts,
    with_limits,
)
from affuse.cli.privacy import Private, Redact, check_hiding

if TYPE_CHECKING:
    from affuse.batch import BatchResult
    from affuse.budget import Budget

__all__ = ["batch"]

_INTERRUPTED = 130  # exit code of a command that Ctrl+C ended

_Inputs = Annotated[
    list[str],
    typer.Argument(
        help="A manifest (CSV, TSV, Parquet or Excel with a column path), a folder, a pattern in quotes, or files."
    ),
]
_Out = Annotated[str, typer.Option(help="Folder or address (s3://…) of the data set; one that is there is added to.")]
_Workers = Annotated[int, typer.Option(help="Processes that analyse; 0 is one a core.", min=0)]
_Ray = Annotated[
    str | None,
    typer.Option(help="Analyse on a Ray cluster: auto, local, or its ADDRESS (extra cluster).", metavar="ADDRESS"),
]
_Retry = Annotated[bool, typer.Option("--retry-errors", help="Try again what failed in an earlier run.")]
_TimeLimit = Annotated[float | None, typer.Option(help="Seconds after which a recording is given up (default: none).")]
_PartRecordings = Annotated[int, typer.Option(help="Write a part after so many recordings at most.", min=1)]
_PartSeconds = Annotated[float, typer.Option(help="Write a part after so many seconds at most.", min=0)]
_By = Annotated[
    list[str] | None,
    typer.Option(help="Column of the manifest, or folder: means by its values, with intervals; may be given again."),
]
_Unit = Annotated[
    str | None,
    typer.Option("--group", help="Column whose values are drawn as wholes for the intervals (default: recordings)."),
]
_Lang = Annotated[str, typer.Option(help="Language of the page: en or zh.")]
_Adapt = Annotated[
    str, typer.Option(help="Take out, without labels, what shifts the answers: none, or person (of each recording).")
]
_Consent = Annotated[
    Path | None,
    typer.Option(help="Ledger of affuse consent: recordings without valid consent for --purpose are not analysed."),
]

_NoPictures = Annotated[
    bool, typer.Option("--no-pictures", help="Keep no small pictures of the strongest moments for the page.")
]


@with_limits
def batch(
    inputs: _Inputs,
    out: _Out,
    workers: _Workers = 0,
    ray: _Ray = None,
    retry_errors: _Retry = False,
    time_limit: _TimeLimit = None,
    part_recordings: _PartRecordings = 8,
    part_seconds: _PartSeconds = 5.0,
    by: _By = None,
    unit: _Unit = None,
    lang: _Lang = "en",
    window: Window = None,
    hop: Hop = None,
    experts: Experts = None,
    feature_table: FeatureTable = None,
    package: Package = None,
    fuser: Fuser = None,
    weights: WeightSet = None,
    prior: PriorOption = None,
    context: Context = None,
    label_map: ExpertLabelMap = None,
    adapt: _Adapt = "none",
    language: Language = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    speakers: NumberOfSpeakers = None,
    shared_voice: SharedVoice = False,
    purpose: PurposeOption = None,
    exemption: Exemption = None,
    consent: _Consent = None,
    redact: Redact = False,
    private: Private = False,
    no_pictures: _NoPictures = False,
    as_json: Json = False,
    *,
    budget: Budget,  # from the options of LIMITS
) -> None:
    """Analyse many recordings into a data set; the same command goes on where a killed run was."""
    check_lengths(window, hop)
    check_hiding(redact, private)
    from affuse.batch import BatchSettings, run
    from affuse.batch.progress import shown_progress

    settings = BatchSettings(
        _text(package), parse_experts(experts), window, hop, language, _text(feature_table), _text(fuser), prior,
        context, _text(label_map), adapt, transcribe, _text(asr_model), shared_voice, speakers, _limits(budget),
        purpose, exemption, redact=redact, private=private, pictures=not no_pictures, weights=weights,
    )  # fmt: skip
    try:
        with shown_progress() as progress:
            done = run(
                inputs, out, settings, workers=workers if ray else workers or os.cpu_count() or 1, ray=ray,
                retry_errors=retry_errors, time_limit=time_limit, part_recordings=part_recordings,
                part_seconds=part_seconds, by=by or (), unit=unit, language=lang, progress=progress, consent=consent,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("affuse: interrupted; the same command goes on where it was", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    _finish(done, as_json)


def _finish(done: BatchResult, as_json: bool) -> None:
    """Print what was done; exit code 2 where every recording failed."""
    typer.echo(json.dumps(done.to_dict())) if as_json else _print(done)
    if done.failed == done.total:
        raise typer.Exit(2)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _limits(budget: Budget) -> dict[str, float] | None:
    """The limits of recordings that are not the defaults."""
    from affuse.batch.settings import LIMITS
    from affuse.budget import DEFAULT_BUDGET

    own = {name: getattr(budget, name) for name in LIMITS}
    return {name: value for name, value in own.items() if value != getattr(DEFAULT_BUDGET, name)} or None


def _print(done: BatchResult) -> None:
    typer.echo(
        f"{done.total} recordings: {done.analyzed} analysed now in {done.seconds:.1f} s, {done.earlier} known from "
        f"earlier runs, {done.failed} failed"
    )
    if done.skipped:
        typer.echo(f"{done.skipped} files that are no recordings were passed over", err=True)
    if done.failed:
        typer.echo(
            f"affuse: why recordings failed is in the column error of {done.folder / 'summary.csv'}; "
            "--retry-errors tries them again",
            err=True,
        )
    for note in done.notes:
        typer.echo(f"affuse: {note}", err=True)
    typer.echo(f"written: {done.folder / 'index.html'} and the data set around it")
