"""From a recording to an answer: decode, align, ask the experts, fuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from affuse import weights
from affuse.analyzer.verdicts import About, Judge
from affuse.errors import AffuseError, ConfigError, DataError, MediaError
from affuse.experts import DEFAULT_EXPERTS
from affuse.experts.base import NO_WORDS, Expert, ExpertOutput
from affuse.experts.transcribe import Transcriber
from affuse.fusion.explain import SURE
from affuse.fusion.named import NamedFuser
from affuse.fusion.priors import Prior
from affuse.media import Frame, Recording
from affuse.packages import load_expert
from affuse.packages.columns import KEYS, FeatureTable
from affuse.packages.system import read_system
from affuse.results import Analysis, Cue, Person, Source, Verdict
from affuse.timeline import DEFAULT_HOP, DEFAULT_WINDOW, Segment, Timeline

__all__ = [
    "About",
    "Analyzer",
    "Observation",
    "Progress",
    "analyze",
    "load_experts",
    "load_system",
    "make_analyzer",
    "mean_of_windows",
    "shipped_for",
    "shipped_fuser",
]

_LONG = 600.0  # seconds

Progress = Callable[[str, float], None]
"""Called with the name of a modality and the share of the recording that it has read, 0…1."""


@cache
def shipped_fuser() -> NamedFuser:
    """The fuser that was learned from the shipped experts' held-out answers (recipe: ``recipes.fuser``)."""
    return NamedFuser.read(weights.shipped("fuser").parent)


def load_system(
    folder: str | Path, language: str | None = None, features: Path | None = None
) -> tuple[dict[str, Expert], NamedFuser]:
    """Experts by modality and the fuser of a bundle that ``affuse export`` wrote.

    Raises AssetError where its files are not the ones that it names, and what `load_experts` raises.
    """
    system = read_system(folder)
    table = None if features is None else _features(features)
    return system.experts(language, table), NamedFuser.read(system.fuser)


def load_experts(
    chosen: Mapping[str, str] | None = None, language: str | None = None, features: Path | None = None
) -> dict[str, Expert]:
    """Make the experts named in ``chosen`` (modality to name or folder of a bundle; all shipped ones where None).

    ``features`` is the table of a joint expert that reads numbers. Raises ConfigError for an unknown name or language,
    an expert of another modality than it is asked for, or a table that no expert reads; DataError where it is no table.
    """
    experts: dict[str, Expert] = {}
    named = DEFAULT_EXPERTS if chosen is None else chosen
    if features is not None and "joint" not in named:
        raise ConfigError(f"none of the experts {', '.join(named)} reads a table of features; a joint one may")
    for modality, name in named.items():
        options: dict[str, Any] = {"language": language} if name == DEFAULT_EXPERTS["text"] else {}
        if modality == "joint" and features is not None:
            options["features"] = _features(features)
        expert: Expert = load_expert(name, **options)
        if expert.modality != modality:
            raise ConfigError(f"expert {name!r} reads {expert.modality}, not {modality}")
        experts[modality] = expert
    return experts


def make_analyzer(
    bundle: str | Path | None = None,
    chosen: Mapping[str, str] | None = None,
    window: float | None = None,
    hop: float | None = None,
    language: str | None = None,
    features: Path | None = None,
    *,
    fuser: str | Path | None = None,
    prior: Prior | str | Path | None = None,
    context: str | None = None,
) -> Analyzer:
    """The analyzer that the options of a command ask for.

    Parameters
    ----------
    bundle : str or Path, optional
        Folder that ``affuse export`` wrote, whose experts and fuser answer.
    chosen : mapping of str to str, optional
        Experts by modality, as in `load_experts`; without, the shipped ones that the fuser knows.
    fuser : str or Path, optional
        Folder of a fuser instead of the shipped one, or the bundle's.
    window, hop, language, features, prior, context
        As in `Analyzer` and `load_experts`.

    Raises
    ------
    ConfigError
        Where both ``bundle`` and ``chosen`` are given, and what `load_experts` and `Analyzer` raise.
    """
    if bundle is not None and chosen is not None:
        raise ConfigError("give either --bundle or --experts; a bundle says itself which experts it has")
    learned = shipped_fuser() if fuser is None else NamedFuser.read(fuser)
    if bundle is not None:
        experts, own = load_system(bundle, language, features)
        learned = own if fuser is None else learned
    else:
        experts = load_experts(shipped_for(learned) if chosen is None else chosen, language, features)
    return Analyzer(experts, window, hop, learned, prior=prior, context=context)


