"""Attacks on whole answers: in face, voice or both of a recording, and one model among several that lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.metrics import roc_auc_score
from torch import Tensor

from affuse import weights
from affuse.evaluation.formatting import percent
from affuse.experts.face import FaceExpert
from affuse.experts.voice import VoiceExpert
from research.curves import Finding, Point, of_curves, share
from research.differentiable import DifferentiableGraph
from research.gradient_attacks import Differentiable, pgd

if TYPE_CHECKING:
    from affuse.analyzer.observation import Observation
    from affuse.data.corpora import Dataset
    from affuse.results import Verdict

__all__ = ["answers", "lies", "poisoned"]

_SHARES = (0.2, 1.0)
_SURE = 0.9  # probability of the emotion that a modality lies about
_METHODS = ("mean", "product", "weighted", "stacking", "classwise")
_LEARNED = ("weighted", "stacking", "classwise")

_STRENGTHS = ((1, 60), (2, 50), (4, 40))  # largest change of a pixel of 255, and signal to change in dB
_STEPS = 10
_ENOUGH = 2.0  # lead in log-probability of what is wanted, with which an opponent is content
_ATTACKED: dict[str, tuple[tuple[str, ...], bool]] = {
    "face": (("face",), False),
    "voice": (("voice",), False),
    "both": (("face", "voice"), False),
    "both, to one wrong emotion": (("face", "voice"), True),
}
"""Which modalities are attacked, and whether they are made to say one wrong emotion."""

Rows = tuple[np.ndarray, np.ndarray]


# --- recordings -------------------------------------------------------------------------------------------------------


class _AttackedFace(FaceExpert):
    """The shipped face, whose crops an opponent has changed."""

    opponent: Callable[[np.ndarray], np.ndarray] | None = None

    def _run(self, images: np.ndarray, output: str) -> np.ndarray:
        return super()._run(images if self.opponent is None else self.opponent(images), output)


class _AttackedVoice(VoiceExpert):
    """The shipped voice, whose sound an opponent has changed."""

    opponent: Callable[[np.ndarray], np.ndarray] | None = None

    def classify(self, waveform: np.ndarray) -> np.ndarray:
        return super().classify(waveform if self.opponent is None else self.opponent(waveform))


@dataclass
class _Clip:
    """A recording that an opponent attacks: its label, and the wrong one that it may be made to say."""

    path: Path
    group: str
    label: str
    wrong: str


def answers(data: Path, rows: int) -> Finding:
    """Javanese clips, answers of face and voice together, by what is attacked."""
    from affuse.analyzer import Analyzer
    from affuse.data.corpora import load

    face, voice = _AttackedFace(), _AttackedVoice()
    analyzer = Analyzer({"face": face, "voice": voice}, shared_voice=True)
    dataset = load("javanese_av", data, "dev")
    clips = _clips(dataset)[:rows]
    columns = [analyzer.labels.index(label) for label in dataset.labels.labels]
    y = np.array([dataset.labels.index(clip.label) for clip in clips])
    follow = {name: DifferentiableGraph(weights.shipped(name)) for name in ("face", "voice")}
    clean = [_observed(analyzer, clip) for clip in clips]
    plain = [analyzer.answer(own).summaries[0] for own in clean]
    found: dict[str, list[list[Verdict]]] = {name: [] for name in _ATTACKED}
    for strength in _STRENGTHS:
        for aimed in (False, True):
            seen = []
            for clip in clips:
                _attack(face, voice, follow, clip, strength, aimed)
                seen.append(_observed(analyzer, clip))
            face.opponent = voice.opponent = None
            for name, (modalities, wanted) in _ATTACKED.items():
                if wanted == aimed:
                    mixed = [_mixed(a, b, modalities) for a, b in zip(clean, seen, strict=True)]
                    found[name].append([analyzer.answer(own).summaries[0] for own in mixed])
    return _told(_Right(columns, y), plain, found)


def _clips(dataset: Dataset) -> list[_Clip]:
    names = dataset.labels.labels
    return [
        # Every wrong label in turn
        _Clip(path, group, names[y], names[(y + 1 + i % (len(names) - 1)) % len(names)])
        for i, (path, group, y) in enumerate(zip(dataset.inputs, dataset.groups, dataset.targets.tolist(), strict=True))
    ]


def _observed(analyzer: Any, clip: _Clip) -> Observation:
    from affuse.media import Recording

    recording = Recording.open(clip.path)
    # One window a clip, so that there is one changed sound and not one for every window that overlaps
    whole = copy(analyzer)
    whole.window = whole.hop = recording.duration
    found: Observation = whole.observe(recording)
    return found


def _mixed(clean: Observation, attacked: Observation, modalities: Sequence[str]) -> Observation:
    """What is found where only some modalities are attacked."""
    outputs = {name: (attacked if name in modalities else clean).outputs[name] for name in clean.outputs}
    return replace(clean, outputs=outputs)


def _attack(
    face: _AttackedFace,
    voice: _AttackedVoice,
    graphs: Mapping[str, DifferentiableGraph],
    clip: _Clip,
    strength: tuple[float, float],
    aimed: bool,
) -> None:
    """Let an opponent change whatever both experts see and hear of a clip from now on."""
    levels, ratio = strength
    wanted = clip.wrong if aimed else clip.label

    def seen(crops: np.ndarray) -> np.ndarray:
        y = np.full(len(crops), face.labels.index(wanted))
        x = crops[:, None].astype(np.float32)
        changed = pgd(_asked(graphs["face"], "images"), x, y, levels, (0, 255), _STEPS, aimed=aimed, enough=_ENOUGH)
        return np.round(changed[:, 0]).astype(np.uint8)

    def heard(sound: np.ndarray) -> np.ndarray:
        y = np.array([voice.labels.index(wanted)])
        size = float(np.sqrt((sound**2).mean())) * 10 ** (-ratio / 20)
        x = sound[None].astype(np.float32)
        return pgd(_asked(graphs["voice"], "waveform"), x, y, size, (-1, 1), _STEPS, aimed=aimed, enough=_ENOUGH)[0]

    face.opponent, voice.opponent = seen, heard


def _asked(graph: DifferentiableGraph, name: str) -> Differentiable:
    def ask(x: Tensor) -> Tensor:
        return graph(**{name: x})["probabilities"]

    return ask


@dataclass(frozen=True)
class _Right:
    """Which answers are right: ``columns`` of the labels that the clips have, ``y`` (n,) among them."""

    columns: Sequence[int]
    y: np.ndarray

    def of(self, answered: Sequence[np.ndarray | None]) -> np.ndarray:
        """Whether each of n answers, over the labels of the analysis, is right; no answer is not."""
        return np.array(
            [p is not None and p[self.columns].argmax() == own for p, own in zip(answered, self.y, strict=True)]
        )

    def fused(self, verdicts: Sequence[Verdict]) -> np.ndarray:
        return self.of([verdict.fused for verdict in verdicts])

    def alone(self, verdicts: Sequence[Verdict], modality: str) -> np.ndarray:
        return self.of([verdict.evidence[modality].probabilities for verdict in verdicts])


def _told(right: _Right, plain: Sequence[Verdict], found: Mapping[str, Sequence[Sequence[Verdict]]]) -> Finding:
    """The table and the curves; intervals draw clips, since the clips are of two actors."""
    n = np.arange(len(plain))
    strengths = ["none", *(f"{levels}, {ratio} dB" for levels, ratio in _STRENGTHS)]
    start = share(right.fused(plain), n)
    curves: dict[str, list[Point]] = {name: [start] for name in found}
    rows = [["nothing", "", *_cells(right, plain, start), "", ""]]
    for name, series in found.items():
        for strength, verdicts in zip(strengths[1:], series, strict=True):
            point = share(right.fused(verdicts), n)
            curves[name].append(point)
            noticed = [_noticed(plain, verdicts, about) for about in ("conflict", "confidence")]
            rows.append([name, strength, *_cells(right, verdicts, point), *noticed])
    about = f"{len(plain)} clips of two actors that no expert learned from; intervals draw clips"
    drawn = of_curves((answers.__doc__ or "").rstrip("."), about, "change of face, of voice", strengths, curves)
    header = ["attacked", "change of face, of voice", "face", "voice", "together", "conflict tells", "confidence tells"]
    return replace(drawn, header=header, rows=rows)


def _cells(right: _Right, verdicts: Sequence[Verdict], point: Point) -> list[str]:
    alone = [percent(float(right.alone(verdicts, name).mean())) for name in ("face", "voice")]
    return [*alone, f"{percent(point[0])} ({100 * point[1]:.0f} to {100 * point[2]:.0f})"]


def _noticed(plain: Sequence[Verdict], attacked: Sequence[Verdict], about: str) -> str:
    """Area under the ROC curve of telling attacked clips from clean ones by more conflict, or by less confidence."""
    sign = 1.0 if about == "conflict" else -1.0
    pairs = [(sign * (getattr(own, about) or 0.0), kind) for kind, s in enumerate((plain, attacked)) for own in s]
    scores, kinds = zip(*pairs, strict=True)
    return f"{roc_auc_score(kinds, scores):.3f}"


# --- one model among several ------------------------------------------------------------------------------------------


def poisoned(P: np.ndarray, y: np.ndarray, modality: int, share: float, seed: int = 0) -> Rows:
    """Predictions (n, m, k) in which a modality is sure of a wrong label in a share of the rows, and which these are.

    Examples
    --------
    >>> P, rows = poisoned(np.full((10, 2, 3), 1 / 3), np.zeros(10, int), 0, 0.3)
    >>> int(rows.sum()), np.unique(P[rows, 0].argmax(axis=1) == 0).tolist(), float(P[:, 1].max()) < 0.34
    (3, [False], True)
    """
    rng = np.random.default_rng(seed)
    n, _, k = P.shape
    rows = np.zeros(n, bool)
    rows[rng.choice(n, round(share * n), replace=False)] = True
    said = (y + rng.integers(1, k, n)) % k
    lie = np.full((n, k), (1 - _SURE) / (k - 1))
    lie[np.arange(n), said] = _SURE
    changed = P.copy()
    changed[rows, modality] = lie[rows]
    return changed, rows


def lies(data: Path, rows: int) -> Finding:
    """RAVDESS: three models, of which one lies, fused by what was learned from honest rows, or from rows with lies."""
    from affuse.data.prediction_sets.ravdess_posteriors import read_ravdess_folds
    from affuse.fusion import registry
    from affuse.fusion.explain import conflict

    folds = list(read_ravdess_folds(data).values())
    modalities = folds[0].modalities
    head = ["who lies", "rows", "best other", *_METHODS, *(f"{name}, knows lies" for name in _LEARNED)]
    found: list[list[str]] = []
    honest: dict[tuple[int, str], Any] = {}
    for liar, part in _lies(len(modalities)):
        fused: dict[str, list[np.ndarray]] = {}
        told: list[tuple[np.ndarray, np.ndarray]] = []
        for number, test in enumerate(folds):
            others = [fold for other, fold in enumerate(folds) if other != number]
            P, rows_of_lies = poisoned(test.P, test.targets, liar, part, seed=number)
            told.append((conflict(P), rows_of_lies))
            for i in range(len(modalities)):
                if i != liar or part == 0:
                    fused.setdefault(f"alone {i}", []).append(P[:, i].argmax(axis=1) == test.targets)
            train, y, groups = (
                np.concatenate([getattr(f, name) for f in others]) for name in ("P", "targets", "groups")
            )
            known, _ = poisoned(train, y, liar, part, seed=100 + number)
            for name in _METHODS:
                if (number, name) not in honest:
                    honest[number, name] = registry.make(name).fit(train, y, groups)
                own = honest[number, name].predict_proba(P)
                fused.setdefault(name, []).append(own.argmax(axis=1) == test.targets)
            for name in _LEARNED:
                own = registry.make(name).fit(known, y, groups).predict_proba(P)
                fused.setdefault(f"{name}, knows lies", []).append(own.argmax(axis=1) == test.targets)
        accuracy = {name: float(np.concatenate(hits).mean()) for name, hits in fused.items()}
        best = max(value for name, value in accuracy.items() if name.startswith("alone"))
        cells = [percent(best), *(percent(accuracy[name]) for name in head[3:])]
        found.append([modalities[liar] if part else "nobody", percent(part), *cells, _auroc(told)])
    about = f"{sum(len(f.targets) for f in folds)} clips"
    return Finding((lies.__doc__ or "").rstrip("."), about, [*head, "conflict tells (AUROC)"], found)


def _lies(n: int) -> Iterator[tuple[int, float]]:
    yield 0, 0.0
    for liar in range(n):
        for part in _SHARES:
            yield liar, part


def _auroc(told: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    scores, rows = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return "" if rows.all() or not rows.any() else f"{roc_auc_score(rows, scores):.3f}"
