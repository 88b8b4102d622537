"""From what the experts say to answers: one prior, one fuser, shares, conflict and sentiment of every answer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from affuse.analyzer.observation import mean_of_windows
from affuse.analyzer.spaces import means_emotions
from affuse.analyzer.speech import hears_only
from affuse.errors import ConfigError, DataError
from affuse.experts.base import Expert, ExpertOutput
from affuse.experts.face.pose import head_in_windows, head_over
from affuse.fusion import conflict, conflict_in_words, present
from affuse.fusion.affect import fused_affect
from affuse.fusion.explain import contradiction, log_odds, shares_and_points
from affuse.fusion.named import NamedFuser
from affuse.fusion.priors import Prior, Windows
from affuse.fusion.sentiment import COMPATIBILITY, agree, lean_that_agrees, sentiment_score, trust_that_agrees
from affuse.fusion.spaces import common_emotions, common_sentiment, judges_sentiment, under_common_prior
from affuse.labels import EKMAN, SENTIMENT, LabelSpace, map_probabilities, merge_emotions, to_emotions, to_sentiment
from affuse.results import Evidence, Head, Verdict
from affuse.timeline import Segment, Timeline

__all__ = ["EvidenceFuser", "WindowInfo"]

_SENTIMENT_ONLY = "judges sentiment only"
_NOT_UNDERSTOOD = "says nothing that the fuser has a label for"

_NEARLY = 0.9
"""Share of the longest time that a person is heard in a window, from which on windows count in the whole answer."""

_Answer = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
"""From the modalities (m,) that are kept to probabilities (n, k) and sentiment (n, 3)."""


@dataclass(frozen=True)
class WindowInfo:
    """What n answers are about.

    Parameters
    ----------
    segments : sequence of n Segment
        One for each answer.
    reasons : sequence of m sequences of n str
        Why each modality says nothing in a segment; empty where there is evidence.
    person : str, optional
        Who they are about.
    words : sequence of n str
        What is said in each segment; empty where the prior does not ask.
    duration : float
        Of the recording in seconds.
    own : array of shape (n,), optional
        How probable it is that what is heard is of this person; None where it is not asked.
    affect : array of shape (n, m, 2), optional
        Valence and arousal that experts rate; NaN where they rate none.
    heads : array of shape (n, 4), optional
        Yaw, pitch and roll of the person's head, and how much of the time it is directed at the camera; NaN where it
        is not known.

    Examples
    --------
    >>> WindowInfo([Segment(0.0, 3.0)], [[""], ["silence"]]).reasons[1]
    ['silence']
    """

    segments: Sequence[Segment]
    reasons: Sequence[Sequence[str]]
    person: str | None = None
    words: Sequence[str] = field(default_factory=tuple)
    duration: float = np.nan
    own: np.ndarray | None = None
    affect: np.ndarray | None = None
    heads: np.ndarray | None = None


class EvidenceFuser:
    """Fuses what some experts say into answers over one label space.

    Parameters
    ----------
    experts : mapping of str to Expert
        By modality.
    spaces : mapping of str to LabelSpace
        Labels of every expert, and what they mean among ``labels``.
    labels : LabelSpace
        What is answered: `EKMAN`, or the own labels that the experts share.
    fuser : NamedFuser
        Over ``labels``; knows these modalities, or can be widened by them.
    prior : Prior, optional
        How frequent the labels are held to be before anything is seen; the default of the fuser where None.
    context : str, optional
        Where the prior has frequencies or rules by context.

    Raises
    ------
    ConfigError
        Where two experts would count the same evidence twice, or the fuser does not know a modality.
    """

    def __init__(
        self,
        experts: Mapping[str, Expert],
        spaces: Mapping[str, LabelSpace],
        labels: LabelSpace,
        fuser: NamedFuser,
        prior: Prior | None = None,
        context: str | None = None,
    ) -> None:
        _check_covers(experts)
        self.experts = experts
        self.spaces = spaces
        self.labels = labels
        self.modalities = tuple(experts)
        self.fuser = _widened(experts, fuser)
        self.prior = self.fuser.default_prior if prior is None else prior
        self.context = context
        self.prior.check_context(context)
        self._hears = np.array([hears_only(expert) for expert in experts.values()])
        self._listens = self._hears & np.array(["sound" in expert.abilities.reads for expert in experts.values()])
        # Emotions and sentiment are two views of one answer; own labels imply one only where they mean emotions.
        self._emotional = labels.labels == EKMAN.labels
        self._means_emotions = means_emotions(labels)
        self._implied = _implied_sentiment(labels)

    def with_fuser(self, fuser: NamedFuser) -> EvidenceFuser:
        """The same with an adapted version of its own `fuser`."""
        other = copy(self)
        other.fuser = fuser
        return other

    # --- what the experts say ----------------------------------------------------------------------------------------

    def probabilities(self, outputs: Mapping[str, ExpertOutput]) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities P (n, m, k) and judgements of sentiment S (n, m, 3) of the experts, from one output each.

        P are the experts' own probabilities over the labels of the answer, as the fuser reads them; S is NaN for
        experts that leave sentiment to their labels.
        """
        P = np.stack([self._labels_of(m, outputs[m]) for m in self.modalities], axis=1)
        S = np.stack([self._sentiment_of(m, outputs[m]) for m in self.modalities], axis=1)
        return P, S

    def affect(self, outputs: Mapping[str, ExpertOutput]) -> np.ndarray:
        """Valence and arousal (n, m, 2) that the experts rate, from one output each; NaN where they rate none."""
        return np.stack([_affect_of(outputs[m]) for m in self.modalities], axis=1)

    def reasons(self, outputs: Mapping[str, ExpertOutput]) -> list[Sequence[str]]:
        """Why every modality says nothing, a window each."""
        return [self._reasons(m, outputs[m]) for m in self.modalities]

    def _labels_of(self, modality: str, output: ExpertOutput) -> np.ndarray:
        """Probabilities (n, k) of one modality; NaN for one that judges sentiment only."""
        space, P = self.spaces[modality], output.probabilities
        if judges_sentiment(space):
            return np.full((len(P), len(self.labels)), np.nan)
        own, expected = self.experts[modality].prior, self.fuser.prior_of(modality)
        if self._emotional:
            if own is None or expected is None:
                return merge_emotions(P, space)
            return common_emotions(P, space, own, expected)
        moved = map_probabilities(P, space, self.labels, space.onto)
        if own is None or expected is None:
            return moved
        before = map_probabilities(own, space, self.labels, space.onto)
        known = map_probabilities(np.ones(len(space)), space, self.labels, space.onto) > 0
        return under_common_prior(moved, before, expected, known)

    def _sentiment_of(self, modality: str, output: ExpertOutput) -> np.ndarray:
        """Sentiment (n, 3) of an expert that judges it; NaN for others."""
        space = self.spaces[modality]
        if judges_sentiment(space):
            if not self._emotional:
                return map_probabilities(output.probabilities, space, SENTIMENT)
            common = to_sentiment(self.prior.frequencies_in(self.context))
            own = self.experts[modality].prior
            return common_sentiment(output.probabilities, space, common if own is None else own, common)
        if output.sentiment is not None:
            return output.sentiment
        return np.full((len(output.probabilities), len(SENTIMENT)), np.nan)

    def _reasons(self, modality: str, output: ExpertOutput) -> Sequence[str]:
        if judges_sentiment(self.spaces[modality]):
            return [reason or _SENTIMENT_ONLY for reason in output.reasons]
        return output.reasons

    # --- what is answered --------------------------------------------------------------------------------------------

    def fuse_outputs(
        self,
        outputs: Mapping[str, ExpertOutput],
        timeline: Timeline,
        words: Sequence[str] = (),
        duration: float = np.nan,
        own: np.ndarray | None = None,
    ) -> list[Verdict]:
        """One answer a window, from one output a modality; see `Analyzer.fuse_outputs`.

        ``own`` (n,): how probable it is that what is heard is of this person.
        """
        for modality in self.modalities:
            count = len(outputs[modality].probabilities) if modality in outputs else 0
            if count != len(timeline):
                raise DataError(f"{modality}: the output covers {count} windows; the timeline has {len(timeline)}")
        rated = self.affect(outputs)
        poses = _poses(outputs)
        heads = head_in_windows(poses, timeline.starts, timeline.ends) if len(poses) else None
        about = WindowInfo(list(timeline), self.reasons(outputs), _person(outputs), words, duration, own, rated, heads)
        return self.fuse(*self.probabilities(outputs), about)

    def summarise(
        self,
        outputs: Mapping[str, ExpertOutput],
        timeline: Timeline,
        words: str = "",
        own: np.ndarray | None = None,
        heard_for: np.ndarray | None = None,
    ) -> Verdict:
        """The answer about all windows together: that about the mean of every modality over where it speaks.

        ``heard_for`` (n,): seconds for which the person is heard where others speak too. Then a voice counts where it
        is heard nearly as long as anywhere, since experts read a second of it less well than three, and as surely.
        """
        P, S = self.probabilities(outputs)
        rated = self.affect(outputs)
        if heard_for is not None:
            for j in np.flatnonzero(self._listens):
                short = _short(heard_for, (present(P) | present(S))[:, j])
                P[short, j], S[short, j], rated[short, j] = np.nan, np.nan, np.nan
        heard = (present(P) | present(S))[:, self._hears].any(axis=1)
        whole_own = None if own is None else np.array([own[heard].mean() if heard.any() else 0.0])
        whole = Segment(timeline[0].start, max(s.end for s in timeline))
        reasons = [(_most_common(given),) for given in self.reasons(outputs)]
        heads = head_over(_poses(outputs))[None]
        over_all = mean_of_windows(rated)
        about = WindowInfo([whole], reasons, _person(outputs), [words], whole.duration, whole_own, over_all, heads)
        (summary,) = self.fuse(mean_of_windows(P), mean_of_windows(S), about)
        return summary

    def answer_alone(
        self, modality: str, probabilities: np.ndarray, sentiment: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Answers (n, k) and sentiment (n,) where one modality alone says something, such as about single sentences.

        ``probabilities`` (n, n_labels) and ``sentiment`` (n, 3) are those of its expert.
        """
        n, m, j = len(probabilities), len(self.modalities), self.modalities.index(modality)
        output = ExpertOutput(probabilities, ("",) * n, sentiment)
        P, S = np.full((n, m, len(self.labels)), np.nan), np.full((n, m, len(SENTIMENT)), np.nan)
        P[:, j], S[:, j] = self._labels_of(modality, output), self._sentiment_of(modality, output)
        prior = np.broadcast_to(self.prior.frequencies_in(self.context), (n, len(self.labels)))
        by_themselves = np.full(P.shape, np.nan)
        by_themselves[:, j] = self.fuser.fuse(P[:, [j]], [modality], prior)
        answer, _ = self._agreeing(P, S, by_themselves, prior)
        fused, judged = answer(np.ones(m, dtype=bool))
        return fused, sentiment_score(judged)

    def fuse(self, P: np.ndarray, S: np.ndarray, about: WindowInfo) -> list[Verdict]:
        """One answer a row of P (n, m, k) and S (n, m, 3), which `probabilities` collects."""
        prior = self._priors(P, about)
        by_themselves = self.fuser.alone(P, self.modalities, prior)
        answer, alone = self._agreeing(P, S, by_themselves, prior)
        if about.own is not None:
            answer = self._perhaps_own(answer, P, S, about.own, prior)
        fused, sentiment = answer(np.ones(len(self.modalities), dtype=bool))
        columns = np.where(np.isnan(fused).any(axis=1), 0, np.nan_to_num(fused).argmax(axis=1))
        speaking = present(P) | present(S) if self._emotional else present(P)
        shares, points = shares_and_points(lambda keep: answer(keep)[0], speaking, prior, columns)
        before = log_odds(prior[np.arange(len(P)), columns])
        return self._verdicts(about, alone, fused, sentiment_score(sentiment), (shares, points), before)

    def _perhaps_own(
        self, answer: _Answer, P: np.ndarray, S: np.ndarray, own: np.ndarray, prior: np.ndarray
    ) -> _Answer:
        """An answer where what is heard is of this person with probability ``own`` (n,): a mixture of with and without.

        Where nothing else is there, the answer without is the prior.
        """
        heard = (present(P) | present(S))[:, self._hears].any(axis=1)
        certain = np.where(heard, own, 1.0)
        if np.all(certain == 1):
            return answer

        def mixed(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            theirs, others = answer(keep), answer(keep & ~self._hears)
            return _mixture(theirs[0], others[0], certain, prior), _mixture(theirs[1], others[1], certain, theirs[1])

        return mixed

    def _agreeing(
        self, P: np.ndarray, S: np.ndarray, by_themselves: np.ndarray, prior: np.ndarray
    ) -> tuple[_Answer, np.ndarray]:
        """What is answered when some modalities are kept, and what each (n, m, k) would be answered as by itself."""
        whole = self.fuser.partial(P, self.modalities, np.ones(len(self.modalities), dtype=bool), prior)

        def probabilities(keep: np.ndarray) -> np.ndarray:
            return whole if keep.all() else self.fuser.partial(P, self.modalities, keep, prior)

        if not self._emotional:
            return lambda keep: self._with_sentiment(probabilities(keep), S, keep), by_themselves
        trust = trust_that_agrees(whole, S, by_themselves, prior)
        lean = lean_that_agrees(whole, S, by_themselves, prior, trust)

        def answer(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return agree(probabilities(keep), np.where(keep[:, None], S, np.nan), by_themselves, prior, trust, lean)

        alone = [
            agree(by_themselves[:, j], S[:, [j]], by_themselves[:, [j]], prior, trust, lean)[0]
            for j in range(len(self.modalities))
        ]
        return answer, np.stack(alone, axis=1)

    def _with_sentiment(self, fused: np.ndarray, S: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """An answer in own labels with its sentiment (n, 3): what experts judge, what the labels imply, or NaN."""
        kept = np.where(keep[:, None], S, np.nan)
        judging = present(kept)
        count = judging.sum(axis=1)[:, None]
        total = np.where(judging[:, :, None], kept, 0.0).sum(axis=1)
        mean = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
        return fused, mean if self._implied is None else np.where(count > 0, mean, fused @ self._implied)

    def _verdicts(
        self,
        about: WindowInfo,
        alone: np.ndarray,
        fused: np.ndarray,
        sentiment: np.ndarray,
        decided: tuple[np.ndarray, np.ndarray],
        before: np.ndarray,
    ) -> list[Verdict]:
        each, together = self._fused_affect(about, alone, fused)
        found = _Found(
            alone=alone,
            absent=(~present(alone)).tolist(),
            fused=fused,
            answered=(~np.isnan(fused).any(axis=1)).tolist(),
            sentiment=_known(sentiment),
            affect=_known(each),
            valence=_known(together[:, 0]),
            arousal=_known(together[:, 1]),
            conflict=_known(conflict(alone)),
            contradicts=contradiction(alone, self.labels.labels).tolist(),
            shares=_known(decided[0]),
            points=_known(decided[1]),
            before=before.tolist(),
        )
        return [self._verdict(about, found, i) for i in range(len(about.segments))]

    def _fused_affect(self, about: WindowInfo, alone: np.ndarray, fused: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Valence and arousal of modalities (n, m, 2) and answers (n, 2); NaN where labels mean no emotions."""
        n, m = alone.shape[:2]
        if not self._means_emotions:
            return np.full((n, m, 2), np.nan), np.full((n, 2), np.nan)
        rated = np.full((n, m, 2), np.nan) if about.affect is None else about.affect
        own = None if about.own is None else np.where(self._hears, about.own[:, None], 1.0)
        if not self._emotional:
            alone, fused = to_emotions(alone, self.labels), to_emotions(fused, self.labels)
        return fused_affect(fused, alone, rated, own)

    def _priors(self, P: np.ndarray, about: WindowInfo) -> np.ndarray:
        """Label frequencies (n, k) before anything is seen of each row, with what lexicon and rules add to them."""
        frequencies = np.broadcast_to(self.prior.frequencies_in(self.context), (len(P), len(self.labels)))
        if not self.prior.entries:
            return frequencies
        windows = Windows.of(
            about.words or [""] * len(P),
            about.person,
            [segment.start for segment in about.segments],
            [segment.end for segment in about.segments],
            self.context,
            self.fuser.fuse(P, self.modalities, frequencies),
            about.duration,
        )
        L = np.log(frequencies) + self.prior.log_odds_of(windows)
        moved = np.exp(L - L.max(axis=1, keepdims=True))
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))

    def _verdict(self, about: WindowInfo, found: _Found, i: int) -> Verdict:
        """The answer of one row."""
        segment, heard = about.segments[i], found.sentiment[i]
        evidence = {m: _evidence(found, i, j, about.reasons[j][i]) for j, m in enumerate(self.modalities)}
        speaking = None if about.own is None else float(about.own[i])
        head = None if about.heads is None else _head(about.heads[i])
        if not found.answered[i]:
            return Verdict(segment, about.person, evidence, None, None, None, heard, speaking=speaking, head=head)
        fused, labels = found.fused[i], self.labels.labels
        return Verdict(
            segment=segment,
            person=about.person,
            evidence=evidence,
            fused=fused,
            label=labels[int(fused.argmax())],
            confidence=float(fused.max()),
            sentiment=heard,
            conflict=found.conflict[i],
            conflict_text=conflict_in_words(found.alone[i], self.modalities, labels) if found.contradicts[i] else "",
            prior=found.before[i],
            speaking=speaking,
            valence=found.valence[i],
            arousal=found.arousal[i],
            head=head,
        )


