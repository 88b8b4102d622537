"""From the multilingual network's logits to its answers: temperatures, thresholds, and the mixture of its heads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import expit
from torch import nn

from affuse.data.corpora.brighter import LANGUAGES, MARKS
from affuse.fusion.temperature import fit_temperature
from affuse.labels import EKMAN, to_sentiment
from affuse.training.calibration import class_offsets
from recipes.text_en_data import POLAR as ENDS
from recipes.text_multi_data import DOMAINS, EMOTIONAL, POLAR, MultiRows
from recipes.text_multi_grams import GramModels, Mixture, fit_mixture
from recipes.text_multi_network import MultiNetwork

__all__ = ["Answers", "Calibration", "calibrate", "thresholds"]

_AVERAGE = {"comments": "macro", "dialogue": "weighted", "microblogs": "macro"}
"""The F1 that a domain is scored by, for which rare emotions get offsets; the others are scored by accuracy."""

_NEUTRAL = EKMAN.index("neutral")
_POSTS = DOMAINS.index("posts")
_FROM_MARKS = [MARKS.index(label) if label in MARKS else len(MARKS) for label in EKMAN.labels]
_STEPS = np.linspace(0.05, 0.95, 37)
_WORTH = 100  # rows of the language that those of all languages together count for, where a threshold is chosen


@dataclass(frozen=True)
class Calibration:
    """What held-out rows say of the heads.

    ``emotion`` (5,) are temperatures and ``offsets`` (5, 7) of `EMOTIONAL`, ``sentiment`` (8,) temperatures of
    `DOMAINS`; ``mixture`` joins the network's marks with those of n-grams, and ``cuts`` (28, 6) are the probabilities
    from which a mark is answered, by language; ``shares`` (8,) are those of the domains in training.
    """

    emotion: np.ndarray
    offsets: np.ndarray
    sentiment: np.ndarray
    mixture: Mixture
    cuts: np.ndarray
    shares: np.ndarray


def calibrate(logits: dict[str, np.ndarray], rows: MultiRows, shares: np.ndarray, grams: GramModels) -> Calibration:
    """Learn all of it on held-out ``rows``, whose logits are given by head."""
    emotion, offsets = np.ones(len(EMOTIONAL)), np.zeros((len(EMOTIONAL), len(EKMAN)))
    sentiment = np.ones(len(DOMAINS))
    for place, name in enumerate(DOMAINS):
        mine = rows.domains == place
        if name in EMOTIONAL and mine.any():
            z, y = logits["emotions"][mine, place], rows.emotions[mine]
            emotion[place] = fit_temperature(z, y)
            if name in _AVERAGE:
                offsets[place] = _offsets(z / emotion[place], y, _AVERAGE[name])
        known = mine & (rows.sentiments >= 0)
        if known.any():
            z, y = logits["sentiments"][known, place], rows.sentiments[known]
            if name in POLAR:
                z, y = z[:, ENDS], y // 2
            sentiment[place] = fit_temperature(z, y)
    posts = np.flatnonzero(rows.domains == _POSTS)
    marks, languages = rows.marks[posts], rows.languages[posts]
    both = logits["marks"][posts], grams.logits([rows.texts[i] for i in posts], languages)
    mixture = fit_mixture(*both, marks, languages)
    cuts = thresholds(expit(mixture.mixed(*both, languages)), marks, languages)
    return Calibration(emotion, offsets, sentiment, mixture, cuts, shares)


def _offsets(z: np.ndarray, y: np.ndarray, average: str) -> np.ndarray:
    """Offsets (7,) of labels that occur; 0 of the others, which no score counts."""
    seen = np.unique(y)
    offsets = np.zeros(len(EKMAN))
    offsets[seen] = class_offsets(z[:, seen], np.searchsorted(seen, y), average=average)
    return offsets


def thresholds(P: np.ndarray, marks: np.ndarray, languages: np.ndarray) -> np.ndarray:
    """From which probability a mark is answered (28, 6), so that the F1 of held-out rows is highest.

    A language has about a hundred held-out rows. The counts of all languages together, scaled to a hundred rows, are
    added to its own (an empirical prior), so that a mark which it hardly holds has the common threshold.
    """
    cuts = np.full((len(LANGUAGES), len(MARKS)), 0.5)
    for mark in range(len(MARKS)):
        asked = marks[:, mark] >= 0
        pooled = _counts(P[asked, mark], marks[asked, mark]) / max(1, asked.sum()) * _WORTH
        for place in range(len(LANGUAGES)):
            mine = asked & (languages == place)
            hits, answered, true = _counts(P[mine, mark], marks[mine, mark]) + pooled
            cuts[place, mark] = _STEPS[np.argmax(2 * hits / (answered + true))]
    return cuts


def _counts(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rows hit, answered and true (3, steps), by threshold."""
    answered = p[:, None] >= _STEPS
    true = (y == 1)[:, None]
    return np.stack([(answered & true).sum(axis=0), answered.sum(axis=0), np.full(len(_STEPS), true.sum())]).astype(
        float
    )