def _features(path: Path) -> FeatureTable:
    from affuse.tables import read_table  # knows every corpus, which most analyses do without

    return FeatureTable(read_table(path, KEYS), path.name)


class Analyzer:
    """Analyses recordings with one set of experts; loading weights once serves many recordings.

    Parameters
    ----------
    experts : mapping of str to Expert, optional
        Expert by modality ("face", "voice", "text"); the shipped ones that ``fuser`` knows where None.
    window, hop : float, optional
        Seconds; by default windows of 3 s, one a second, shorter where a recording is.
    fuser : NamedFuser, str or Path, optional
        What fuses their answers: any fitted fuser of emotions with names, or the folder that one was saved in (``affuse
        fuse --save``, ``affuse tune --save``, `NamedFuser.write`); the shipped one where None.
    transcriber : Transcriber, optional
        Recognises the words of recordings that come without; where None, nobody does.
    prior : Prior, str or Path, optional
        How frequent the emotions are held to be before anything is seen: "dialogue", "uniform", "tempered", the file
        of one, or a prior itself; the fuser's default where None.
    context : str, optional
        Where the prior has frequencies or rules by context.

    Raises
    ------
    ConfigError
        Where experts, fuser and prior do not fit each other.
    AssetError
        Where a folder holds no fuser.
    """

    def __init__(
        self,
        experts: Mapping[str, Expert] | None = None,
        window: float | None = None,
        hop: float | None = None,
        fuser: NamedFuser | str | Path | None = None,
        transcriber: Transcriber | None = None,
        prior: Prior | str | Path | None = None,
        context: str | None = None,
    ) -> None:
        self.transcriber = transcriber
        self.window = window
        self.hop = hop
        self.fuser = _fuser(fuser)
        self.experts = dict(load_experts(shipped_for(self.fuser)) if experts is None else experts)
        self._judge = Judge(self.experts, self.fuser, None if prior is None else Prior.find(prior), context)
        self.prior = self._judge.prior
        self.context = context
        self.adaptations: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_bundle(
        cls,
        folder: str | Path,
        window: float | None = None,
        hop: float | None = None,
        language: str | None = None,
        features: Path | None = None,
        prior: Prior | str | Path | None = None,
        context: str | None = None,
    ) -> Analyzer:
        """An analyzer with the experts and the fuser of a bundle that ``affuse export`` wrote; as `load_system`."""
        experts, fuser = load_system(folder, language, features)
        return cls(experts, window, hop, fuser, prior=prior, context=context)

    def analyze(
        self, path: str | Path, transcript: str | Path | None = None, progress: Progress | None = None
    ) -> Analysis:
        """Analyse one file. Raises MediaError, TranscriptError or ConfigError with one sentence for the user."""
        return self.analyze_recording(Recording.open(path, transcript=transcript), progress)

    def analyze_text(self, text: str) -> Analysis:
        """Analyse bare text. Raises MediaError where it is empty."""
        if not text.strip():
            raise MediaError("the text is empty; give at least one word")
        return self.analyze_recording(Recording.from_text(text))

    def analyze_recording(self, recording: Recording, progress: Progress | None = None) -> Analysis:
        """Analyse an open recording."""
        return self.answer(self.observe(recording, progress))

    def observe(self, recording: Recording, progress: Progress | None = None) -> Observation:
        """What the experts find in an open recording; `answer` fuses it."""
        timeline = self._timeline(recording)
        recording, wordless = (recording, "") if self.transcriber is None else self.transcriber.fill(recording)
        readings = self._read(recording, timeline, progress)
        if wordless and "text" in readings:
            readings["text"] = [_without_words(reading, wordless) for reading in readings["text"]]
        return Observation(recording, timeline, readings)

    def answer(self, observation: Observation) -> Analysis:
        """The analysis of what the experts found."""
        return _Answer(self, observation).analysis()

    def adapted(self, P: np.ndarray, weights: np.ndarray | None = None, of: str = "person", to: str = "") -> Analyzer:
        """The analyzer for one person, or a collection of recordings, whose shift in log-probability is taken out.

        Parameters
        ----------
        P : array of shape (n, m, 7)
            What the experts say, as `evidence` collects it: a row a stretch of recording; no labels are needed.
        weights : array of shape (n,), optional
            How many independent rows each counts for.
        of : str
            "person"; "member", a person whose emotions are known to be mixed; or "collection", several persons with
            mixed emotions, of whom only what they share is learned.
        to : str
            Who or what it is adapted to, for the answers to name.

        Raises
        ------
        ConfigError
            Where the fuser does not adapt.
        """
        other = copy(self)
        other._judge = self._judge.with_fuser(self._judge.fuser.adapt(P, tuple(self.experts), weights, of))
        found = {"to": to or of, **other._judge.fuser.adapted}
        other.adaptations = (
            *self.adaptations,
            {k: round(v, 6) if isinstance(v, float) else v for k, v in found.items()},
        )
        return other

    def fuse(
        self,
        readings: Mapping[str, ExpertOutput],
        timeline: Timeline,
        words: Sequence[str] = (),
        duration: float = np.nan,
    ) -> list[Verdict]:
        """One verdict a window, from one reading a modality that is about one person or the whole scene.

        ``words`` are those said in each window and ``duration`` the recording's in seconds, for a prior whose lexicon
        or rules ask. Raises DataError where the reading of a modality is missing, or does not cover the timeline.
        """
        for modality in self.experts:
            count = len(readings[modality].probabilities) if modality in readings else 0
            if count != len(timeline):
                raise DataError(f"{modality}: the reading covers {count} windows; the timeline has {len(timeline)}")
        reasons = self._judge.reasons(readings)
        return self.verdicts(
            *self.evidence(readings), About(list(timeline), reasons, _person(readings), words, duration)
        )

    def summarise(self, readings: Mapping[str, ExpertOutput], timeline: Timeline, words: str = "") -> Verdict:
        """The verdict about all windows together: `fuse` of every modality's mean over the windows it speaks in."""
        P, S = self.evidence(readings)
        whole = Segment(timeline[0].start, max(s.end for s in timeline))
        reasons = [(_most_common(given),) for given in self._judge.reasons(readings)]
        about = About([whole], reasons, _person(readings), [words], whole.duration)
        (summary,) = self.verdicts(mean_of_windows(P), mean_of_windows(S), about)
        return summary

    def evidence(self, readings: Mapping[str, ExpertOutput]) -> tuple[np.ndarray, np.ndarray]:
        """Emotions P (n, m, 7) and judgements of sentiment S (n, m, 3), from one reading a modality.

        P are the experts' own probabilities over `affuse.EKMAN`, S is NaN where an expert judges no sentiment; both are
        NaN where a modality has no evidence. What is done to P before `verdicts` sees it (adaptation) is up to the
        caller.
        """
        return self._judge.evidence(readings)

    def verdicts(self, P: np.ndarray, S: np.ndarray, about: About) -> list[Verdict]:
        """One verdict a row of P (n, m, 7) and S (n, m, 3), which `evidence` collects."""
        return self._judge.verdicts(P, S, about)

    def _timeline(self, recording: Recording) -> Timeline:
        if recording.duration == 0:
            return Timeline((recording.span,))  # a picture or a bare text: one window of a nominal second
        if self.window is not None and self.window > recording.duration:
            raise ConfigError(
                f"{recording.name}: a window of {self.window:g} s is longer than the recording, "
                f"which lasts {recording.duration:.2f} s"
            )
        window = self.window or min(DEFAULT_WINDOW, recording.duration)
        return Timeline.windows(recording.duration, window, self.hop or min(DEFAULT_HOP, window))

    def _read(
        self, recording: Recording, timeline: Timeline, progress: Progress | None
    ) -> dict[str, list[ExpertOutput]]:
        def read(modality: str) -> list[ExpertOutput]:
            report = None if progress is None else (lambda share: progress(modality, share))
            watched = recording if report is None else _Watched(recording, report)
            readings: list[ExpertOutput] = self.experts[modality].read(watched, timeline)  # type: ignore[arg-type]
            if report:
                report(1.0)
            return readings

        # Decoding and networks release the interpreter's lock, so two modalities really run at once. In a long
        # recording the face takes nearly all the time anyway, and every open file keeps an index that grows with its
        # length.
        at_once = 2 if recording.duration < _LONG else 1
        with ThreadPoolExecutor(max_workers=at_once) as pool:
            futures = {modality: pool.submit(read, modality) for modality in self.experts}
            return {modality: self._result(modality, recording, future.result) for modality, future in futures.items()}

    def _result(
        self, modality: str, recording: Recording, result: Callable[[], list[ExpertOutput]]
    ) -> list[ExpertOutput]:
        try:
            return result()
        except AffuseError as error:
            raise type(error)(f"{recording.name}, {modality}: {error}") from error


