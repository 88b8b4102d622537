"""From a recording to an answer: decode, align, ask the experts, fuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from affuse.analysis import Analysis, Cue, Evidence, Person, Source, Verdict
from affuse.errors import AffuseError, AssetError, ConfigError, DataError, MediaError
from affuse.experts import DEFAULT_EXPERTS, load_expert, weights
from affuse.experts.base import NO_WORDS, Expert, Reading
from affuse.experts.bundle.columns import KEYS, FeatureTable
from affuse.experts.bundle.system import read_system
from affuse.experts.transcribe import Transcriber
from affuse.fusion import LogPool, conflict, conflict_in_words, shapley_shares
from affuse.fusion.spaces import check_emotions, common_emotions, common_sentiment, judges_sentiment
from affuse.labels import EKMAN, SENTIMENT, to_emotions, to_sentiment
from affuse.media import Frame, Recording
from affuse.timeline import DEFAULT_HOP, DEFAULT_WINDOW, Segment, Timeline

__all__ = ["Analyzer", "LearnedFuser", "Progress", "analyze", "load_experts", "load_system", "shipped_fuser"]

_LONG = 600.0  # seconds
_SENTIMENT_ONLY = "judges sentiment only"

Progress = Callable[[str, float], None]
"""Called with the name of a modality and the share of the recording that it has read, 0…1."""


@dataclass(frozen=True)
class LearnedFuser:
    """A learned pool, the conflict above which one is worth a word, and the checksum of the file that holds both.

    ``conflict_thresholds`` are by the number of modalities that have evidence.
    """

    pool: LogPool
    conflict_thresholds: Mapping[int, float]
    sha256: str

    @classmethod
    def read(cls, path: Path) -> LearnedFuser:
        """Read what ``affuse.training.fuser`` wrote. Raises AssetError where it is something else."""
        import json

        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            thresholds = {int(n): float(value) for n, value in values["conflict_thresholds"].items()}
            return cls(LogPool.from_dict(values["pool"]), thresholds, weights.sha256_of(path))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise AssetError(f"{path} does not hold what a fuser has learned ({error})") from error


@cache
def shipped_fuser() -> LearnedFuser:
    """The fuser that was learned from the shipped experts' held-out answers (recipe: ``affuse.training.fuser``)."""
    return LearnedFuser.read(weights.shipped("fuser"))


def load_system(
    folder: str | Path, language: str | None = None, features: Path | None = None
) -> tuple[dict[str, Expert], LearnedFuser]:
    """Experts by modality and the fuser of a bundle that ``affuse export`` wrote.

    Raises AssetError where its files are not the ones that it names, and what `load_experts` raises.
    """
    system = read_system(folder)
    table = None if features is None else _features(features)
    return system.experts(language, table), LearnedFuser.read(system.fuser)


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


def _features(path: Path) -> FeatureTable:
    from affuse.datasets.predictions import read_table  # knows every corpus, which most analyses do without

    return FeatureTable(read_table(path, KEYS), path.name)