class Answers(nn.Module):
    """What is exported: token ids and mask (n, t) and buckets of n-grams (n, m) in, the answers of all heads out.

    Calibrated emotions (n, 7), sentiment (n, 3), embedding (n, d), languages (n, 28) and marks (n, 6); a mark is
    answered from one half upwards.

    Every kind of text has its own idea of the emotions. A gate predicts the kind and mixes them (Jacobs et al. 1991,
    doi:10.1162/neco.1991.3.1.79), as if all kinds were equally likely: their shares in training are divided out. Marks
    become emotions on the condition that a text has one at most: a softmax over their logits and 0 for neutral.
    """

    def __init__(self, network: MultiNetwork, calibration: Calibration, grams: GramModels) -> None:
        super().__init__()
        self.network = network
        # A row a bucket, so that those of a text are looked up at once.
        table = grams.weights.transpose(2, 0, 1).reshape(grams.weights.shape[2], -1)
        self.register_buffer("grams", torch.from_numpy(np.ascontiguousarray(table)))
        self.register_buffer("steps", _floats(grams.steps))
        self.register_buffer("intercepts", _floats(grams.intercepts))
        self.register_buffer("weights", _floats(calibration.mixture.weights))
        self.register_buffer("mark_offsets", _floats(calibration.mixture.offsets[:, None]))
        self.register_buffer("log_shares", _floats(np.log(calibration.shares)))
        self.register_buffer("emotion", _floats(calibration.emotion[:, None]))
        self.register_buffer("offsets", _floats(calibration.offsets))
        self.register_buffer("sentiment", _floats(calibration.sentiment[:, None]))
        self.register_buffer("cuts", _floats(np.log(calibration.cuts / (1 - calibration.cuts))))
        self.register_buffer("implied", _floats(to_sentiment(np.eye(len(EKMAN)))))

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, buckets: torch.Tensor) -> tuple[torch.Tensor, ...]:
        embedding, logits = self.network(ids, mask)
        gate = torch.softmax(logits["domain"] - self.log_shares, dim=1).unsqueeze(2)
        kinds = torch.softmax(logits["emotions"] / self.emotion + self.offsets, dim=2)
        languages = torch.softmax(logits["language"], dim=1)
        marks = self._marks(logits["marks"], buckets, languages)
        posts = torch.softmax(torch.cat([marks, torch.zeros_like(marks[:, :1])], dim=1)[:, _FROM_MARKS], dim=1)
        kinds = torch.cat([kinds, posts.unsqueeze(1)], dim=1)
        emotional = torch.cat([gate[:, : len(EMOTIONAL)], gate[:, _POSTS:]], dim=1)
        emotions = (kinds * emotional).sum(dim=1) / emotional.sum(dim=1)
        marked = torch.sigmoid(marks - languages @ self.cuts)
        return emotions, self._sentiment(logits["sentiments"], emotions, posts, gate), embedding, languages, marked

    def _marks(self, network: torch.Tensor, buckets: torch.Tensor, languages: torch.Tensor) -> torch.Tensor:
        """Logits of marks (n, 6), joined for every language and averaged by how likely a text is in each."""
        rows = self.grams[buckets].float()
        n_buckets = torch.ones_like(rows[:, :, 0]).sum(dim=1).clamp(min=1)
        sums = (rows.sum(dim=1) / n_buckets.sqrt().unsqueeze(1)).unflatten(1, self.steps.shape)
        grams = sums * self.steps + self.intercepts
        mixed = self.weights[:, :1] * network.unsqueeze(1) + self.weights[:, 1:] * grams + self.mark_offsets
        return (mixed * languages.unsqueeze(2)).sum(dim=1)

    def _sentiment(
        self, logits: torch.Tensor, emotions: torch.Tensor, posts: torch.Tensor, gate: torch.Tensor
    ) -> torch.Tensor:
        """Sentiment (n, 3). Reviews know no neutral: the emotions say how likely that is; posts have emotions alone."""
        logits = logits / self.sentiment
        three = torch.softmax(logits[:, : len(EMOTIONAL)], dim=2)
        neutral = emotions[:, _NEUTRAL : _NEUTRAL + 1]
        parts = [three]
        for name in POLAR:
            two = torch.softmax(logits[:, DOMAINS.index(name)][:, ENDS], dim=1) * (1 - neutral)
            parts.append(torch.cat([two[:, :1], neutral, two[:, 1:]], dim=1).unsqueeze(1))
        parts.append((posts @ self.implied).unsqueeze(1))
        return (torch.cat(parts, dim=1) * gate).sum(dim=1)


def _floats(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
