"""From what the experts say to verdicts: one prior, one fuser, shares, conflict and sentiment of every answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field

import numpy as np

from affuse.errors import ConfigError
from affuse.experts.base import Expert, ExpertOutput
from affuse.fusion import conflict, conflict_in_words, present
from affuse.fusion.explain import log_odds, shares_of
from affuse.fusion.named import NamedFuser
from affuse.fusion.priors import Prior, Windows
from affuse.fusion.sentiment import agree, sentiment_score, trust_that_agrees
from affuse.fusion.spaces import check_emotions, common_emotions, common_sentiment, judges_sentiment
from affuse.labels import EKMAN, SENTIMENT, merge_emotions, to_sentiment
from affuse.results import Evidence, Verdict
from affuse.timeline import Segment

__all__ = ["About", "Judge"]

_SENTIMENT_ONLY = "judges sentiment only"
_NOT_UNDERSTOOD = "says nothing that the fuser has a label for"


@dataclass(frozen=True)
class About:
    """What n verdicts are about: n ``segments`` of one ``person``, and why modalities say nothing in each.

    ``reasons`` has n entries for each of m modalities, empty where there is evidence. ``words`` holds what is said in
    each segment, or nothing where the prior does not ask; ``duration`` is that of the recording in seconds.
    """

    segments: Sequence[Segment]
    reasons: Sequence[Sequence[str]]
    person: str | None = None
    words: Sequence[str] = field(default_factory=tuple)
    duration: float = np.nan


class Judge:
    """Fuses what some experts say into verdicts.

    Parameters
    ----------
    experts : mapping of str to Expert
        By modality.
    fuser : NamedFuser
        Any fitted fuser of emotions that knows these modalities.
    prior : Prior, optional
        How frequent the emotions are held to be before anything is seen; the fuser's default where None.
    context : str, optional
        Where the prior has frequencies or rules by context.

    Raises
    ------
    ConfigError
        Where the labels of an expert or of the fuser mean no emotion, two experts would count the same evidence
        twice, or the fuser does not know a modality.
    """

    def __init__(
        self, experts: Mapping[str, Expert], fuser: NamedFuser, prior: Prior | None = None, context: str | None = None
    ) -> None:
        _check_experts(experts)
        self.experts = experts
        self.modalities = tuple(experts)
        self.fuser = _fuser_for(experts, fuser.over_emotions())
        self.prior = self.fuser.default_prior if prior is None else prior
        self.context = context
        self.prior.check_context(context)

    def with_fuser(self, fuser: NamedFuser) -> Judge:
        """The same judge with an adapted version of its own `fuser`."""
        other = copy(self)
        other.fuser = fuser
        return other

    # --- what the experts say ----------------------------------------------------------------------------------------

    def evidence(self, readings: Mapping[str, ExpertOutput]) -> tuple[np.ndarray, np.ndarray]:
        """Emotions P (n, m, 7) and judgements of sentiment S (n, m, 3) of the experts, from one reading a modality.

        P are the experts' own probabilities over `EKMAN`, as the fuser reads them; S is NaN for experts that leave
        sentiment to their emotions.
        """
        P = np.stack([self._emotions(m, readings[m]) for m in self.modalities], axis=1)
        S = np.stack([self._judged(m, readings[m]) for m in self.modalities], axis=1)
        return P, S

    def reasons(self, readings: Mapping[str, ExpertOutput]) -> list[Sequence[str]]:
        """Why every modality says nothing, a window each."""
        return [self._reasons(m, readings[m]) for m in self.modalities]

    def _emotions(self, modality: str, reading: ExpertOutput) -> np.ndarray:
        """Emotions (n, 7) of one modality; NaN for one that judges sentiment only."""
        expert = self.experts[modality]
        if judges_sentiment(expert.labels):
            return np.full((len(reading.probabilities), len(EKMAN)), np.nan)
        own, expected = _own_prior(expert), self.fuser.prior_of(modality)
        if own is None or expected is None:
            return merge_emotions(reading.probabilities, expert.labels)
        return common_emotions(reading.probabilities, expert.labels, own, expected)

    def _judged(self, modality: str, reading: ExpertOutput) -> np.ndarray:
        """Sentiment (n, 3) of an expert that judges it; NaN for others."""
        expert = self.experts[modality]
        if judges_sentiment(expert.labels):
            common = to_sentiment(self.prior.frequencies_in(self.context))
            own = _own_prior(expert)
            return common_sentiment(reading.probabilities, expert.labels, common if own is None else own, common)
        if reading.sentiment is not None:
            return reading.sentiment
        return np.full((len(reading.probabilities), len(SENTIMENT)), np.nan)

    def _reasons(self, modality: str, reading: ExpertOutput) -> Sequence[str]:
        if judges_sentiment(self.experts[modality].labels):
            return [reason or _SENTIMENT_ONLY for reason in reading.reasons]
        return reading.reasons

    # --- what is answered --------------------------------------------------------------------------------------------

    def verdicts(self, P: np.ndarray, S: np.ndarray, about: About) -> list[Verdict]:
        """One verdict a row of P (n, m, 7) and S (n, m, 3), which `evidence` collects."""
        prior = self._priors(P, about)
        by_themselves = self.fuser.alone(P, self.modalities, prior)
        everyone = np.ones(len(self.modalities), dtype=bool)

        whole = self.fuser.partial(P, self.modalities, everyone, prior)
        trust = trust_that_agrees(whole, S, by_themselves, prior)

        def answer(keep: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            emotions = whole if keep.all() else self.fuser.partial(P, self.modalities, keep, prior)
            return agree(emotions, np.where(keep[:, None], S, np.nan), by_themselves, prior, trust)

        fused, sentiment = answer(everyone)
        alone = [
            agree(by_themselves[:, j], S[:, [j]], by_themselves[:, [j]], prior, trust)[0]
            for j in range(len(self.modalities))
        ]
        columns = np.where(np.isnan(fused).any(axis=1), 0, np.nan_to_num(fused).argmax(axis=1))
        shares = shares_of(lambda keep: answer(keep)[0], present(P) | present(S), prior, columns)
        before = log_odds(prior[np.arange(len(P)), columns])
        return self._told(about, np.stack(alone, axis=1), fused, sentiment_score(sentiment), shares, before)

    def _told(
        self,
        about: About,
        alone: np.ndarray,
        fused: np.ndarray,
        sentiment: np.ndarray,
        shares: np.ndarray,
        before: np.ndarray,
    ) -> list[Verdict]:
        divergence = conflict(alone)
        return [
            self._verdict(
                segment,
                about.person,
                alone[i],
                [reasons[i] for reasons in about.reasons],
                fused[i],
                sentiment[i],
                divergence[i],
                shares[i],
                before[i],
            )
            for i, segment in enumerate(about.segments)
        ]

    def _priors(self, P: np.ndarray, about: About) -> np.ndarray:
        """Label frequencies (n, 7) before anything is seen of each row, with what lexicon and rules add to them."""
        frequencies = np.broadcast_to(self.prior.frequencies_in(self.context), (len(P), len(EKMAN)))
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

    def _verdict(
        self,
        segment: Segment,
        person: str | None,
        alone: np.ndarray,
        reasons: Sequence[str],
        fused: np.ndarray,
        sentiment: float,
        divergence: float,
        shares: np.ndarray,
        before: float,
    ) -> Verdict:
        answered = not np.isnan(fused).any()
        evidence = {
            modality: _evidence(alone[i], reasons[i], float(shares[i]) if answered else np.nan)
            for i, modality in enumerate(self.modalities)
        }
        heard = None if np.isnan(sentiment) else float(sentiment)
        if not answered:
            return Verdict(segment, person, evidence, None, None, None, heard)
        return Verdict(
            segment=segment,
            person=person,
            evidence=evidence,
            fused=fused,
            label=EKMAN.labels[int(fused.argmax())],
            confidence=float(fused.max()),
            sentiment=heard,
            conflict=None if np.isnan(divergence) else float(divergence),
            conflict_text=conflict_in_words(alone, self.modalities, EKMAN.labels),
            prior=float(before),
        )


def _evidence(alone: np.ndarray, reason: str, share: float) -> Evidence:
    """What one modality said: its own answer (7,), NaN where it has none, and its share, NaN likewise.

    An expert that judges sentiment only has a share as well: sentiment and emotion are of one answer.
    """
    known = None if np.isnan(share) else share
    if np.isnan(alone).any():
        return Evidence(None, reason or _NOT_UNDERSTOOD, known)
    return Evidence(alone, share=known)


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


def _fuser_for(experts: Mapping[str, Expert], fuser: NamedFuser) -> NamedFuser:
    """The fuser, with the modalities that it does not know and whose experts say under which prior they answer."""
    unknown = [modality for modality in experts if modality not in fuser.modalities]
    strange = [modality for modality in unknown if _own_prior(experts[modality]) is None]
    if strange:
        raise ConfigError(
            f"the fuser knows {', '.join(fuser.modalities)}; got {', '.join(strange)}: choose experts that it knows, "
            "or a fuser that was fitted on them"
        )
    for modality in unknown:
        fuser = fuser.with_modality(modality)
    return fuser


def _own_prior(expert: Expert) -> np.ndarray | None:
    """Label frequencies (k,) under which an expert says that its answers are calibrated; None where it says nothing."""
    prior: np.ndarray | None = getattr(expert, "prior", None)
    return prior
