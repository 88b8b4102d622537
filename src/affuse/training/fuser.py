"""Recipe of the shipped fuser: temperatures, weights and the conflict threshold from the experts' held-out answers.

``python -m affuse.training.fuser --runs runs --out runs/fuser`` writes the folder ``runs/fuser/fuser``, which is a
fuser as ``affuse fuse --save`` writes one.

No corpus at hand shows all three modalities of the same moment to experts that never saw it. The recipe therefore
pairs the experts' held-out answers by label: a label is drawn, and then, for every modality by itself, a held-out row
of that label. Rows paired like this are independent given the label, which is what the product rule assumes; real
modalities are a little less so, which is why the weights are capped at 1 and shrunk towards it. Every modality is
also left out at random, as in real recordings. How often each emotion is to be expected is read off held-out rows of
dialogue (MELD), since corpora of acted voices are balanced by hand. One half of the held-out groups teaches, the other
half reports.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from affuse.evaluation import classification_report
from affuse.fusion import CommonCausePool, NamedFuser, conflict, present, soften
from affuse.fusion.calibrated import fit_temperature, fit_weights
from affuse.labels import EKMAN, FERPLUS, SMP2020, VOICE, LabelSpace, merge_emotions, to_emotions

__all__ = ["HeldOut", "learn", "named", "pair_by_label", "read_held_out"]

_MISSING_SHARE = 0.3
_N_ROWS = 20_000
_SHRINKAGE = 50.0
# Probability, before anything is seen, that face, voice and words of a moment express different emotions. It is the one
# number here that is assumed: rows paired by label cannot tell, and acted corpora hold no such moments.
_SEPARATE = 0.1
# A conflict is worth a word where it exceeds what eight in ten moments show that mean the same label.
_CONFLICT_QUANTILE = 0.8


@dataclass(frozen=True)
class HeldOut:
    """Honest answers of one expert: P (n, 7) over `EKMAN`, targets (n,) and a mask (n,) of the half that teaches."""

    P: np.ndarray
    targets: np.ndarray
    teaches: np.ndarray

    def half(self, teaches: bool) -> tuple[np.ndarray, np.ndarray]:
        """P and targets of the half that teaches, or of the one that reports."""
        chosen = self.teaches == teaches
        return self.P[chosen], self.targets[chosen]


def read_held_out(path: Path, labels: LabelSpace, prefix: str = "") -> HeldOut:
    """Read the ``held_out.npz`` of a run and move its labels onto the common seven."""
    with np.load(path, allow_pickle=False) as arrays:
        P, targets = arrays[f"{prefix}probabilities"], arrays[f"{prefix}targets"]
        groups = arrays["groups"] if "groups" in arrays else np.arange(len(targets))
    onto = to_emotions(np.eye(len(labels)), labels).argmax(axis=1)
    _, order = np.unique(groups, return_inverse=True)
    half = np.random.default_rng(0).permutation(order.max() + 1) % 2 == 0
    return HeldOut(merge_emotions(P, labels), onto[targets], half[order])


def pair_by_label(
    halves: Mapping[str, tuple[np.ndarray, np.ndarray]], prior: np.ndarray, n: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw n labels from ``prior``, for each a row of that label from every modality: P (n, m, k) with gaps, y (n,)."""
    y = rng.choice(len(prior), size=n, p=prior)
    P = np.empty((n, len(halves), len(prior)))
    for j, (answers, targets) in enumerate(halves.values()):
        for label in range(len(prior)):
            drawn = np.flatnonzero(y == label)
            P[drawn, j] = answers[rng.choice(np.flatnonzero(targets == label), size=len(drawn))]
    missing = rng.random((n, len(halves))) < _MISSING_SHARE
    missing[missing.all(axis=1), rng.integers(len(halves))] = False
    P[missing] = np.nan
    return P, y


