"""How good the product is on labelled recordings: the very path that ``affuse analyze`` runs, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from affuse.analyzer.adaptation import adapted_analyzers, check_adaptation
from affuse.errors import AffuseError, DataError
from affuse.labels import EKMAN

if TYPE_CHECKING:
    from affuse.analyzer.analyzer import Analyzer, Observation
    from affuse.evaluation.manifest import Clip, Manifest
    from affuse.results import Analysis, Verdict

__all__ = ["Answer", "Failure", "ProductEvaluation", "evaluate_product"]

_TOLD = 20  # failures that the JSON names


@dataclass(frozen=True)
class Answer:
    """What was answered about one clip: ``P`` (m, 7) by modality and ``fused`` (7,) over `EKMAN`; NaN says nothing."""

    clip: Clip
    P: np.ndarray
    fused: np.ndarray


@dataclass(frozen=True)
class Failure:
    """A clip that could not be analysed, and why in one sentence."""

    clip: Clip
    reason: str


@dataclass(frozen=True)
class ProductEvaluation:
    """Answers about all clips of a manifest, which failed, and the ``report`` (`product_report`).

    ``settings`` are those of the analyses: experts with checksums, fuser, window and hop.
    """

    name: str
    unit: str
    modalities: tuple[str, ...]
    answers: Sequence[Answer]
    failures: Sequence[Failure]
    report: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dicts and numbers: ``report`` with name, unit of grouping, failures and settings."""
        failed = [{"row": f.clip.where, "reason": f.reason} for f in self.failures[:_TOLD]]
        return {
            "name": self.name,
            **self.report,
            "unit": self.unit,
            "failed": {"count": len(self.failures), "first": failed},
            "settings": dict(self.settings),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict a clip, in their order within answers and failures: label, answer, confidence, each modality's."""
        for answer in self.answers:
            yield _about(answer.clip) | self._answered(answer) | {"failure": ""} | _rest(answer.clip)
        nothing = np.full((len(self.modalities), len(EKMAN)), np.nan)
        for failure in self.failures:
            silent = Answer(failure.clip, nothing, np.full(len(EKMAN), np.nan))
            yield _about(failure.clip) | self._answered(silent) | {"failure": failure.reason} | _rest(failure.clip)

    def _answered(self, answer: Answer) -> dict[str, Any]:
        told = _answer("", answer.fused) | {f"p_{n}": p for n, p in zip(EKMAN.labels, answer.fused, strict=True)}
        for modality, P in zip(self.modalities, answer.P, strict=True):
            told |= _answer(f"{modality}_", P)
        return {key: _cell(value) for key, value in told.items()}


def _about(clip: Clip) -> dict[str, Any]:
    path = "" if clip.path is None else str(clip.path)
    about = {"row": clip.where, "path": path, "text": clip.text or "", "start": clip.start, "end": clip.end}
    return {key: _cell(value) for key, value in about.items()} | {
        "label": clip.label,
        "person": clip.person,
        "group": clip.group,
    }


def _rest(clip: Clip) -> dict[str, Any]:
    taken = {"row", "path", "text", "start", "end", "label", "person", "group", "failure"}
    return {name: value for name, value in clip.columns.items() if name not in taken}


def _answer(prefix: str, P: np.ndarray) -> dict[str, Any]:
    silent = bool(np.isnan(P).any())
    return {
        f"{prefix}answer": None if silent else EKMAN.labels[int(P.argmax())],
        f"{prefix}confidence": None if silent else float(P.max()),
    }


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return round(float(value), 6) if isinstance(value, float) else value


def evaluate_product(
    manifest: Manifest,
    analyzer: Analyzer,
    by: Sequence[str] = (),
    adapt: str = "none",
    draws: int = 2000,
    progress: Callable[[float], None] | None = None,
) -> ProductEvaluation:
    """Analyse every clip of ``manifest`` as ``affuse analyze`` does, and measure the answers about whole recordings.

    Parameters
    ----------
    manifest : Manifest
        From `read_manifest` or `corpus_manifest`.
    analyzer : Analyzer
        Its experts, fuser, window and hop are what is measured.
    by : sequence of str
        Columns to break the fused answer down by.
    adapt : str
        One of `ADAPTATIONS`: whether the experts' answers are adapted, without labels, to each person of the manifest,
        or to its persons and the collection as a whole.
    draws : int
        Draws of the intervals.
    progress : callable, optional
        Called with the share of clips that are done, 0…1.

    Returns
    -------
    ProductEvaluation
        A clip that cannot be decoded is a `Failure` and counts in no measure.

    Raises
    ------
    DataError
        Where no clip could be analysed, or a column in ``by`` is unknown or cannot be compared by.
    ConfigError
        Where ``adapt`` is unknown, or the analyzer cannot adapt.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.evaluation import Clip, Manifest
    >>> from affuse.testing import FakeExpert
    >>> clips = [Clip("row 1", "happiness", text="So glad!"), Clip("row 2", "sadness", text="Oh no.")]
    >>> found = evaluate_product(Manifest("two", clips), Analyzer({"text": FakeExpert("text", {"happiness": 0.9})}))
    >>> found.report["as_answered"]["fused"]["accuracy"]
    0.5
    """
    check_adaptation(adapt)
    columns = {name: manifest.column(name) for name in by}
    answers: dict[int, Answer] = {}
    failures: list[Failure] = []
    settings: Mapping[str, Any] = {}
    modalities = tuple(analyzer.experts)
    for row, found in _analyses(analyzer, manifest.clips, adapt, progress or (lambda share: None)):
        clip = manifest.clips[row]
        if isinstance(found, AffuseError):
            failures.append(Failure(clip, str(found)))
            continue
        answers[row] = _numbers(clip, found.summary, modalities)
        settings = settings or found.settings
    if not answers:
        raise DataError(f"{manifest.name}: no row could be analysed; {failures[0].clip.where}: {failures[0].reason}")
    rows = sorted(answers)
    report = _report(manifest, modalities, rows, answers, columns, draws)
    about = {"adapt": adapt, **settings}
    return ProductEvaluation(
        manifest.name, manifest.unit, modalities, [answers[row] for row in rows], failures, report, about
    )


def _analyses(
    analyzer: Analyzer, clips: Sequence[Clip], adapt: str, progress: Callable[[float], None]
) -> Iterator[tuple[int, Analysis | AffuseError]]:
    """Row and analysis of every clip, or what kept it from being analysed; one recording is open at a time."""
    heard: dict[int, Observation] = {}
    for row, clip in enumerate(clips):
        found = _observed(analyzer, clip)
        progress((row + 1) / len(clips))
        if isinstance(found, AffuseError):
            yield row, found
        elif adapt == "none":
            yield row, analyzer.answer(found)
        else:
            heard[row] = found
    if not heard:
        return
    persons = [clips[row].person for row in heard]
    for row, own in zip(heard, adapted_analyzers(analyzer, list(heard.values()), persons, adapt), strict=True):
        yield row, own.answer(heard[row])


def _observed(analyzer: Analyzer, clip: Clip) -> Observation | AffuseError:
    try:
        return analyzer.observe(clip.open())
    except AffuseError as error:
        return error


def _numbers(clip: Clip, summary: Verdict, modalities: Sequence[str]) -> Answer:
    silent = np.full(len(EKMAN), np.nan)
    said = [summary.evidence[modality].probabilities for modality in modalities]
    fused = silent if summary.fused is None else summary.fused
    return Answer(clip, np.stack([silent if p is None else p for p in said]), np.asarray(fused))


def _report(
    manifest: Manifest,
    modalities: Sequence[str],
    rows: Sequence[int],
    answers: Mapping[int, Answer],
    columns: Mapping[str, Sequence[str]],
    draws: int,
) -> dict[str, Any]:
    from affuse.evaluation.product_measures import product_report

    unit = manifest.unit
    groups = [getattr(manifest.clips[row], unit, "") or f"row {row}" for row in rows]
    return product_report(
        np.stack([answers[row].P for row in rows]),
        np.stack([answers[row].fused for row in rows]),
        np.array([EKMAN.index(manifest.clips[row].label) for row in rows]),
        np.array(groups),
        modalities,
        EKMAN.labels,
        {name: [cells[row] for row in rows] for name, cells in columns.items()},
        draws,
    )
