"""``affuse analyze``: recordings, folders or a text in; a table, files and reports out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.cli.options import (
    Adapt,
    AsrModel,
    Context,
    Experts,
    FeatureTable,
    Fuser,
    Hop,
    Json,
    Language,
    Package,
    PriorOption,
    Transcribe,
    Window,
    analyzer_of,
)
from affuse.errors import AffuseError, ConfigError, MediaError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer, Observation
    from affuse.results import Analysis

__all__ = ["analyze"]

# Looked for beside the recordings of a folder. Not JSON: that may be our own results of an earlier run.
_TRANSCRIPTS = (".srt", ".vtt", ".txt")
# Files of a folder that are plainly no recordings; anything else is tried.
_PASSED_OVER = frozenset(
    {*_TRANSCRIPTS, ".json", ".csv", ".tsv", ".parquet", ".html", ".md", ".pdf", ".toml", ".yaml", ".yml", ".py", ".sh"}
)


@dataclass(frozen=True)
class Job:
    """One recording, the transcript that belongs to it, and the stem of its results."""

    path: Path
    transcript: Path | None
    stem: str


def analyze(
    inputs: Annotated[list[Path] | None, typer.Argument(help="Recordings, pictures or folders of them.")] = None,
    text: Annotated[str | None, typer.Option(help="Analyse this text instead of a recording.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Words of the recording: SRT, WebVTT, plain text or JSON with times.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for STEM.json, STEM.csv, STEM.parquet and STEM.html.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report of a single recording here.")] = None,
    window: Window = None,
    hop: Hop = None,
    experts: Experts = None,
    feature_table: FeatureTable = None,
    package: Package = None,
    fuser: Fuser = None,
    prior: PriorOption = None,
    context: Context = None,
    label_map: Annotated[
        Path | None,
        typer.Option(help='TOML that says what own labels of experts mean, with lines such as engaged = "happiness".'),
    ] = None,
    adapt: Adapt = "none",
    language: Language = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    turns: Annotated[
        Path | None, typer.Option(help="Who speaks when, where that is known: RTTM, as diarisation tools write it.")
    ] = None,
    shared_voice: Annotated[
        bool, typer.Option("--shared-voice", help="Count the voice and the words for everybody, whoever speaks.")
    ] = False,
    lang: Annotated[str, typer.Option(help="Language of what is printed and of the report: en or zh.")] = "en",
    as_json: Json = False,
) -> None:
    """Analyse recordings: what do people feel in them, over time?"""
    from affuse.report.messages import messages

    messages(lang)  # refused now, and not after an hour of work
    if bool(inputs) == (text is not None):
        raise ConfigError("give either recordings or --text; for example: affuse analyze clip.mp4")
    jobs, skipped = ([], 0) if text is not None else find_jobs(inputs or [], transcript)
    _check_single(jobs, report, turns)
    from affuse.analyzer.adaptation import check_adaptation

    check_adaptation(adapt)
    analyzer = analyzer_of(
        package=package, experts=experts, window=window, hop=hop, language=language, transcribe=transcribe,
        asr_model=asr_model, feature_table=feature_table, fuser=fuser, prior=prior, context=context,
        label_map=label_map,
    )  # fmt: skip
    analyzer.shared_voice = shared_voice
    if text is not None:
        _deliver(analyzer.analyze_text(text), "text", out, report, as_json, lang)
        return
    deliver = partial(_deliver, out=out, report=report, as_json=as_json, lang=lang)
    failures = _run(analyzer, jobs, adapt, deliver, turns)
    if skipped:
        typer.echo(f"{skipped} files that are no recordings were passed over", err=True)
    if failures:
        _report_failures(failures, len(jobs))


def _check_single(jobs: Sequence[Job], report: Path | None, turns: Path | None) -> None:
    """Raise ConfigError where an option about one recording is given for another number of them."""
    if report is not None and len(jobs) > 1:
        raise ConfigError(f"--report takes a single recording; got {len(jobs)}. Use --out for a report of each")
    if turns is not None and len(jobs) != 1:
        raise ConfigError(f"--turns takes a single recording; got {len(jobs) or 'a text'}")


def find_jobs(inputs: Sequence[Path], transcript: Path | None) -> tuple[list[Job], int]:
    """Recordings among ``inputs`` and in their folders, and how many other files the folders hold.

    In a folder, a transcript with the stem of a recording is taken for its own. Raises MediaError where nothing is
    found.
    """
    pairs: list[tuple[Path, Path | None]] = []
    skipped = 0
    for path in inputs:
        if not path.is_dir():
            pairs.append((path, transcript))
            continue
        files = sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        recordings = [p for p in files if p.suffix.lower() not in _PASSED_OVER]
        own = {p: _transcript_of(p) for p in recordings}
        skipped += len(files) - len(recordings) - len({t for t in own.values() if t})
        if not recordings:
            raise MediaError(f"{path} holds no recordings; give a folder with video, sound or picture files")
        pairs += own.items()
    if transcript is not None and len(pairs) > 1:
        raise ConfigError(
            f"--transcript takes a single recording; got {len(pairs)}. "
            "In a folder, name each transcript like its recording"
        )
    stems = Counter(path.stem for path, _ in pairs)
    return [Job(p, t, p.stem if stems[p.stem] == 1 else p.name) for p, t in pairs], skipped


def _transcript_of(recording: Path) -> Path | None:
    candidates = (recording.with_suffix(suffix) for suffix in _TRANSCRIPTS)
    return next((path for path in candidates if path.is_file()), None)


def _run(
    analyzer: Analyzer,
    jobs: Sequence[Job],
    adapt: str,
    deliver: Callable[[Analysis, str], None],
    turns: Path | None = None,
) -> list[AffuseError]:
    from affuse.analyzer.adaptation import adapted_analyzers
    from affuse.media import Recording

    failures: list[AffuseError] = []
    waiting: list[tuple[Job, Observation]] = []
    for number, job in enumerate(jobs, start=1):
        title = job.path.name if len(jobs) == 1 else f"{job.path.name} ({number} of {len(jobs)})"
        try:
            with progress_bar(title) as progress:
                found = analyzer.observe(Recording.open(job.path, transcript=job.transcript), progress, turns)
            if adapt == "collection":  # nobody can be answered before everybody is heard
                waiting.append((job, found))
                continue
            (own,) = adapted_analyzers(analyzer, [found], [""], adapt)
            deliver(own.answer(found), job.stem)
        except AffuseError as error:
            if len(jobs) == 1:
                raise
            failures.append(error)
    found_all = [found for _, found in waiting]
    analyzers = adapted_analyzers(analyzer, found_all, [""] * len(waiting), adapt) if waiting else []
    for (job, found), own in zip(waiting, analyzers, strict=True):
        try:
            deliver(own.answer(found), job.stem)
        except AffuseError as error:
            failures.append(error)
    return failures


def _deliver(analysis: Analysis, stem: str, out: Path | None, report: Path | None, as_json: bool, lang: str) -> None:
    if out is not None:
        from affuse.report.files import write_results

        write_results(analysis, out, stem, lang)
    if report is not None:
        from affuse.report.page import write_report

        write_report(analysis, report, lang)
    if as_json:
        typer.echo(analysis.to_json())
        return
    from rich.console import Console

    from affuse.report.terminal import print_analysis

    console = Console()
    print_analysis(analysis, console, lang)
    if out is not None:
        console.print(f"written: {out / stem}.json, .csv, .parquet, .html", highlight=False, soft_wrap=True)
    if report is not None:
        console.print(f"written: {report}", highlight=False, soft_wrap=True)


def _report_failures(failures: Sequence[AffuseError], total: int) -> None:
    typer.echo(f"affuse: {len(failures)} of {total} files could not be analysed:", err=True)
    for error in failures:
        typer.echo(f"  {error}", err=True)
    raise typer.Exit(2)