def _fuser(fuser: NamedFuser | str | Path | None) -> NamedFuser:
    if fuser is None:
        return shipped_fuser()
    return fuser if isinstance(fuser, NamedFuser) else NamedFuser.read(fuser)


def shipped_for(fuser: NamedFuser) -> dict[str, str]:
    """Names of the shipped experts, by modality, that a fuser knows. Raises ConfigError where it knows none."""
    known = {modality: name for modality, name in DEFAULT_EXPERTS.items() if modality in fuser.modalities}
    if not known:
        raise ConfigError(
            f"the fuser knows {', '.join(fuser.modalities)}; there are shipped experts for "
            f"{', '.join(DEFAULT_EXPERTS)}: choose experts for its modalities"
        )
    return known


@dataclass(frozen=True)
class Observation:
    """What the experts found in one recording: readings by modality over the windows of ``timeline``."""

    recording: Recording
    timeline: Timeline
    readings: Mapping[str, list[ExpertOutput]]

    def people(self) -> list[Mapping[str, ExpertOutput]]:
        """For every person the readings that are about them: their own, and those that hold for the whole scene."""
        seen = next((m for m, own in self.readings.items() if own[0].person is not None), None)
        scene = {m: own[0] for m, own in self.readings.items()}
        return [scene | {seen: person} for person in self.readings[seen]] if seen else [scene]


