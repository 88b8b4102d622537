"""``affuse analyze``: recordings, folders or a text in; a table, files and reports out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from affuse.batch.folders import Found, each_once, find_in_folder, result_names
from affuse.cli.options import (
    Adapt,
    AsrModel,
    Context,
    Exemption,
    ExpertLabelMap,
    Experts,
    FeatureTable,
    Formats,
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
    analyzer_of,
    names_of,
    with_limits,
)
from affuse.cli.privacy import Private, Redact, check_hiding, content_names, hidden, told
from affuse.errors import AffuseError, ConfigError
from affuse.progress import progress_bar

if TYPE_CHECKING:
    from affuse.analyzer import Analyzer, Observation
    from affuse.batch.overview import FolderOverview
    from affuse.media import Budget
    from affuse.results import Analysis

__all__ = ["analyze"]

_Inputs = Annotated[
    list[Path] | None,
    typer.Argument(help="Recordings, pictures or folders of them, read with all folders in them."),
]
_Transcript = Annotated[
    Path | None, typer.Option(help="Words of the recording: SRT, WebVTT, plain text or JSON with times.")
]
_Out = Annotated[
    Path | None,
    typer.Option(help="Folder for STEM.json, STEM.csv, STEM.parquet and STEM.html; folders in a folder are kept."),
]
_Turns = Annotated[
    Path | None, typer.Option(help="Who speaks when, where that is known: RTTM, as diarisation tools write it.")
]

_TEXT = Path("text")  # what the results of --text are called


@dataclass(frozen=True)
class Job:
    """One recording, the transcript that belongs to it, and the path of its results below --out, without suffix."""

    path: Path
    transcript: Path | None
    stem: Path


@with_limits
def analyze(
    inputs: _Inputs = None,
    text: Annotated[str | None, typer.Option(help="Analyse this text instead of a recording.")] = None,
    transcript: _Transcript = None,
    out: _Out = None,
    formats: Formats = None,
    report: Annotated[Path | None, typer.Option(help="Write the HTML report of a single recording here.")] = None,
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
    adapt: Adapt = "none",
    language: Language = None,
    transcribe: Transcribe = False,
    asr_model: AsrModel = None,
    turns: _Turns = None,
    speakers: NumberOfSpeakers = None,
    shared_voice: SharedVoice = False,
    purpose: PurposeOption = None,
    exemption: Exemption = None,
    redact: Redact = False,
    private: Private = False,
    lang: Annotated[str, typer.Option(help="Language of what is printed and of the report: en or zh.")] = "en",
    as_json: Json = False,
    *,
    budget: Budget,  # from the options of LIMITS
) -> None:
    """Analyse recordings: what do people feel in them, over time?

    Results also say where heads are directed: the head, not the eyes, and roughly.
    """
    _check_asked(inputs, text, lang)
    jobs, skipped = ([], 0) if text is not None else find_jobs(inputs or [], transcript, out)
    _check_single(jobs, report, turns, speakers)
    jobs = _named_by_content(jobs) if private else jobs
    chosen = _check_formats(formats, out, [job.stem for job in jobs] or [_TEXT])
    check_hiding(redact, private, chosen)
    _check_adaptation(adapt)
    analyzer = analyzer_of(
        package=package, experts=experts, window=window, hop=hop, language=language, transcribe=transcribe,
        asr_model=asr_model, feature_table=feature_table, fuser=fuser, prior=prior, context=context,
        label_map=label_map, purpose=purpose, exemption=exemption, weights=weights,
    )  # fmt: skip
    analyzer.shared_voice = shared_voice
    deliver = partial(_deliver, out=out, report=report, as_json=as_json, lang=lang, formats=chosen)
    overview = _overview(inputs or [], out)
    whole = deliver if overview is None else partial(_list, overview, deliver, not (redact or private))
    listed = hidden(whole, redact, private, out, report, chosen, budget)
    if text is not None:
        listed(analyzer.analyze_text(text), _TEXT)
        return
    failures = _run(analyzer, jobs, adapt, listed, budget, turns, speakers)
    if overview is not None:
        for note in overview.finish(_names_of_jobs(jobs, private), told(failures, redact, private), lang):
            typer.echo(f"affuse: {note}", err=True)
    _tell(skipped, failures, len(jobs))


def _tell(skipped: int, failures: Sequence[AffuseError], n_jobs: int) -> None:
    """Say how many files were passed over, and what failed."""
    if skipped:
        typer.echo(f"{skipped} files that are no recordings were passed over", err=True)
    if failures:
        _report_failures(failures, n_jobs)


def _check_asked(inputs: Sequence[Path] | None, text: str | None, lang: str) -> None:
    """Raise ConfigError for an unknown language, and unless either recordings or a text are given."""
    from affuse.report.messages import messages

    messages(lang)  # refused now, and not after an hour of work
    if bool(inputs) == (text is not None):
        raise ConfigError("give either recordings or --text; for example: affuse analyze clip.mp4")


def _check_adaptation(adapt: str) -> None:
    from affuse.analyzer.adaptation import check_adaptation  # brings NumPy, which --help does without

    check_adaptation(adapt)


def _check_single(jobs: Sequence[Job], report: Path | None, turns: Path | None, speakers: int | None) -> None:
    """Raise ConfigError where an option about one recording is given for another number of them."""
    if turns is not None and speakers is not None:
        raise ConfigError("give either --turns or --speakers: turns say how many people speak")
    if report is not None:
        from affuse.report.page import check_suffix

        check_suffix(report)
    if report is not None and len(jobs) > 1:
        raise ConfigError(f"--report takes a single recording; got {len(jobs)}. Use --out for a report of each")
    if turns is not None and len(jobs) != 1:
        raise ConfigError(f"--turns takes a single recording; got {len(jobs) or 'a text'}")


def _check_formats(given: str | None, out: Path | None, stems: Sequence[Path]) -> Sequence[str]:
    """Names of the formats to write. What cannot be written is refused now, and not after an hour of work."""
    from affuse.report.files import check_results
    from affuse.report.formats import DEFAULT_FORMATS

    if given is None:
        return DEFAULT_FORMATS
    if out is None:
        raise ConfigError("--format is about the files in a folder; say which one by --out")
    names = names_of(given) or []
    for stem in stems:
        check_results((out / stem).parent, stem.name, names)
    return names


def find_jobs(inputs: Sequence[Path], transcript: Path | None, out: Path | None = None) -> tuple[list[Job], int]:
    """Recordings among ``inputs`` and in their folders, and how many other files the folders hold.

    In a folder, a transcript with the stem of a recording is taken for its own. Raises MediaError where nothing is
    found.
    """
    found: list[Found] = []
    skipped = 0
    for path in inputs:
        if not path.is_dir():
            found.append(Found(path, path, transcript))
            continue
        inside, others = find_in_folder(path, without=out)
        found += inside
        skipped += others
    found = each_once(found)
    if transcript is not None and len(found) > 1:
        raise ConfigError(
            f"--transcript takes a single recording; got {len(found)}. "
            "In a folder, name each transcript like its recording"
        )
    return [Job(f.path, f.transcript, name) for f, name in zip(found, result_names(found), strict=True)], skipped


def _overview(inputs: Sequence[Path], out: Path | None) -> FolderOverview | None:
    """What collects the rows of the tables and the page; None where no folder is analysed, or nothing written."""
    if out is None or not any(path.is_dir() for path in inputs):
        return None
    from affuse.batch.overview import FolderOverview  # brings NumPy, which --help does without

    return FolderOverview(out)


def _named_by_content(jobs: Sequence[Job]) -> list[Job]:
    """The jobs with results that are named by the content of the recording: nothing written may tell names of files."""
    hashes = content_names([(job.path, job.transcript) for job in jobs])
    return [replace(job, stem=name) for job, name in zip(jobs, hashes, strict=True)]


def _names_of_jobs(jobs: Sequence[Job], private: bool) -> dict[str, Path]:
    """Recordings by the names that their folder's overview has for them."""
    return {_name(job.stem, job.stem.name if private else job.path.name): job.path for job in jobs}