def learn(experts: Mapping[str, HeldOut], prior: np.ndarray) -> NamedFuser:
    """Fit the pool on one half and measure it on the other; thresholds and figures are in the notes.

    ``prior`` (7,) is how often the emotions occur in recordings of people, before anything is seen.
    """
    rng = np.random.default_rng(1)
    teaching = {name: held_out.half(True) for name, held_out in experts.items()}
    counts = {name: np.bincount(y, minlength=len(EKMAN)) + 1.0 for name, (_, y) in teaching.items()}
    priors = np.array([c / c.sum() for c in counts.values()])
    temperatures = np.array([fit_temperature(P, y) for P, y in teaching.values()])
    P, y = pair_by_label(teaching, prior, _N_ROWS, rng)
    weights = np.minimum(fit_weights(soften(P, temperatures), y, priors, prior, _SHRINKAGE), 1.0)
    pool = CommonCausePool.of(temperatures, weights, priors, prior, _SEPARATE)
    fuser = named(pool, tuple(experts), priors, prior)
    reported = pair_by_label({name: held_out.half(False) for name, held_out in experts.items()}, prior, _N_ROWS, rng)
    thresholds = _thresholds(fuser.alone(P, fuser.modalities))
    return replace(
        fuser, notes={**fuser.notes, "conflict_thresholds": thresholds, "measured": _measure(fuser, *reported)}
    )


def named(pool: CommonCausePool, modalities: tuple[str, ...], priors: np.ndarray, prior: np.ndarray) -> NamedFuser:
    """The pool with its names, the priors (m, 7) of its modalities, and the prior (7,) of its answers: dialogue's."""
    notes = {
        "priors": dict(zip(modalities, priors.tolist(), strict=True)),
        "prior": {"name": "dialogue", "frequencies": prior.tolist()},
    }
    return NamedFuser(pool, modalities, EKMAN.labels, "common_cause", notes)


def _thresholds(P: np.ndarray) -> dict[str, float]:
    """Conflict that is remarkable, by the number of modalities that speak: two against one is never as far as 1."""
    divergence, speakers = conflict(P), present(P).sum(axis=1)
    return {str(n): float(np.quantile(divergence[speakers == n], _CONFLICT_QUANTILE)) for n in range(2, P.shape[1] + 1)}


def _measure(fuser: NamedFuser, P: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    P, y = P[present(P).all(axis=1)], y[present(P).all(axis=1)]

    def facts(answers: np.ndarray) -> dict[str, float]:
        report = classification_report(answers, y, EKMAN.labels)
        return {key: round(report[key], 4) for key in ("accuracy", "uar", "ece")}

    alone = fuser.alone(P, fuser.modalities)
    single = {name: facts(alone[:, j]) for j, name in enumerate(fuser.modalities)}
    return {"n": len(y), "fused": facts(fuser.fuse(P, fuser.modalities)), **single}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True, help="folder with the runs face, voice, text_en, text_zh")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    options = parser.parse_args()
    runs: Path = options.runs
    english = read_held_out(runs / "text_en" / "held_out.npz", EKMAN)
    chinese = read_held_out(runs / "text_zh" / "held_out.npz", SMP2020, prefix="emotion_")
    text = HeldOut(*(np.concatenate(pair) for pair in zip(_fields(english), _fields(chinese), strict=True)))
    learnt = learn(
        {
            "face": read_held_out(runs / "face" / "held_out.npz", FERPLUS),
            "voice": read_held_out(runs / "voice" / "held_out.npz", VOICE),
            "text": text,
        },
        dialogue_frequencies(runs / "text_en" / "held_out.npz"),
    )
    learnt.write(options.out / "fuser")
    print(json.dumps(learnt.notes["measured"], indent=2), "weights", learnt.fuser.weights_.tolist())


def dialogue_frequencies(path: Path) -> np.ndarray:
    """How often people in dialogue show each emotion (7,): the labels of held-out MELD rows, with one more of each."""
    with np.load(path, allow_pickle=False) as arrays:
        targets = arrays["targets"][arrays["corpus"] == "meld"]
    counts = np.bincount(targets, minlength=len(EKMAN)) + 1.0
    return np.asarray(counts / counts.sum())


def _fields(held_out: HeldOut) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return held_out.P, held_out.targets, held_out.teaches


if __name__ == "__main__":
    _main()
