"""Attacks on the models: accuracy under changes that an opponent has chosen, and under one modality that lies.

``python -m research.attacks --data DIR [--out docs] [--only face] [--rows 150] [--wordnet FOLDER]``

Pictures and sounds are changed by at most so much, by an opponent who only asks, often (Square Attack, Andriushchenko
et al. 2020, doi:10.1007/978-3-030-58592-1_29), and by one who has the weights and follows their gradients
(`research.gradient_attacks`). Words are attacked by typing mistakes in the words that matter most (TextBugger, Li et
al. 2019, doi:10.14722/ndss.2019.23138), and by synonyms out of WordNet (`research.word_substitutions`). Beside each
stands the same change drawn at random, without an opponent. Whole answers are attacked in face, voice or both. That a
whole modality lies is tried on the published predictions of RAVDESS: it is sure of a wrong emotion in a share of the
rows.

``--out`` names the folder of attacks.json, which keeps what was found, of attacks.md and of attacks.png.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from affuse import weights
from affuse.errors import ConfigError
from affuse.files import write_json
from recipes.command import data_parser, errors_as_sentences
from research.attacks_on_answers import answers, lies
from research.curves import Finding, Point, draw, of_curves, share
from research.differentiable import DifferentiableGraph
from research.gradient_attacks import fgsm, pgd
from research.pages import write_between
from research.word_substitutions import Synonyms, WordNet, places, substituted, substituted_at_random

__all__ = ["STUDIES", "main", "misspelt", "square_attack", "substitutions", "word_attack"]

_GRAY_LEVELS = (1, 2, 4, 8)
_RATIOS = (60, 50, 40)  # dB
_WORDS = (1, 2, 3)
_CLIPS = 12  # of each actor
_ASKED = 200
_STEPS = 10
_ENOUGH = 1.0  # lead in log-probability of a wrong label, which rounding does not undo
_FIRST_SHARE = 0.3  # of a sample that the first proposals change
_STEP = 1 / 32768  # between two numbers of 16-bit sound

_KINDS = ("random", "one step of the gradient", f"{_STEPS} steps of the gradient")
_BY_ASKING = "by asking"

Ask = Callable[[np.ndarray], np.ndarray]


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


# --- studies ----------------------------------------------------------------------------------------------------------


def face(data: Path, rows: int) -> Finding:
    """Faces of FER+ that are read rightly, by the largest change of a pixel."""
    from affuse.data.corpora import load
    from affuse.packages import load_expert

    expert, graph = load_expert("face"), DifferentiableGraph(weights.shipped("face"))
    faces = load("ferplus", data, "dev")
    y = faces.targets if faces.targets.ndim == 1 else faces.targets.argmax(axis=1)
    order = [expert.labels.labels.index(label) for label in faces.labels.labels]

    def ask(x: np.ndarray) -> np.ndarray:
        return np.asarray(expert.classify(np.round(x).astype(np.uint8)))[:, order]

    def follow(x: Tensor) -> Tensor:
        return graph(images=x[:, None])["probabilities"][:, order]

    x = np.asarray(faces.inputs, dtype=np.float32)
    right = np.flatnonzero(_margin(ask(x[: 4 * rows]), y[: 4 * rows]) > 0)[:rows]
    x, y = x[right], y[right]
    curves: dict[str, list[Point]] = {kind: [] for kind in (*_KINDS, _BY_ASKING)}
    for levels in _GRAY_LEVELS:
        versions = _changed(follow, x, y, levels, (0, 255))
        versions[_BY_ASKING] = square_attack(ask, x, y, levels, (0, 255), _ASKED)
        for kind, version in versions.items():
            curves[kind].append(share(_margin(ask(version), y) > 0, np.arange(len(y))))
    return of_curves(_title(face), f"{len(x)} faces", "largest change of a pixel (of 255)", _GRAY_LEVELS, curves)


def _title(study: Callable[..., Finding]) -> str:
    return (study.__doc__ or "").rstrip(".")


def _changed(
    follow: Callable[[Tensor], Tensor], x: np.ndarray, y: np.ndarray, size: float, limits: tuple[float, float]
) -> dict[str, np.ndarray]:
    """Inputs changed in the ways of `_KINDS`, all by at most ``size``."""
    noise = np.clip(x + size * np.random.default_rng(0).choice([-1.0, 1.0], x.shape), *limits)
    found = pgd(follow, x, y, size, limits, _STEPS, enough=_ENOUGH)
    return dict(zip(_KINDS, (noise, fgsm(follow, x, y, size, limits), found), strict=True))


def voice(data: Path, rows: int) -> Finding:
    """Clips of RAVDESS that are heard rightly, by the ratio of signal to change."""
    from affuse.data.corpora import load
    from affuse.evaluation.experts import waveform
    from affuse.packages import load_expert

    expert, graph = load_expert("voice"), DifferentiableGraph(weights.shipped("voice"))
    clips = load("ravdess", data, "dev")
    order = [expert.labels.labels.index(label) for label in clips.labels.labels]

    def ask(x: np.ndarray) -> np.ndarray:
        sounds = np.round(x / _STEP) * _STEP  # as a file of 16 bits holds them
        return np.stack([expert.classify(own.astype(np.float32))[order] for own in sounds])

    def follow(x: Tensor) -> Tensor:
        return graph(waveform=x)["probabilities"][:, order]

    actors = np.asarray(clips.groups)
    chosen: list[tuple[str, np.ndarray, np.ndarray]] = []
    for i in np.random.default_rng(0).permutation(len(clips.inputs)):
        if sum(actor == actors[i] for actor, _, _ in chosen) == min(rows, _CLIPS):
            continue
        x, y = waveform(clips.inputs[i])[None].astype(np.float32), np.array([int(clips.targets[i])])
        if _margin(ask(x), y)[0] > 0:
            chosen.append((actors[i], x, y))
    groups = np.array([actor for actor, _, _ in chosen])
    curves: dict[str, list[Point]] = {kind: [] for kind in _KINDS}
    for ratio in _RATIOS:
        right: dict[str, list[bool]] = {kind: [] for kind in _KINDS}
        for _, x, y in chosen:
            size = float(np.sqrt((x**2).mean())) * 10 ** (-ratio / 20)
            for kind, version in _changed(follow, x, y, size, (-1, 1)).items():
                right[kind].append(bool(_margin(ask(version), y)[0] > 0))
        for kind, own in right.items():
            curves[kind].append(share(np.array(own), groups))
    about = f"{len(chosen)} clips of {len(set(groups))} actors that no expert heard; intervals draw whole actors"
    return of_curves(_title(voice), about, "signal to change (dB)", _RATIOS, curves)


def text(data: Path, rows: int) -> Finding:
    """Lines of MELD that are read rightly, by the number of words that are misspelt."""
    ask, lines, y, groups = _lines_read_rightly(data, rows)
    attacked = [word_attack(ask, line, int(own), max(_WORDS)) for line, own in zip(lines.values(), y, strict=True)]
    curves: dict[str, list[Point]] = {"random": [], _BY_ASKING: []}
    for count in _WORDS:
        noise = [_misspelt_at_random(line, count, seed=i) for i, line in lines.items()]
        versions = (noise, [own[count - 1] for own in attacked])
        for name, own in zip(curves, versions, strict=True):
            curves[name].append(share(_margin(ask(own), y) > 0, groups))
    return of_curves(_title(text), f"{len(lines)} lines", "words misspelt", _WORDS, curves)


def _misspelt_at_random(line: str, count: int, seed: int) -> str:
    words = line.split()
    for i in np.random.default_rng(seed).choice(len(words), min(count, len(words)), replace=False):
        words[i] = misspelt(words[i])
    return " ".join(words)


def _lines_read_rightly(
    data: Path, rows: int
) -> tuple[Callable[[list[str]], np.ndarray], dict[int, str], np.ndarray, np.ndarray]:
    """The expert for words, as lines in, probabilities out; lines of five words or more by row, labels and groups."""
    from affuse.data.corpora import load
    from affuse.packages import load_expert

    expert = load_expert("text").in_language("en")
    lines = load("meld", data, "dev")
    order = [expert.labels.labels.index(label) for label in lines.labels.labels]

    def ask(texts: list[str]) -> np.ndarray:
        return np.asarray(expert.classify(texts))[:, order]

    y, groups = np.asarray(lines.targets), np.asarray(lines.groups)
    long = [i for i, line in enumerate(lines.inputs) if len(line.split()) >= 5]
    right = [i for i, own in zip(long, _margin(ask([lines.inputs[i] for i in long]), y[long]), strict=True) if own > 0]
    right = right[:rows]
    return ask, {i: lines.inputs[i] for i in right}, y[right], groups[right]


def substitutions(data: Path, rows: int, wordnet: WordNet) -> Finding:
    """Lines of MELD that are read rightly, by the number of words that are replaced by synonyms."""
    ask, lines, y, groups = _lines_read_rightly(data, rows)
    sources: dict[str, Synonyms] = {
        _BY_ASKING: wordnet.synonyms,
        f"{_BY_ASKING}, most frequent sense": lambda word: wordnet.synonyms(word, senses=1),
    }
    attacked = {
        name: [
            substituted(ask, line, int(own), max(_WORDS), source) for line, own in zip(lines.values(), y, strict=True)
        ]
        for name, source in sources.items()
    }
    curves: dict[str, list[Point]] = {name: [] for name in ("random", *sources)}
    for count in _WORDS:
        versions = {name: [own[count - 1] for own in found] for name, found in attacked.items()}
        versions["random"] = [substituted_at_random(line, count, wordnet.synonyms, seed=i) for i, line in lines.items()]
        for name, own in versions.items():
            curves[name].append(share(_margin(ask(own), y) > 0, groups))
    some, first = (sum(bool(places(line, own)) for line in lines.values()) for own in sources.values())
    about = (
        f"{len(lines)} lines, the same; {some} have a word with synonyms, {first} one with synonyms in its most "
        "frequent sense"
    )
    return of_curves(_title(substitutions), about, "words replaced", _WORDS, curves)


STUDIES: dict[str, Callable[..., Finding]] = {
    "face": face,
    "voice": voice,
    "text": text,
    "substitutions": substitutions,
    "answers": answers,
    "lies": lies,
}
"""What is attacked, by name."""


def main() -> None:
    """Attack, and print the tables, or put them with those of earlier runs into a page and a picture."""
    parser = data_parser(__doc__)
    parser.add_argument("--only", action="append", choices=list(STUDIES))
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--wordnet", type=Path, metavar="FOLDER", help="files of WordNet, for the study substitutions")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    with errors_as_sentences(parser):
        studies = {name: study for name, study in STUDIES.items() if not chosen.only or name in chosen.only}
        if "substitutions" in studies:
            studies["substitutions"] = partial(substitutions, wordnet=_wordnet(chosen.wordnet))
        found = {name: study(chosen.data, chosen.rows) for name, study in studies.items()}
        if chosen.out is not None:
            _keep(found, chosen.out)
    if chosen.out is None:
        print("\n".join(own.markdown() for own in found.values()))


def _wordnet(folder: Path | None) -> WordNet:
    if folder is None:
        raise ConfigError(
            "the study substitutions needs WordNet; name by --wordnet the folder of its files (on Debian dpkg -L "
            "wordnet-base shows it), or other studies by --only"
        )
    return WordNet(folder)


def _keep(found: dict[str, Finding], out: Path) -> None:
    kept = out / "attacks.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    every = {name: Finding(**own) for name, own in before.items()} | found
    every = {name: every[name] for name in STUDIES if name in every}
    write_json(kept, {name: asdict(own) for name, own in every.items()}, indent=1)
    write_between(out / "attacks.md", "attacks", "\n".join(own.markdown() for own in every.values()).strip())
    draw(every, out / "attacks.png")


if __name__ == "__main__":
    main()