def _list(
    overview: FolderOverview,
    deliver: Callable[[Analysis, Path], None],
    pictures: bool,
    analysis: Analysis,
    stem: Path,
) -> None:
    """Deliver an analysis and take it into the overview, with pictures where its report shows the recording as well."""
    deliver(analysis, stem)
    link = f"{stem.as_posix()}.html" if (overview.folder / f"{stem}.html").is_file() else None
    overview.add(analysis, _name(stem, analysis.source.name), link, pictures and link is not None)


def _name(stem: Path, file: str) -> str:
    """A recording as its folder's overview calls it."""
    return (stem.parent / file).as_posix()


def _run(
    analyzer: Analyzer,
    jobs: Sequence[Job],
    adapt: str,
    deliver: Callable[[Analysis, Path], None],
    budget: Budget,
    turns: Path | None = None,
    speakers: int | None = None,
) -> list[AffuseError]:
    from affuse.analyzer.adaptation import adapted_analyzers
    from affuse.media import Recording

    failures: list[AffuseError] = []
    waiting: list[tuple[Job, Observation]] = []
    for number, job in enumerate(jobs, start=1):
        title = job.path.name if len(jobs) == 1 else f"{job.path.name} ({number} of {len(jobs)})"
        try:
            with progress_bar(title) as progress:
                recording = Recording.open(job.path, job.transcript, budget=budget)
                found = analyzer.observe(recording, progress, turns, speakers)
            if adapt == "collection":  # nobody can be answered before everybody is heard
                waiting.append((job, found))
                continue
            (own,) = adapted_analyzers(analyzer, [found], [""], adapt)
            analysis = own.answer(found)
            del found  # of long recordings it is larger than the answer
            deliver(analysis, job.stem)
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


def _deliver(
    analysis: Analysis,
    stem: Path,
    out: Path | None,
    report: Path | None,
    as_json: bool,
    lang: str,
    formats: Sequence[str],
) -> None:
    if out is not None:
        from affuse.report.files import write_results

        written = write_results(analysis, (out / stem).parent, stem.name, lang, formats)
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
        first, *more = (str(path).removeprefix(str(out / stem)) for path in written)
        shown = ", ".join([f"{out / stem}{first}", *more])
        console.print(f"written: {shown}", highlight=False, soft_wrap=True, markup=False)
    if report is not None:
        console.print(f"written: {report}", highlight=False, soft_wrap=True)


def _report_failures(failures: Sequence[AffuseError], total: int) -> None:
    typer.echo(f"affuse: {len(failures)} of {total} files could not be analysed:", err=True)
    for error in failures:
        typer.echo(f"  {error}", err=True)
    raise typer.Exit(2)