@dataclass(frozen=True)
class _Found:
    """What is known of n answers and m modalities, most of it as lists: arrays give their numbers one by one slowly."""

    alone: np.ndarray
    absent: list[list[bool]]
    fused: np.ndarray
    answered: list[bool]
    sentiment: list[float | None]
    affect: list[Any]
    valence: list[float | None]
    arousal: list[float | None]
    conflict: list[float | None]
    contradicts: list[bool]
    shares: list[Any]
    points: list[Any]
    before: list[float]


def _short(seconds: np.ndarray, says: np.ndarray) -> np.ndarray:
    """Windows (n,) of those that say something in which somebody is heard less long than in the fullest of them."""
    return np.asarray(says & (seconds < _NEARLY * seconds[says].max(initial=0)))


def _affect_of(output: ExpertOutput) -> np.ndarray:
    return np.full((len(output.probabilities), 2), np.nan) if output.affect is None else output.affect


def _poses(outputs: Mapping[str, ExpertOutput]) -> np.ndarray:
    """Seconds and turns (p, 4) of the head of whom the outputs are about."""
    person = _person(outputs)
    return next((o.poses for o in outputs.values() if o.person == person and len(o.poses)), np.empty((0, 4)))


def _head(values: np.ndarray) -> Head | None:
    return None if np.isnan(values).any() else Head(*map(float, values))