class Analyzer:
    """Analyses recordings with one set of experts; loading weights once serves many recordings.

    Parameters
    ----------
    experts: expert by modality ("face", "voice", "text"); the shipped ones where None.
    window, hop: seconds; by default windows of 3 s, one a second, shorter where a recording is.
    fuser: what fuses their answers; the shipped one where None.
    transcriber: recognises the words of recordings that come without; where None, nobody does.
    """

    def __init__(
        self,
        experts: Mapping[str, Expert] | None = None,
        window: float | None = None,
        hop: float | None = None,
        fuser: LearnedFuser | None = None,
        transcriber: Transcriber | None = None,
    ) -> None:
        self.transcriber = transcriber
        self.experts = dict(load_experts() if experts is None else experts)
        self.window = window
        self.hop = hop
        self.fuser = fuser = shipped_fuser() if fuser is None else fuser
        _check_experts(self.experts)
        self.pool = _pool_of(self.experts, fuser.pool)
        self.conflict_thresholds = fuser.conflict_thresholds

    @classmethod
    def from_bundle(
        cls,
        folder: str | Path,
        window: float | None = None,
        hop: float | None = None,
        language: str | None = None,
        features: Path | None = None,
    ) -> Analyzer:
        """An analyzer with the experts and the fuser of a bundle that ``affuse export`` wrote; as `load_system`."""
        experts, fuser = load_system(folder, language, features)
        return cls(experts, window, hop, fuser)

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
        timeline = self._timeline(recording)
        recording, wordless = (recording, "") if self.transcriber is None else self.transcriber.fill(recording)
        readings = self._read(recording, timeline, progress)
        if wordless and "text" in readings:
            readings["text"] = [_without_words(reading, wordless) for reading in readings["text"]]
        return _Answer(self, recording, timeline, readings).analysis()

    def fuse(self, readings: Mapping[str, Reading], timeline: Timeline) -> list[Verdict]:
        """One verdict a window, from one reading a modality that is about one person or the whole scene.

        Raises DataError where the reading of a modality is missing, or does not cover the timeline.
        """
        for modality in self.experts:
            count = len(readings[modality].probabilities) if modality in readings else 0
            if count != len(timeline):
                raise DataError(f"{modality}: the reading covers {count} windows; the timeline has {len(timeline)}")
        P, S = self._evidence(readings)
        reasons = [self._reasons(m, readings[m]) for m in self.experts]
        return self._verdicts(P, S, list(timeline), reasons, _person(readings))

    def summarise(self, readings: Mapping[str, Reading], timeline: Timeline) -> Verdict:
        """The verdict about all windows together: `fuse` of every modality's mean over the windows it speaks in."""
        P, S = self._evidence(readings)
        whole = Segment(timeline[0].start, max(s.end for s in timeline))
        reasons = [(_most_common(self._reasons(m, readings[m])),) for m in self.experts]
        (summary,) = self._verdicts(_mean(P), _mean(S), [whole], reasons, _person(readings))
        return summary

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

    def _read(self, recording: Recording, timeline: Timeline, progress: Progress | None) -> dict[str, list[Reading]]:
        def read(modality: str) -> list[Reading]:
            report = None if progress is None else (lambda share: progress(modality, share))
            watched = recording if report is None else _Watched(recording, report)
            readings: list[Reading] = self.experts[modality].read(watched, timeline)  # type: ignore[arg-type]
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

    def _result(self, modality: str, recording: Recording, result: Callable[[], list[Reading]]) -> list[Reading]:
        try:
            return result()
        except AffuseError as error:
            raise type(error)(f"{recording.name}, {modality}: {error}") from error

    # --- fusion -------------------------------------------------------------------------------------------------------

    def _evidence(self, readings: Mapping[str, Reading]) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated emotions (n, m, 7) and sentiments (n, m, 3) of the modalities."""
        P = self.pool.calibrate(np.stack([self._emotions(m, readings[m]) for m in self.experts], axis=1))
        S = np.stack([self._sentiment(m, readings[m], P[:, i]) for i, m in enumerate(self.experts)], axis=1)
        return P, S

    def _emotions(self, modality: str, reading: Reading) -> np.ndarray:
        """Emotions (n, 7) of one modality, for the pool to calibrate; NaN for one that judges sentiment only."""
        expert = self.experts[modality]
        own = _own_prior(expert)
        if judges_sentiment(expert.labels):
            return np.full((len(reading.probabilities), len(EKMAN)), np.nan)
        if own is None:
            return to_emotions(reading.probabilities, expert.labels)
        return common_emotions(reading.probabilities, expert.labels, own, self.pool.prior)

    def _sentiment(self, modality: str, reading: Reading, emotions: np.ndarray) -> np.ndarray:
        """Sentiment (n, 3) of an expert that judges it, or else what its calibrated emotions (n, 7) imply."""
        expert = self.experts[modality]
        if judges_sentiment(expert.labels):
            common = to_sentiment(self.pool.prior)
            own = _own_prior(expert)
            return common_sentiment(reading.probabilities, expert.labels, common if own is None else own, common)
        return to_sentiment(emotions) if reading.sentiment is None else reading.sentiment

    def _reasons(self, modality: str, reading: Reading) -> Sequence[str]:
        if judges_sentiment(self.experts[modality].labels):
            return [reason or _SENTIMENT_ONLY for reason in reading.reasons]
        return reading.reasons

    def _verdicts(
        self,
        P: np.ndarray,
        S: np.ndarray,
        segments: Sequence[Segment],
        reasons: Sequence[Sequence[str]],
        person: str | None,
    ) -> list[Verdict]:
        fused = self.pool(P)
        # Whether the modalities mean the same is judged once, by the emotions, and holds for the sentiment as well.
        sentiment = _sentiment_score(_sentiment_pool(self.pool).blend(S, self.pool.separation(P)))
        answers = np.where(np.isnan(fused).any(axis=1), 0, np.nan_to_num(fused).argmax(axis=1))
        shares = shapley_shares(P, self.pool, self.pool.prior, answers)
        divergence = conflict(P)
        return [
            self._verdict(
                segment, person, P[i], [r[i] for r in reasons], fused[i], sentiment[i], divergence[i], shares[i]
            )
            for i, segment in enumerate(segments)
        ]

    def _verdict(
        self,
        segment: Segment,
        person: str | None,
        P: np.ndarray,
        reasons: Sequence[str],
        fused: np.ndarray,
        sentiment: float,
        divergence: float,
        shares: np.ndarray,
    ) -> Verdict:
        silent = np.isnan(P).any(axis=1)
        evidence = {
            modality: Evidence(None, reasons[i]) if silent[i] else Evidence(P[i], share=float(shares[i]))
            for i, modality in enumerate(self.experts)
        }
        if silent.all():
            heard = None if np.isnan(sentiment) else float(sentiment)
            return Verdict(segment, person, evidence, None, None, None, heard)
        # With a single modality the divergence is NaN, which is not remarkable.
        remarkable = divergence >= self.conflict_thresholds.get(int((~silent).sum()), 1.0)
        return Verdict(
            segment=segment,
            person=person,
            evidence=evidence,
            fused=fused,
            label=EKMAN.labels[int(fused.argmax())],
            confidence=float(fused.max()),
            sentiment=float(sentiment),
            conflict=None if np.isnan(divergence) else float(divergence),
            conflict_text=conflict_in_words(P, tuple(self.experts), EKMAN.labels) if remarkable else "",
        )


def _check_experts(experts: Mapping[str, Expert]) -> None:
    """Raise ConfigError where labels mean nothing to the fuser, or two experts would count the same evidence twice."""
    for modality, expert in experts.items():
        try:
            check_emotions(expert.labels)
        except ConfigError as error:
            raise ConfigError(f"{modality}, expert {expert.name!r}: {error}") from error
        twice = [m for m in getattr(expert, "covers", ()) if m != modality and m in experts]
        if twice:
            raise ConfigError(
                f"expert {expert.name!r} reads {' and '.join(twice)} itself; another expert for that would count the "
                f"same evidence twice, so leave out {', '.join(twice)}"
            )


def _pool_of(experts: Mapping[str, Expert], learned: LogPool) -> LogPool:
    """The learned pool for these experts; one that brings its own calibration keeps it, at its modality's weight."""
    pool = learned
    for modality, expert in experts.items():
        if _own_prior(expert) is not None:
            known = modality in learned.modalities
            weight = learned.weights[learned.modalities.index(modality)] if known else 1.0
            pool = pool.with_modality(modality, float(weight))
    return pool.select(tuple(experts))


