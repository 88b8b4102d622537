"""From a recording to its answer: decode, align, ask the experts, fuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from affuse.analyzer.answers import EvidenceFuser, WindowInfo
from affuse.analyzer.assembly import assemble
from affuse.analyzer.loading import load_experts, load_parts, load_system, read_fuser, shipped_for, shipped_fuser
from affuse.analyzer.observation import Observation, read_all, return_memory, seen_modality, without_words
from affuse.analyzer.spaces import LabelMap, answer_space, expert_spaces, rule_over
from affuse.analyzer.speech import check_speakers, find_speakers, hears_only, split_speech
from affuse.errors import ConfigError, MediaError
from affuse.experts.base import Expert, ExpertOutput
from affuse.experts.transcribe import Transcriber
from affuse.fusion.explain import SURE
from affuse.fusion.named import NamedFuser
from affuse.fusion.priors import Prior
from affuse.labels import EKMAN, LabelSpace
from affuse.media import Recording
from affuse.people import Turn, channel_turns, read_rttm, transcript_turns
from affuse.people.speaking import shipped_networks
from affuse.people.watching import MouthWatch
from affuse.progress import Progress
from affuse.purpose import Purpose
from affuse.results import Analysis, Verdict
from affuse.timeline import DEFAULT_HOP, DEFAULT_WINDOW, Timeline
from affuse.weight_sets import joint_set
from affuse.weights import set_of

__all__ = ["Analyzer", "analyze", "make_analyzer"]

_LONG = 60.0  # seconds

Turns = Sequence[Turn] | str | Path
"""Who speaks when, or the RTTM file that says so."""


class Analyzer:
    """Analyses recordings with one set of experts; loading weights once serves many recordings.

    Answers are about the seven emotions of `affuse.EKMAN`, or about own labels that all experts share: these are fused
    by the product rule, which needs no training, under even label frequencies.

    Parameters
    ----------
    experts : mapping of str to Expert, optional
        Expert by modality ("face", "voice", "text"); the shipped ones that ``fuser`` knows where None.
    window, hop : float, optional
        Seconds; by default windows of 3 s, one a second, shorter where a recording is.
    fuser : NamedFuser, str or Path, optional
        What fuses their answers: any fitted fuser with names, or the folder that one was saved in (``affuse fuse
        --save``, ``affuse tune --save``, `NamedFuser.write`); the shipped one where None, or the product rule for own
        labels.
    transcriber : Transcriber, optional
        Recognises the words of recordings that come without; where None, nobody does.
    prior : Prior, str or Path, optional
        How frequent the labels are held to be before anything is seen: "dialogue", "uniform", "tempered", the file
        of one, or a prior itself; the fuser's default where None.
    context : str, optional
        Where the prior has frequencies or rules by context.
    labels : LabelSpace or sequence of str, optional
        Labels to answer in; where None, the emotions if the labels of all experts mean some, else the labels that the
        experts share.
    label_map : mapping, str or Path, optional
        What own labels mean among the emotions (or ``labels``), such as ``{"engaged": "happiness"}`` for all experts,
        ``{"voice": {"engaged": "happiness"}}`` for one modality, or a TOML file with such lines and tables.
    shared_voice : bool
        Count voice and words for everybody in view, and do not ask who speaks.
    purpose : str, optional
        What the analyses are for, one of `affuse.purpose.PURPOSES`; every result states it.
    exemption : str, optional
        "medical" or "safety": why people are analysed at work or in education.
    weights : str, optional
        Set of the shipped weights: "research", or "commercial" for those that learned from data for commercial use
        alone (`affuse.weight_sets`); the one in use where None.

    Raises
    ------
    ConfigError
        If experts, labels, fuser and prior do not fit each other, or the purpose is forbidden (`affuse.purpose`).
    AssetError
        If a folder holds no fuser.

    Examples
    --------
    >>> from affuse.testing import FakeExpert
    >>> analyzer = Analyzer({"face": FakeExpert("face", {"happiness": 0.8})})
    >>> analyzer.analyze_text("Hello.").summary.label
    'happiness'

    Own labels, on their own and fused through a map:

    >>> study = LabelSpace("study", ("engaged", "frustrated"))
    >>> own = {"voice": FakeExpert("voice", {"engaged": 0.7}, labels=study)}
    >>> Analyzer(own).analyze_text("Hello.").summary.label
    'engaged'
    >>> Analyzer(own, label_map={"engaged": "happiness", "frustrated": "anger"}).analyze_text("Hello.").labels.name
    'ekman'
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
        *,
        labels: LabelSpace | Sequence[str] | None = None,
        label_map: LabelMap | str | Path | None = None,
        shared_voice: bool = False,
        purpose: str | None = None,
        exemption: str | None = None,
        weights: str | None = None,
    ) -> None:
        self.purpose = Purpose(purpose, exemption)
        self.transcriber = transcriber
        self.shared_voice = shared_voice
        self.window = window
        self.hop = hop
        given = read_fuser(fuser)
        if experts is None:
            experts = load_experts(shipped_for(given, weights), weight_set=weights)
        self.experts: dict[str, Expert] = dict(experts)
        _check_experts(self.experts)
        wanted = labels if labels is None or isinstance(labels, LabelSpace) else LabelSpace("own", tuple(labels))
        spaces = expert_spaces(self.experts, label_map, wanted)
        self.labels = answer_space(self.experts, spaces, wanted, given)
        self.fuser = _fuser(given, self.labels, self.experts, weights)
        over = self.fuser.over_emotions() if self.labels == EKMAN else _over(self.fuser, self.labels)
        chosen = None if prior is None else Prior.find(prior, self.labels.labels)
        self._evidence = EvidenceFuser(self.experts, spaces, self.labels, over, chosen, context)
        self.prior = self._evidence.prior
        self.context = context
        self.adaptations: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def from_package(
        cls,
        folder: str | Path,
        window: float | None = None,
        hop: float | None = None,
        language: str | None = None,
        features: Path | None = None,
        prior: Prior | str | Path | None = None,
        context: str | None = None,
        *,
        purpose: str | None = None,
        exemption: str | None = None,
    ) -> Analyzer:
        """An analyzer with the experts and the fuser of a whole system.

        Parameters
        ----------
        folder : str or Path
            What ``affuse export`` wrote.
        window, hop, prior, context, purpose, exemption
            As in `Analyzer`.
        language : str, optional
            Code of the language of the words; recognised where None.
        features : Path, optional
            Table of numbers that a joint expert reads.

        Returns
        -------
        Analyzer

        Raises
        ------
        AssetError
            If the files of the system are not the ones that it names.
        ConfigError
            As of `load_system` and `Analyzer`.
        """
        experts, fuser = load_system(folder, language, features)
        return cls(
            experts, window, hop, fuser, prior=prior, context=context, purpose=purpose, exemption=exemption
        )  # fmt: skip

    def analyze(
        self,
        path: str | Path,
        transcript: str | Path | None = None,
        progress: Progress | None = None,
        turns: Turns | None = None,
        speakers: int | None = None,
    ) -> Analysis:
        """Analyse one file.

        Parameters
        ----------
        path : str or Path
            A video, sound file, picture or transcript.
        transcript : str or Path, optional
            Its words with times.
        progress : callable, optional
            Called with the name of a modality and the share of the recording that it has read, 0…1.
        turns : sequence of Turn, str or Path, optional
            Who speaks when, where that is known; or an RTTM file that says so.
        speakers : int, optional
            How many people speak, 1 to 20; their voices are told apart where nothing else tells who speaks.

        Returns
        -------
        Analysis

        Raises
        ------
        MediaError, TranscriptError
            If the recording or its transcript cannot be read; the message names the file.
        ConfigError
            If the window is longer than the recording, or the number of speakers is out of range.
        AssetError
            If voices are to be told apart, and the speaker encoder is missing.
        """
        return self.analyze_recording(Recording.open(path, transcript=transcript), progress, turns, speakers)

    def analyze_text(self, text: str) -> Analysis:
        """Analyse bare text.

        Parameters
        ----------
        text : str
            At least one word.

        Returns
        -------
        Analysis

        Raises
        ------
        MediaError
            If it is empty.
        """
        if not text.strip():
            raise MediaError("the text is empty; give at least one word")
        return self.analyze_recording(Recording.from_text(text))

    def analyze_recording(
        self,
        recording: Recording,
        progress: Progress | None = None,
        turns: Turns | None = None,
        speakers: int | None = None,
    ) -> Analysis:
        """Analyse an open recording.

        Parameters
        ----------
        recording : Recording
            As `Recording.open` gives it.
        progress, turns, speakers
            As in `analyze`.

        Returns
        -------
        Analysis
        """
        return self.answer(self.observe(recording, progress, turns, speakers))

    def observe(
        self,
        recording: Recording,
        progress: Progress | None = None,
        turns: Turns | None = None,
        speakers: int | None = None,
    ) -> Observation:
        """What the experts find in an open recording; `answer` fuses it.

        Parameters
        ----------
        recording : Recording
            As `Recording.open` gives it.
        progress, turns, speakers
            As in `analyze`.

        Returns
        -------
        Observation
        """
        check_speakers(speakers, self.shared_voice)
        known = read_rttm(turns, recording.name) if isinstance(turns, str | Path) else turns
        timeline = self._timeline(recording)
        recording, wordless = (recording, "") if self.transcriber is None else self.transcriber.fill(recording)
        watches = self._mouth_watches(recording)
        by_channel = cache(partial(channel_turns, recording))
        also = by_channel if self._asks_channels(recording, known) else None
        with recording.sound_kept():
            outputs = read_all(self.experts, recording, timeline, progress, watches, also)
            if wordless and "text" in outputs:
                outputs["text"] = [without_words(output, wordless) for output in outputs["text"]]
            found = Observation(recording, timeline, outputs)
            return self._told_apart(found, known, speakers, watches, by_channel)

    def _asks_channels(self, recording: Recording, turns: Sequence[Turn] | None) -> bool:
        """Whether the channels of the sound may tell who speaks, since nothing that comes before them does."""
        return self._asks_who_speaks and (
            recording.channels == 2 and not turns and not transcript_turns(recording.cues)
        )

    @property
    def _asks_who_speaks(self) -> bool:
        """Whether it matters whose voice is heard: an expert hears, and it is not to count for everybody."""
        return not self.shared_voice and any(hears_only(expert) for expert in self.experts.values())

    def _mouth_watches(self, recording: Recording) -> dict[str, MouthWatch]:
        """Who measures, while an expert follows faces, whose mouth moves with the sound; by the expert's modality."""
        if not self._asks_who_speaks or recording.kind != "video" or not recording.has_sound:
            return {}
        shows = [modality for modality, expert in self.experts.items() if expert.abilities.shows_faces][:1]
        return {modality: MouthWatch(recording, shipped_networks()) for modality in shows}

    def _told_apart(
        self,
        found: Observation,
        turns: Sequence[Turn] | None,
        count: int | None,
        watches: Mapping[str, MouthWatch] = MappingProxyType({}),
        by_channel: Callable[[], Sequence[Turn]] | None = None,
    ) -> Observation:
        """The same with whose voice and whose words are heard, where an expert hears and something tells."""
        if not self._asks_who_speaks:
            return found
        outputs, seen = dict(found.outputs), seen_modality(found.outputs)
        agreement = watches[seen].agreement() if seen is not None and seen in watches else None
        faces = outputs[seen] if seen else []
        speakers, names = find_speakers(found.recording, faces, turns, count, agreement, by_channel)
        if speakers is None:
            return replace(found, one_voice=count is None and not seen)
        if seen:
            outputs[seen] = [replace(own, person=names.get(str(own.person), own.person)) for own in outputs[seen]]
        speech = split_speech(self.experts, found.recording, found.timeline, outputs, speakers)
        return replace(found, outputs=outputs, speech=speech)

    def answer(self, observation: Observation) -> Analysis:
        """The analysis of what the experts found.

        Parameters
        ----------
        observation : Observation
            From `observe`, of this analyzer or of one that it was adapted from.

        Returns
        -------
        Analysis
        """
        long = observation.recording.duration > _LONG
        if long:
            return_memory()
        analysis = assemble(observation, self._evidence, self._settings(observation.timeline))
        if long:  # what is written next is of other sizes again
            return_memory()
        return analysis

    def adapted(self, P: np.ndarray, weights: np.ndarray | None = None, of: str = "person", to: str = "") -> Analyzer:
        """The analyzer for one person, or a collection of recordings, whose shift in log-probability is taken out.

        Parameters
        ----------
        P : array of shape (n, m, k)
            What the experts say, as `probabilities` collects it: a row a stretch of recording; no labels are needed.
        weights : array of shape (n,), optional
            How many independent rows each counts for.
        of : str
            "person"; "member", a person whose emotions are known to be mixed; or "collection", several persons with
            mixed emotions, of whom only what they share is learned.
        to : str
            Who or what it is adapted to, for the answers to name.

        Returns
        -------
        Analyzer
            Another one; this one stays as it is.

        Raises
        ------
        ConfigError
            Where the fuser does not adapt.
        """
        other = copy(self)
        other._evidence = self._evidence.with_fuser(
            self._evidence.fuser.adapt(P, tuple(self.experts), weights, of),
        )
        found = {"to": to or of, **other._evidence.fuser.adapted}
        other.adaptations = (
            *self.adaptations,
            {k: round(v, 6) if isinstance(v, float) else v for k, v in found.items()},
        )
        return other

    def fuse_outputs(
        self,
        outputs: Mapping[str, ExpertOutput],
        timeline: Timeline,
        words: Sequence[str] = (),
        duration: float = np.nan,
        own: np.ndarray | None = None,
    ) -> list[Verdict]:
        """One answer a window, from one output a modality that is about one person or the whole scene.

        Parameters
        ----------
        outputs : mapping of str to ExpertOutput
            Of every expert, by modality.
        timeline : Timeline
            The n windows.
        words : sequence of n str
            What is said in each window, for a prior whose lexicon or rules ask.
        duration : float
            Of the recording in seconds, likewise.
        own : array of shape (n,), optional
            How probable it is that what is heard is of this person; certain where None.

        Returns
        -------
        list of n Verdict

        Raises
        ------
        DataError
            If the output of a modality is missing, or does not cover the timeline.
        """
        return self._evidence.fuse_outputs(outputs, timeline, words, duration, own)

    def probabilities(self, outputs: Mapping[str, ExpertOutput]) -> tuple[np.ndarray, np.ndarray]:
        """What the experts say over the labels of the answer, from one output a modality.

        Parameters
        ----------
        outputs : mapping of str to ExpertOutput
            Of every expert, by modality, about n windows.

        Returns
        -------
        P : array of shape (n, m, k)
            The experts' own probabilities over `labels`; NaN where a modality has no evidence.
        S : array of shape (n, m, 3)
            Judgements of sentiment over `affuse.SENTIMENT`; NaN where an expert judges none.
        """
        return self._evidence.probabilities(outputs)

    def fuse_probabilities(self, P: np.ndarray, S: np.ndarray, about: WindowInfo) -> list[Verdict]:
        """One answer for every row that `probabilities` collects.

        Parameters
        ----------
        P : array of shape (n, m, k)
            Probabilities over `labels`.
        S : array of shape (n, m, 3)
            Judgements of sentiment.
        about : WindowInfo
            What the rows are about.

        Returns
        -------
        list of n Verdict
        """
        return self._evidence.fuse(P, S, about)

    def check_emotions(self) -> None:
        """Refuse to answer in own labels, where true emotions are compared with the answers.

        Raises
        ------
        ConfigError
            If the labels are not those of `affuse.EKMAN`; the message says how to map them.
        """
        if self.labels != EKMAN:
            raise ConfigError(
                f"the experts answer {', '.join(self.labels.labels)}, which are no emotions; store in their package "
                "what they mean: affuse.packages.set_label_map(FOLDER, {...})"
            )

    @property
    def weights(self) -> str | None:
        """Set of the weights of experts and fuser: "research", "commercial" or "mixed"; None where all are others."""
        own = [checksum for expert in self.experts.values() for checksum in expert.sha256.values()]
        # An exported network in INT8 has another checksum than its source, whose set it is told.
        told = [expert.weight_set for expert in self.experts.values()]
        return joint_set([set_of([*own, *([self.fuser.sha256] if self.fuser.sha256 else [])]), *told])

    def _timeline(self, recording: Recording) -> Timeline:
        if recording.duration == 0:
            return Timeline((recording.span,))  # a picture or a bare text: one window of a nominal second
        if self.window is not None and self.window > recording.duration:
            raise ConfigError(
                f"{recording.name}: a window of {self.window:g} s is longer than the recording, "
                f"which lasts {recording.duration:.2f} s"
            )
        window = self.window or min(DEFAULT_WINDOW, recording.duration)
        hop = self.hop or min(DEFAULT_HOP, window)
        speakers = len({cue.speaker for cue in recording.cues} - {None})
        recording.budget.check_windows(recording.name, recording.duration, window, hop, speakers)
        return Timeline.windows(recording.duration, window, hop)

    def _settings(self, timeline: Timeline) -> dict[str, Any]:
        experts = {
            modality: {"name": expert.name, "weights": expert.sha256} | self._meaning(modality)
            for modality, expert in self.experts.items()
        }
        return {
            "window": round(timeline[0].duration, 6),
            "hop": round(timeline[1].start - timeline[0].start, 6) if len(timeline) > 1 else None,
            "experts": experts,
            "fuser": {"name": self.fuser.method, "weights": {"fuser": self.fuser.sha256}},
            "weights": self.weights,
            "prior": self.prior.describe(self.context),
            "adaptation": [dict(found) for found in self.adaptations],
            "conflict": {"sure": SURE},
            **self.purpose.to_dict(),
        }

    def _meaning(self, modality: str) -> dict[str, Any]:
        """What own labels of an expert were taken to mean; nothing where there is no such map."""
        onto = self._evidence.spaces[modality].onto
        return {"label_map": dict(onto)} if onto else {}