def _known(values: np.ndarray) -> list[Any]:
    """Numbers as lists, of the same shape, with None for NaN."""
    known: np.ndarray = values.astype(object)
    known[np.isnan(values)] = None
    return list(known.tolist())


def _evidence(found: _Found, i: int, j: int, reason: str) -> Evidence:
    """What one modality said in one row: its own answer (k,), where it has one, and its share and points, likewise.

    An expert that judges sentiment only has a share as well: sentiment and emotion are of one answer.
    """
    answered = found.answered[i]
    share = found.shares[i][j] if answered else None
    points = found.points[i][j] if answered and share is not None else None
    if found.absent[i][j]:
        return Evidence(None, reason or _NOT_UNDERSTOOD, share, points)
    valence, arousal = found.affect[i][j]
    return Evidence(found.alone[i, j], share=share, points=points, valence=valence, arousal=arousal)


def _mixture(theirs: np.ndarray, others: np.ndarray, own: np.ndarray, nothing: np.ndarray) -> np.ndarray:
    """Distributions (n, k) mixed with weights ``own`` (n,); ``nothing`` (n, k) stands for others that are missing."""
    rest = np.where(np.isnan(others), nothing, others)
    return np.where(np.isnan(theirs), others, own[:, None] * theirs + (1 - own[:, None]) * rest)