class _Watched:
    """A recording that reports how far it has been read; experts see no difference."""

    def __init__(self, recording: Recording, report: Callable[[float], None]) -> None:
        self._recording = recording
        self._report = report

    def __getattr__(self, name: str) -> Any:
        return getattr(self._recording, name)

    def frames(self, times: Iterable[float], **options: Any) -> Iterator[Frame]:
        for frame in self._recording.frames(times, **options):
            self._tell(frame.time)
            yield frame

    def sound(self, timeline: Timeline) -> Iterator[np.ndarray]:
        for segment, samples in zip(timeline, self._recording.sound(timeline), strict=False):
            self._tell(segment.end)
            yield samples

    def _tell(self, time: float) -> None:
        if self._recording.duration > 0:
            self._report(min(1.0, time / self._recording.duration))


class _Answer:
    """The answer about one recording from what the experts read in it."""

    def __init__(self, analyzer: Analyzer, observation: Observation) -> None:
        self.analyzer = analyzer
        self.recording = observation.recording
        self.timeline = observation.timeline
        self.readings = observation.readings
        self.people = observation.people()
        self.modalities = tuple(analyzer.experts)

    def analysis(self) -> Analysis:
        people = self.people
        words = self._words()
        duration = self.recording.duration
        by_person = [self.analyzer.fuse(person, self.timeline, words, duration) for person in people]
        verdicts = [verdict for row in zip(*by_person, strict=True) for verdict in row]
        source = Source(self.recording.name, self.recording.path, self.recording.duration, self.recording.kind)
        return Analysis(
            source=source,
            verdicts=verdicts,
            summaries=[
                self.analyzer.summarise(person, self.timeline, " ".join(c.text for c in self.recording.cues))
                for person in people
            ],
            persons=[
                Person(r.person, r.times, r.boxes)
                for readings in people
                for r in readings.values()
                if r.person is not None
            ],
            cues=[Cue(c.segment, c.text, self._language(c.text)) for c in self.recording.cues],
            modalities=self.modalities,
            settings=self._settings(),
            notes=self._notes(verdicts, len(people)),
        )

    def _words(self) -> list[str]:
        """What is said in each window; nothing where the prior does not ask."""
        if "words" not in self.analyzer.prior.needs:
            return []
        cues = self.recording.cues
        return [" ".join(c.text for c in cues if c.segment.overlap(segment) > 0) for segment in self.timeline]

    def _language(self, text: str) -> str | None:
        recognise = getattr(self.analyzer.experts.get("text"), "language_of", None)
        return recognise(text) if recognise else None

    def _settings(self) -> dict[str, Any]:
        experts = {
            modality: {"name": expert.name, "weights": getattr(expert, "sha256", {})}
            for modality, expert in self.analyzer.experts.items()
        }
        return {
            "window": round(self.timeline[0].duration, 6),
            "hop": round(self.timeline[1].start - self.timeline[0].start, 6) if len(self.timeline) > 1 else None,
            "experts": experts,
            "fuser": {"name": self.analyzer.fuser.method, "weights": {"fuser": self.analyzer.fuser.sha256}},
            "prior": self.analyzer.prior.describe(self.analyzer.context),
            "adaptation": [dict(found) for found in self.analyzer.adaptations],
            "conflict": {"sure": SURE},
        }

    def _notes(self, verdicts: Sequence[Verdict], n_people: int) -> tuple[str, ...]:
        own = dict.fromkeys(note for readings in self.readings.values() for r in readings for note in r.notes)
        notes = (*self.recording.notes, *own)
        heard = {m for v in verdicts for m, e in v.evidence.items() if e.probabilities is not None}
        shared = [m for m in ("voice", "text") if m in heard]
        if n_people < 2 or not shared:
            return notes
        return (
            *notes,
            f"{n_people} persons are seen; {' and '.join(shared)} cannot be told apart by person "
            "and count for each of them",
        )