def _check_experts(experts: Mapping[str, Any]) -> None:
    if not experts:
        raise ConfigError("an analysis needs at least one expert")
    wrong = [modality for modality, expert in experts.items() if not isinstance(expert, Expert)]
    if wrong:
        raise ConfigError(f"the expert for {wrong[0]} must be a subclass of affuse.experts.Expert")


def _fuser(
    given: NamedFuser | None, labels: LabelSpace, experts: Mapping[str, Expert], weights: str | None
) -> NamedFuser:
    if given is not None:
        return given
    return shipped_fuser(weights) if labels == EKMAN else rule_over(labels, tuple(experts))


def _over(fuser: NamedFuser, labels: LabelSpace) -> NamedFuser:
    """The fuser of own labels. Raises ConfigError where it has others."""
    if fuser.labels != labels.labels:
        raise ConfigError(
            f"the fuser answers {', '.join(fuser.labels)}; the experts answer {', '.join(labels.labels)}: choose a "
            "fuser that was fitted on these labels, or none"
        )
    return fuser


def make_analyzer(
    package: str | Path | None = None,
    chosen: Mapping[str, str] | None = None,
    window: float | None = None,
    hop: float | None = None,
    language: str | None = None,
    features: Path | None = None,
    *,
    fuser: str | Path | None = None,
    prior: Prior | str | Path | None = None,
    context: str | None = None,
    label_map: LabelMap | str | Path | None = None,
    purpose: str | None = None,
    exemption: str | None = None,
    weights: str | None = None,
) -> Analyzer:
    """The analyzer that the options of a command ask for.

    Parameters
    ----------
    package : str or Path, optional
        Folder that ``affuse export`` wrote, whose experts and fuser answer.
    chosen : mapping of str to str, optional
        Experts by modality, as in `load_experts`; without, the shipped ones that the fuser knows.
    fuser : str or Path, optional
        Folder of a fuser instead of the shipped one, or that of the package.
    window, hop, language, features, prior, context, label_map, purpose, exemption, weights
        As in `Analyzer` and `load_experts`.

    Returns
    -------
    Analyzer

    Raises
    ------
    ConfigError
        Where both ``package`` and ``chosen`` are given, and what `load_experts` and `Analyzer` raise.

    Examples
    --------
    >>> make_analyzer(chosen={"text": "text"}, language="en").analyze_text("I love it!").summary.label
    'happiness'
    """
    if package is not None and chosen is not None:
        raise ConfigError("give either --package or --experts; a package says itself which experts it has")
    Purpose(purpose, exemption)  # refused before the experts are loaded
    experts, own = load_parts(package, chosen, language, features, fuser, weights)
    return Analyzer(
        experts, window, hop, own, prior=prior, context=context, label_map=label_map, purpose=purpose,
        exemption=exemption, weights=weights,
    )  # fmt: skip


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
    labels: LabelSpace | Sequence[str] | None = None,
    label_map: LabelMap | str | Path | None = None,
    turns: Turns | None = None,
    speakers: int | None = None,
    shared_voice: bool = False,
    purpose: str | None = None,
    exemption: str | None = None,
    weights: str | None = None,
) -> Analysis:
    """Analyse one recording, or bare text, with the shipped experts or others.

    Parameters
    ----------
    path : str or Path, optional
        A video, sound file, picture or transcript.
    transcript : str or Path, optional
        Its words with times.
    text : str, optional
        Bare text instead of a recording.
    language : str, optional
        Code of the language of the words ("en", "zh"); recognised where None.
    progress : callable, optional
        Called with the name of a modality and the share of the recording that it has read, 0…1.
    turns : sequence of Turn, str or Path, optional
        Who speaks when, where that is known; or an RTTM file that says so.
    speakers : int, optional
        How many people speak, 1 to 20; their voices are told apart where nothing else tells who speaks.
    window, hop, experts, fuser, prior, context, labels, label_map, shared_voice, purpose, exemption, weights
        As in `Analyzer`, which is there for many recordings.

    Returns
    -------
    Analysis

    Raises
    ------
    ConfigError
        Unless exactly one of ``path`` and ``text`` is given, and what `Analyzer` raises.
    MediaError, TranscriptError
        If the recording or its transcript cannot be read.

    Examples
    --------
    >>> answer = analyze(text="I love it!")
    >>> answer.summary.label, answer.summary.sentiment > 0
    ('happiness', True)
    """
    if (path is None) == (text is None):
        raise ConfigError("analyze needs either the path of a recording or a text")
    Purpose(purpose, exemption)  # refused before the experts are loaded
    if experts is None:
        experts, fuser = load_parts(language=language, fuser=fuser, weight_set=weights)
    analyzer = Analyzer(
        experts, window, hop, fuser, prior=prior, context=context, labels=labels, label_map=label_map,
        shared_voice=shared_voice, purpose=purpose, exemption=exemption, weights=weights,
    )  # fmt: skip
    if path is not None:
        return analyzer.analyze(path, transcript, progress, turns, speakers)
    assert text is not None
    return analyzer.analyze_text(text)