def _implied_sentiment(labels: LabelSpace) -> np.ndarray | None:
    """How probable each of `SENTIMENT` is with each of own labels that all mean emotions: (k, 3); else None."""
    return to_emotions(np.eye(len(labels)), labels) @ COMPATIBILITY if means_emotions(labels) else None


def _check_covers(experts: Mapping[str, Expert]) -> None:
    """Raise ConfigError where two experts would count the same evidence twice."""
    for modality, expert in experts.items():
        twice = [m for m in expert.covers if m != modality and m in experts]
        if twice:
            raise ConfigError(
                f"expert {expert.name!r} reads {' and '.join(twice)} itself; another expert for that would count the "
                f"same evidence twice, so leave out {', '.join(twice)}"
            )


def _widened(experts: Mapping[str, Expert], fuser: NamedFuser) -> NamedFuser:
    """The fuser, with the modalities that it does not know and whose experts say under which prior they answer."""
    unknown = [modality for modality in experts if modality not in fuser.modalities]
    strange = [modality for modality in unknown if experts[modality].prior is None]
    if strange:
        raise ConfigError(
            f"the fuser knows {', '.join(fuser.modalities)}; got {', '.join(strange)}: choose experts that it knows, "
            "or a fuser that was fitted on them"
        )
    for modality in unknown:
        fuser = fuser.with_modality(modality)
    return fuser


def _person(outputs: Mapping[str, ExpertOutput]) -> str | None:
    return next((o.person for o in outputs.values() if o.person is not None), None)


def _most_common(reasons: Sequence[str]) -> str:
    """The reason that most windows without evidence give."""
    given = Counter(reason for reason in reasons if reason)
    return max(given, key=lambda reason: given[reason], default="")