def _own_prior(expert: Expert) -> np.ndarray | None:
    """Label frequencies (k,) under which an expert says that its answers are calibrated; None where it says nothing."""
    prior: np.ndarray | None = getattr(expert, "prior", None)
    return prior


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

    def __init__(
        self, analyzer: Analyzer, recording: Recording, timeline: Timeline, readings: dict[str, list[Reading]]
    ) -> None:
        self.analyzer = analyzer
        self.recording = recording
        self.timeline = timeline
        self.readings = readings
        self.modalities = tuple(analyzer.experts)

    def analysis(self) -> Analysis:
        people = self._people()
        by_person = [self.analyzer.fuse(person, self.timeline) for person in people]
        verdicts = [verdict for row in zip(*by_person, strict=True) for verdict in row]
        source = Source(self.recording.name, self.recording.path, self.recording.duration, self.recording.kind)
        return Analysis(
            source=source,
            verdicts=verdicts,
            summaries=[self.analyzer.summarise(person, self.timeline) for person in people],
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

    def _people(self) -> list[Mapping[str, Reading]]:
        """For every person the readings that are about them: their own, and those that hold for the whole scene."""
        seen = next((m for m, own in self.readings.items() if own[0].person is not None), None)
        scene = {m: own[0] for m, own in self.readings.items()}
        return [scene | {seen: person} for person in self.readings[seen]] if seen else [scene]

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
            "fuser": {"name": "calibrated logarithmic pool", "weights": {"fuser": self.analyzer.fuser.sha256}},
            "conflict_thresholds": {str(n): t for n, t in self.analyzer.conflict_thresholds.items()},
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


def _sentiment_pool(pool: LogPool) -> LogPool:
    priors, prior = to_sentiment(pool.priors), to_sentiment(pool.prior)
    return LogPool(pool.modalities, SENTIMENT.labels, pool.temperatures, pool.weights, priors, prior, pool.separate)


def _sentiment_score(P: np.ndarray) -> np.ndarray:
    """Sentiment in -1…1: how much more probable positive is than negative, (n,) from P (n, 3)."""
    return np.asarray(P[:, SENTIMENT.index("positive")] - P[:, SENTIMENT.index("negative")])


def _mean(P: np.ndarray) -> np.ndarray:
    """Mean over the windows with evidence, (1, m, k) from P (n, m, k); NaN where a modality never has any."""
    here = ~np.isnan(P)
    total, count = np.where(here, P, 0.0).sum(axis=0), here.sum(axis=0)
    return np.divide(total, count, out=np.full(P.shape[1:], np.nan), where=count > 0)[None]


def _person(readings: Mapping[str, Reading]) -> str | None:
    return next((r.person for r in readings.values() if r.person is not None), None)


def _without_words(reading: Reading, why: str) -> Reading:
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
) -> Analysis:
    """Analyse one recording, or bare ``text``, with the shipped experts.

    ``window`` and ``hop`` in seconds; ``language`` "en" or "zh" where it shall not be recognised. Use `Analyzer` for
    many recordings. Raises ConfigError unless exactly one of ``path`` and ``text`` is given.
    """
    if (path is None) == (text is None):
        raise ConfigError("analyze needs either the path of a recording or a text")
    analyzer = Analyzer(load_experts(language=language) if experts is None else experts, window, hop)
    if path is not None:
        return analyzer.analyze(path, transcript, progress)
    assert text is not None
    return analyzer.analyze_text(text)