def mean_of_windows(P: np.ndarray) -> np.ndarray:
    """Mean over the windows with evidence, (1, m, k) from P (n, m, k); NaN where a modality never has any."""
    here = ~np.isnan(P)
    total, count = np.where(here, P, 0.0).sum(axis=0), here.sum(axis=0)
    return np.divide(total, count, out=np.full(P.shape[1:], np.nan), where=count > 0)[None]


def _person(readings: Mapping[str, ExpertOutput]) -> str | None:
    return next((r.person for r in readings.values() if r.person is not None), None)


def _without_words(reading: ExpertOutput, why: str) -> ExpertOutput:
    reasons = tuple(f"{reason}: {why}" if reason == NO_WORDS else reason for reason in reading.reasons)
    return replace(reading, reasons=reasons)


def _most_common(reasons: Sequence[str]) -> str:
    """The reason that most windows without evidence give."""
    given = [reason for reason in reasons if reason]
    return max(given, key=given.count, default="")


def analyze(
    path: str | Path | None = None,
    transcript: str | Path | None = None,
    *,
    text: str | None = None,
    window: float | None = None,
    hop: float | None = None,
    experts: Mapping[str, Expert] | None = None,
    language: str | None = None,
    progress: Progress | None = None,
    fuser: NamedFuser | str | Path | None = None,
    prior: Prior | str | Path | None = None,
    context: str | None = None,
) -> Analysis:
    """Analyse one recording, or bare ``text``, with the shipped experts.

    ``window`` and ``hop`` in seconds; ``language`` "en" or "zh" where it shall not be recognised; ``experts``,
    ``fuser``, ``prior`` and ``context`` as in `Analyzer`, which is there for many recordings. Raises ConfigError unless
    exactly one of ``path`` and ``text`` is given.
    """
    if (path is None) == (text is None):
        raise ConfigError("analyze needs either the path of a recording or a text")
    if experts is None and language is not None:
        experts = load_experts(language=language)
    analyzer = Analyzer(experts, window, hop, fuser, prior=prior, context=context)
    if path is not None:
        return analyzer.analyze(path, transcript, progress)
    assert text is not None
    return analyzer.analyze_text(text)
