"""How good the product is on labelled recordings: the very path that ``affuse analyze`` runs, measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from affuse.analyzer.adaptation import adapted_analyzers, check_adaptation
from affuse.errors import AffuseError, ConfigError, DataError
from affuse.evaluation.manifest import Clip, Manifest, observe_clips, read_manifest
from affuse.labels import EKMAN
from affuse.progress import Progress
from affuse.registry import one_or_more

if TYPE_CHECKING:
    import pandas as pd

    from affuse.analyzer import Analyzer, Observation
    from affuse.data.corpora import Dataset
    from affuse.results import Analysis, Verdict

__all__ = [
    "Answer",
    "ExpertEvaluation",
    "Failure",
    "ProductEvaluation",
    "evaluate",
    "evaluate_product",
    "evaluation_rows",
]

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
    """Answers about labelled recordings and their measures; `evaluate` makes it.

    Parameters
    ----------
    name : str
        Name of the manifest.
    unit : str
        What intervals draw as a whole: "group", "person" or "row".
    modalities : tuple of str
        Whose answers were measured beside the fused one.
    answers : sequence of Answer
        One a clip that was analysed.
    failures : sequence of Failure
        Clips that could not be analysed, each with the reason; they count in no measure.
    report : mapping
        From `product_report`.
    settings : mapping
        Settings of the analyses: experts with checksums, fuser, window and hop.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.evaluation import Clip, Manifest
    >>> from affuse.testing import FakeExpert
    >>> clips = [Clip("row 1", "happiness", text="So glad!"), Clip("row 2", "sadness", text="Oh no.")]
    >>> found = evaluate(Manifest("two", clips), analyzer=Analyzer({"text": FakeExpert("text", {"happiness": 0.9})}))
    >>> found.to_frame()["answer"].tolist()
    ['happiness', 'happiness']
    """

    name: str
    unit: str
    modalities: tuple[str, ...]
    answers: Sequence[Answer]
    failures: Sequence[Failure]
    report: Mapping[str, Any]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        accuracy = self.report["as_answered"]["fused"]["accuracy"]
        told = "none with evidence" if accuracy is None else f"accuracy {accuracy:.4f}"
        return f"<ProductEvaluation of {self.name}: {len(self.answers)} clips, {told}, {len(self.failures)} failed>"

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain dicts and numbers.

        Returns
        -------
        dict
            The report with ``name``, ``unit``, ``failed`` (count, and the first of them) and ``settings``.
        """
        failed = [{"row": f.clip.where, "reason": f.reason} for f in self.failures[:_TOLD]]
        return {
            "name": self.name,
            **self.report,
            "unit": self.unit,
            "failed": {"count": len(self.failures), "first": failed},
            "settings": dict(self.settings),
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict a clip: what it is, the label, the answer with its confidence, and each modality's.

        Yields
        ------
        dict
            Answered clips first, then those that failed.
        """
        for answer in self.answers:
            yield _about(answer.clip) | self._answered(answer) | {"failure": ""} | _rest(answer.clip)
        nothing = np.full((len(self.modalities), len(EKMAN)), np.nan)
        for failure in self.failures:
            silent = Answer(failure.clip, nothing, np.full(len(EKMAN), np.nan))
            yield _about(failure.clip) | self._answered(silent) | {"failure": failure.reason} | _rest(failure.clip)

    def to_frame(self) -> pd.DataFrame:
        """The clips as a table.

        Returns
        -------
        pandas.DataFrame
            One row a clip, as `rows` gives them.
        """
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

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
    progress: Progress | None = None,
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
        Called with "clips" and the share of the clips that is done.

    Returns
    -------
    ProductEvaluation
        A clip that cannot be decoded is a `Failure` and counts in no measure.

    Raises
    ------
    DataError
        Where no clip could be analysed, or a column in ``by`` is unknown or cannot be compared by.
    ConfigError
        Where ``adapt`` is unknown, the analyzer cannot adapt, or it answers in labels that are no emotions.

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
    analyzer.check_emotions()
    columns = {name: manifest.column(name) for name in by}
    answers: dict[int, Answer] = {}
    failures: list[Failure] = []
    settings: Mapping[str, Any] = {}
    modalities = tuple(analyzer.experts)
    for row, found in _analyses(analyzer, manifest, adapt, progress):
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
    analyzer: Analyzer, manifest: Manifest, adapt: str, progress: Progress | None
) -> Iterator[tuple[int, Analysis | AffuseError]]:
    """Row and analysis of every clip, or what kept it from being analysed."""
    heard: dict[int, Observation] = {}
    for row, found in observe_clips(manifest, analyzer, progress):
        if isinstance(found, AffuseError):
            yield row, found
        elif adapt == "none":
            yield row, analyzer.answer(found)
        else:
            heard[row] = found
    if not heard:
        return
    persons = [manifest.clips[row].person for row in heard]
    for row, own in zip(heard, adapted_analyzers(analyzer, list(heard.values()), persons, adapt), strict=True):
        yield row, own.answer(heard[row])


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


# --- one function for both --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExpertEvaluation:
    """Measures of one expert by itself on a corpus; `evaluate` makes it.

    Parameters
    ----------
    expert : str
        Name of the expert.
    dataset : str
        Name of the corpus.
    split : str
        Which rows.
    report : mapping
        From `classification_report`.

    Examples
    --------
    >>> report = {"labels": ["sad", "glad"], "confusion": [[3, 1], [0, 4]]}
    >>> ExpertEvaluation("voice", "mine", "dev", report).to_frame()["recall"].tolist()
    [0.75, 1.0]
    """

    expert: str
    dataset: str
    split: str
    report: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The measures as plain values.

        Returns
        -------
        dict
            As `classification_report` gives them.
        """
        return dict(self.report)

    def to_frame(self) -> pd.DataFrame:
        """The measures by label.

        Returns
        -------
        pandas.DataFrame
            One row a label: number of rows, recall and F1.
        """
        import pandas as pd

        from affuse.evaluation.metrics import f1_scores, recalls

        confusion = np.asarray(self.report["confusion"])
        columns = {"n": confusion.sum(axis=1), "recall": recalls(confusion), "f1": f1_scores(confusion)}
        return pd.DataFrame({"label": self.report["labels"], **columns})


@overload
def evaluate(
    rows: Manifest | str | Path,
    *,
    data: str | Path | None = None,
    split: str = "dev",
    expert: None = None,
    analyzer: Analyzer | None = None,
    by: Sequence[str] = (),
    adapt: str = "none",
    draws: int = 2000,
    progress: Progress | None = None,
    weights: str | None = None,
) -> ProductEvaluation: ...


@overload
def evaluate(
    rows: Manifest | Dataset | str | Path,
    *,
    expert: Any,
    data: str | Path | None = None,
    split: str = "dev",
    weights: str | None = None,
) -> ExpertEvaluation: ...


def evaluate(
    rows: Manifest | Dataset | str | Path,
    *,
    data: str | Path | None = None,
    split: str = "dev",
    expert: Any = None,
    analyzer: Analyzer | None = None,
    by: Sequence[str] = (),
    adapt: str = "none",
    draws: int = 2000,
    progress: Progress | None = None,
    weights: str | None = None,
) -> ProductEvaluation | ExpertEvaluation:
    """Measure the product on labelled recordings, or one expert by itself on a corpus.

    Parameters
    ----------
    rows : Manifest, Dataset, str or Path
        Labelled recordings: a manifest, or the path of one (a table with path or text and label, or a folder with a
        folder for every emotion); or the name of a known corpus. An expert takes a name, or a corpus that was loaded.
    data : str or Path, optional
        Folder that holds the known corpora; the variable AFFUSE_DATA by default.
    split : {"train", "dev", "test", "open"}
        Which rows of a known corpus.
    expert : Expert or str, optional
        Measure this expert instead of the product: an expert, its name, or the folder of a package.
    analyzer : Analyzer, optional
        The product that is measured; the shipped one by default.
    by : sequence of str
        Columns to break the fused answer down by.
    adapt : {"none", "person", "collection"}
        Whether the experts' answers are adapted, without labels.
    draws : int
        Draws of the intervals.
    progress : callable, optional
        Called with "clips" and the share of the clips that is done.
    weights : str, optional
        Set of the shipped weights, where the shipped product is measured or an expert is given by its name: "research"
        or "commercial" (`affuse.weight_sets`); the one in use where None.

    Returns
    -------
    ProductEvaluation or ExpertEvaluation
        The latter where ``expert`` is given.

    Raises
    ------
    ConfigError
        If a corpus, expert, split or adaptation is unknown, or the corpus does not fit the expert.
    DataError
        If files are missing or do not fit, or no clip could be analysed.

    Examples
    --------
    >>> from affuse import Analyzer
    >>> from affuse.testing import FakeExpert
    >>> _ = Path("clips.csv").write_text("text,label\\nSo glad!,joy\\nOh no.,sad\\n")
    >>> found = evaluate("clips.csv", analyzer=Analyzer({"text": FakeExpert("text", {"happiness": 0.9})}))
    >>> found.report["as_answered"]["fused"]["accuracy"]
    0.5
    """
    if expert is not None:
        return _evaluate_expert(rows, data, split, expert, weights)
    from affuse.analyzer.analyzer import make_analyzer

    by = one_or_more(by)
    manifest = evaluation_rows(rows, data, split, by)
    return evaluate_product(manifest, analyzer or make_analyzer(weights=weights), by, adapt, draws, progress)


def evaluation_rows(rows: Any, data: str | Path | None = None, split: str = "dev", by: Sequence[str] = ()) -> Manifest:
    """Labelled recordings from what `evaluate` takes, checked before anything heavy is loaded.

    Their skin tone is measured where ``by`` asks for it and no column says it.
    """
    from affuse.evaluation.corpora import corpus_manifest
    from affuse.evaluation.folders import data_folder
    from affuse.evaluation.skin_tone import COLUMN, with_skin_tone

    stated = [name for name in by if name != COLUMN]
    if isinstance(rows, Manifest):
        return with_skin_tone(rows, by)
    if not isinstance(rows, str | Path):
        raise ConfigError("the product is measured on a manifest, or on a known corpus by its name")
    if _is_path(rows):
        return with_skin_tone(read_manifest(rows, stated), by)
    manifest = corpus_manifest(str(rows), data_folder(data), split)
    for name in stated:
        manifest.column(name)
    return with_skin_tone(manifest, by)


def _is_path(rows: str | Path) -> bool:
    """Whether it is the path of a manifest, and not the name of a corpus, which has no dot and no slash."""
    return isinstance(rows, Path) or bool(Path(rows).suffix) or len(Path(rows).parts) > 1


def _evaluate_expert(
    rows: Any, data: str | Path | None, split: str, expert: Any, weights: str | None
) -> ExpertEvaluation:
    from affuse.data.corpora import Dataset, load
    from affuse.evaluation.experts import evaluate_expert
    from affuse.evaluation.folders import data_folder

    if not isinstance(rows, Dataset):
        if not isinstance(rows, str) or _is_path(rows):
            raise ConfigError("an expert by itself is measured on a known corpus; give its name")
        rows = load(rows, data_folder(data), split)
    name = expert if isinstance(expert, str) else expert.name
    known = _find_expert(expert, rows.modality, weights) if isinstance(expert, str) else expert
    return ExpertEvaluation(name, rows.name, split, evaluate_expert(known, rows))


def _find_expert(name: str, modality: str, weights: str | None) -> Any:
    """An expert by its name, or by the folder of its package or of a whole system."""
    from affuse.analyzer.loading import load_named
    from affuse.packages import is_system, read_system

    if not is_system(Path(name)):
        return load_named(name, weights)
    if weights is not None:
        raise ConfigError("a package brings its own weights; leave out --weights, or --package")
    experts = read_system(name).experts()
    if modality not in experts:
        raise ConfigError(f"{name} has no expert for {modality}; it has {', '.join(experts)}")
    return experts[modality]
