"""Attacks on the models: accuracy under changes that an opponent has chosen, and under one modality that lies.

``python -m research.attacks --data DIR [--out docs/attacks.md] [--only face] [--rows 150]``

The shipped networks are INT8 and have no gradients, so pictures and sounds are attacked from outside, by asking often:
Square Attack (Andriushchenko et al. 2020, doi:10.1007/978-3-030-58592-1_29), bounded in the largest change of a
sample. Words are attacked by typing mistakes in the words that matter most (TextBugger, Li et al. 2019,
doi:10.14722/ndss.2019.23138). Beside each stands the same change drawn at random, without an opponent. That a whole
modality lies is tried on the published predictions of RAVDESS: it is sure of a wrong emotion in a share of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from affuse.evaluation.formatting import ResultTable, percent
from recipes.command import data_parser, errors_as_sentences
from research.pages import write_between

__all__ = ["STUDIES", "main", "misspelt", "poisoned", "square_attack", "word_attack"]

_GRAY_LEVELS = (1, 2, 4, 8)
_RATIOS = (40, 30, 20)  # dB
_WORDS = (1, 2, 3)
_SHARES = (0.2, 1.0)
_SURE = 0.9  # probability of the emotion that a modality lies about
_SOUNDS = 8  # the voice is slow to ask
_ASKED = {"face": 200, "voice": 40}
_FIRST_SHARE = 0.3  # of a sample that the first proposals change

_METHODS = ("mean", "product", "weighted", "stacking", "classwise")
_LEARNED = ("weighted", "stacking", "classwise")

Ask = Callable[[np.ndarray], np.ndarray]
Rows = tuple[np.ndarray, np.ndarray]


def square_attack(
    ask: Ask, x: np.ndarray, y: np.ndarray, size: float, limits: tuple[float, float], asked: int, seed: int = 0
) -> np.ndarray:
    """Changed inputs that are answered wrongly, where some were found.

    Parameters
    ----------
    ask : callable
        Inputs (n, ...) in, probabilities (n, k) out.
    x, y : array of shape (n, ...), array of int, shape (n,)
        Inputs and their right labels.
    size : float
        Largest change of a number.
    limits : tuple of two floats
        Between which inputs lie.
    asked : int
        How often the model is asked about each input.
    seed : int
        Of what is drawn.

    Returns
    -------
    array of shape (n, ...)

    Examples
    --------
    >>> ask = lambda x: np.stack([x.mean(axis=(1, 2)), 1 - x.mean(axis=(1, 2))], axis=1)
    >>> x = np.full((1, 4, 4), 0.55)
    >>> changed = square_attack(ask, x, np.array([0]), 0.1, (0.0, 1.0), 50)
    >>> bool(ask(changed)[0, 0] < 0.5), float(np.abs(changed - x).max().round(6))
    (True, 0.1)
    """
    rng = np.random.default_rng(seed)
    stripes = (len(x), *([1] * (x.ndim - 2)), x.shape[-1])
    best = np.clip(x + size * rng.choice([-1.0, 1.0], stripes), *limits)
    margin = _margin(ask(best), y)
    for step in range(1, asked):
        left = np.flatnonzero(margin >= 0)
        if not len(left):
            break
        proposed = best[left].copy()
        for row, own in zip(proposed, x[left], strict=True):
            where = _region(rng, row.shape, _FIRST_SHARE * 0.5 ** (5 * step / asked))
            row[where] = np.clip(own[where] + size * rng.choice([-1.0, 1.0]), *limits)
        found = _margin(ask(proposed), y[left])
        better = found < margin[left]
        best[left[better]], margin[left[better]] = proposed[better], found[better]
    return best


def _margin(P: np.ndarray, y: np.ndarray) -> np.ndarray:
    """By how much the right label leads; below 0 the answer is wrong."""
    rows = np.arange(len(y))
    others = P.copy()
    others[rows, y] = -np.inf
    return np.asarray(P[rows, y] - others.max(axis=1))


def _region(rng: np.random.Generator, shape: Sequence[int], share: float) -> tuple[slice, ...]:
    sides = [max(1, round(n * share ** (1 / len(shape)))) for n in shape]
    starts = [int(rng.integers(0, n - side + 1)) for n, side in zip(shape, sides, strict=True)]
    return tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))


def misspelt(word: str) -> str:
    """A word with the first two different neighbours after its first letter exchanged.

    Examples
    --------
    >>> misspelt("happy"), misspelt("sad"), misspelt("so")
    ('hpapy', 'sda', 'so')
    """
    at = next((i for i in range(1, len(word) - 1) if word[i] != word[i + 1]), None)
    return word if at is None else word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def word_attack(ask: Callable[[list[str]], np.ndarray], text: str, y: int, most: int) -> list[str]:
    """A text with 1, 2, … ``most`` words misspelt, each time the one after which the right label leads by least.

    Examples
    --------
    >>> ask = lambda texts: np.array([[0.9, 0.1] if "happy" in t else [0.4, 0.6] for t in texts])
    >>> word_attack(ask, "so happy today", 0, 1)
    ['so hpapy today']
    """
    words, found = text.split(), []
    for _ in range(most):
        tried = [[*words[:i], misspelt(word), *words[i + 1 :]] for i, word in enumerate(words)]
        margins = _margin(ask([" ".join(own) for own in tried]), np.full(len(tried), y))
        words = tried[int(margins.argmin())]
        found.append(" ".join(words))
    return found


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


# --- studies ----------------------------------------------------------------------------------------------------------


def face(data: Path, rows: int) -> ResultTable:
    """Faces of FER+ that are read rightly, by the largest change of a pixel."""
    from affuse.data.corpora import load
    from affuse.packages import load_expert

    expert = load_expert("face")
    faces = load("ferplus", data, "dev")
    y = faces.targets if faces.targets.ndim == 1 else faces.targets.argmax(axis=1)
    order = [expert.labels.labels.index(label) for label in faces.labels.labels]

    def ask(x: np.ndarray) -> np.ndarray:
        return np.asarray(expert.classify(np.round(x).astype(np.uint8)))[:, order]

    x = np.asarray(faces.inputs, dtype=np.float32)
    right = np.flatnonzero(_margin(ask(x[: 4 * rows]), y[: 4 * rows]) > 0)[:rows]
    x, y = x[right], y[right]
    table = ResultTable(["largest change of a pixel (of 255)", "random", "attacked"], f"{len(x)} faces")
    for levels in _GRAY_LEVELS:
        noise = np.clip(x + levels * np.random.default_rng(0).choice([-1.0, 1.0], x.shape), 0, 255)
        attacked = square_attack(ask, x, y, levels, (0, 255), _ASKED["face"])
        table.add(str(levels), *_right(ask, y, noise, attacked))
    return table


def _right(ask: Ask, y: np.ndarray, *versions: np.ndarray) -> list[str]:
    return [percent(float((_margin(ask(version), y) > 0).mean())) for version in versions]


def voice(data: Path, rows: int) -> ResultTable:
    """Clips of RAVDESS that are heard rightly, by the ratio of signal to change."""
    from affuse.data.corpora import load
    from affuse.evaluation.experts import waveform
    from affuse.packages import load_expert

    expert = load_expert("voice")
    clips = load("ravdess", data, "dev")
    order = [expert.labels.labels.index(label) for label in clips.labels.labels]

    def ask(x: np.ndarray) -> np.ndarray:
        return np.stack([expert.classify(own.astype(np.float32))[order] for own in x])

    chosen = np.random.default_rng(0).permutation(len(clips.inputs))
    results: dict[int, list[tuple[bool, bool]]] = {ratio: [] for ratio in _RATIOS}
    for i in chosen:
        x, y = waveform(clips.inputs[i])[None].astype(float), np.array([int(clips.targets[i])])
        if len(results[_RATIOS[0]]) == min(rows, _SOUNDS) or _margin(ask(x), y)[0] <= 0:
            continue
        for ratio, own in results.items():
            size = float(np.sqrt((x**2).mean())) * 10 ** (-ratio / 20)
            noise = np.clip(x + size * np.random.default_rng(0).choice([-1.0, 1.0], x.shape), -1, 1)
            attacked = square_attack(ask, x, y, size, (-1, 1), _ASKED["voice"])
            own.append((bool(_margin(ask(noise), y)[0] > 0), bool(_margin(ask(attacked), y)[0] > 0)))
    table = ResultTable(["signal to change (dB)", "random", "attacked"], f"{len(results[_RATIOS[0]])} clips")
    for ratio, found in results.items():
        table.add(str(ratio), *(percent(float(np.mean(column))) for column in zip(*found, strict=True)))
    return table


def text(data: Path, rows: int) -> ResultTable:
    """Lines of MELD that are read rightly, by the number of words that are misspelt."""
    from affuse.data.corpora import load
    from affuse.packages import load_expert

    expert = load_expert("text").in_language("en")
    lines = load("meld", data, "dev")
    order = [expert.labels.labels.index(label) for label in lines.labels.labels]

    def ask(texts: list[str]) -> np.ndarray:
        return np.asarray(expert.classify(texts))[:, order]

    y = np.asarray(lines.targets)
    long = [i for i, line in enumerate(lines.inputs) if len(line.split()) >= 5]
    right = [i for i, own in zip(long, _margin(ask([lines.inputs[i] for i in long]), y[long]), strict=True) if own > 0]
    right = right[:rows]
    attacked = [word_attack(ask, lines.inputs[i], int(y[i]), max(_WORDS)) for i in right]
    table = ResultTable(["words misspelt", "random", "attacked"], f"{len(right)} lines")
    for count in _WORDS:
        noise = [_misspelt_at_random(lines.inputs[i], count, seed=i) for i in right]
        versions = (noise, [own[count - 1] for own in attacked])
        table.add(str(count), *(percent(float((_margin(ask(own), y[right]) > 0).mean())) for own in versions))
    return table


def _misspelt_at_random(line: str, count: int, seed: int) -> str:
    words = line.split()
    for i in np.random.default_rng(seed).choice(len(words), min(count, len(words)), replace=False):
        words[i] = misspelt(words[i])
    return " ".join(words)


def fusion(data: Path, rows: int) -> ResultTable:
    """RAVDESS: three models, of which one lies, fused by what was learned from honest rows, or from rows with lies."""
    from affuse.data.prediction_sets.ravdess_posteriors import read_ravdess_folds
    from affuse.fusion import registry
    from affuse.fusion.explain import conflict

    folds = list(read_ravdess_folds(data).values())
    modalities = folds[0].modalities
    head = ["who lies", "rows", "best other", *_METHODS, *(f"{name}, knows lies" for name in _LEARNED)]
    table = ResultTable([*head, "conflict tells (AUROC)"], f"{sum(len(f.targets) for f in folds)} clips")
    honest: dict[tuple[int, str], Any] = {}
    for liar, share in _lies(len(modalities)):
        fused: dict[str, list[np.ndarray]] = {}
        told: list[tuple[np.ndarray, np.ndarray]] = []
        for number, test in enumerate(folds):
            others = [fold for other, fold in enumerate(folds) if other != number]
            P, rows_of_lies = poisoned(test.P, test.targets, liar, share, seed=number)
            told.append((conflict(P), rows_of_lies))
            for i in range(len(modalities)):
                if i != liar or share == 0:
                    fused.setdefault(f"alone {i}", []).append(P[:, i].argmax(axis=1) == test.targets)
            train, y, groups = (
                np.concatenate([getattr(f, name) for f in others]) for name in ("P", "targets", "groups")
            )
            known, _ = poisoned(train, y, liar, share, seed=100 + number)
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
        table.add(modalities[liar] if share else "nobody", percent(share), *cells, _auroc(told))
    return table


def _lies(n: int) -> Iterator[tuple[int, float]]:
    yield 0, 0.0
    for liar in range(n):
        for share in _SHARES:
            yield liar, share


def _auroc(told: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    scores, rows = (np.concatenate(parts) for parts in zip(*told, strict=True))
    return "" if rows.all() or not rows.any() else f"{roc_auc_score(rows, scores):.3f}"


STUDIES: dict[str, Callable[[Path, int], ResultTable]] = {"face": face, "voice": voice, "text": text, "fusion": fusion}
"""What is attacked, by name."""


def main() -> None:
    """Attack, and print the tables or put them into a page."""
    parser = data_parser(__doc__)
    parser.add_argument("--only", action="append", choices=list(STUDIES))
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    parts = []
    with errors_as_sentences(parser):
        for name, study in STUDIES.items():
            if not chosen.only or name in chosen.only:
                table = study(chosen.data, chosen.rows)
                parts.append(f"## {study.__doc__}\n\n{table.title}.\n\n{table.markdown()}\n")
        found = "\n".join(parts)
        if chosen.out is not None:
            write_between(chosen.out, "attacks", found.strip())
    if chosen.out is None:
        print(found)


if __name__ == "__main__":
    main()
