"""Everyday language for the English text network: a linear head over its embedding, which needs no training of it.

``python -m recipes.text_en_everyday --data DIR --weights runs/text_en/text_en.onnx --out runs/text_en_everyday``

Comments and TV dialogue, which the network was tuned on, hold few complaints, requests and reports, and annotators call
most rows neutral. This head (multinomial logistic regression) learns from sentences put together from parts
(`recipes.text_en_situations`), which weigh three quarters, and from the train parts of GoEmotions, MELD and BRIGHTER;
every emotion weighs the same in each of them. A gate, one more logistic regression, tells the sentences from the
corpora, and gives the head up to half of the answer (mixture of experts: Jacobs et al. 1991,
doi:10.1162/neco.1991.3.1.79): a weighted mean of the logarithms.

The constants below were chosen by the dev parts of GoEmotions, MELD and BRIGHTER, through the fuser and without it. The
plain sentences of the tests chose none of them. Whoever wrote these sentences had written those before; no two of them
have five words in a row in common, which a test checks.

The names inside of the graph, which nothing reads, are made short: they took more bytes than this head does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from affuse.data.corpora import load
from affuse.data.corpora.brighter import MARKS, read_marks
from affuse.errors import ConfigError
from affuse.experts.text.english import EnglishText
from affuse.files import replacing
from affuse.labels import EKMAN
from recipes.command import data_parser, errors_as_sentences
from recipes.text_en_situations import situations

__all__ = ["EverydayHead", "add_everyday", "fit_everyday", "main", "shorten_names", "training_texts"]

_SITUATIONS = 0.75  # share of the sentences in the loss of the head; the corpora share the rest
_EACH = 280  # sentences of every emotion
_MOST_COMMENTS = 3000  # of one emotion
_STRENGTH = 3e-4  # inverse of the penalty of the head
_GATE_STRENGTH = 1e-4
_MOST = 0.5  # share of the answer that the gate can give to the head
_FLOOR = 1e-4  # so that a head that excludes a label does not exclude it for both
_MOST_STEPS = 200
_OWN = "everyday_weights"


@dataclass(frozen=True)
class EverydayHead:
    """``weights`` (d, 8) and ``bias`` (8,) over the embedding: logits of `EKMAN`, and last that of the gate."""

    weights: np.ndarray
    bias: np.ndarray


def training_texts(data: Path) -> dict[str, tuple[list[str], np.ndarray]]:
    """Texts and columns of `EKMAN` of the sentences and of the train parts of the corpora."""
    found: dict[str, tuple[list[str], np.ndarray]] = {}
    for name in ("goemotions", "meld"):
        rows = load(name, data, "train")
        y = np.array([EKMAN.index(rows.labels.labels[target]) for target in rows.targets])
        chosen = _at_most(y, _MOST_COMMENTS) if name == "goemotions" else np.arange(len(y))
        found[name] = [rows.inputs[i] for i in chosen.tolist()], y[chosen]
    texts, marks = read_marks(data, "train", "eng")
    seen = marks == 1
    single = np.flatnonzero(seen.sum(axis=1) <= 1)
    columns = np.array([EKMAN.index(label) for label in (*MARKS, "neutral")])
    places = np.where(seen.any(axis=1), seen.argmax(axis=1), len(MARKS))
    found["brighter"] = [texts[i] for i in single], columns[places[single]]
    found["situations"] = situations(_EACH, 0)
    return found


def _at_most(y: np.ndarray, most: int) -> np.ndarray:
    """Places of ``most`` rows of every label at most, drawn by chance, in ascending order."""
    rng = np.random.default_rng(0)
    return np.sort(np.concatenate([rng.permutation(np.flatnonzero(y == k))[:most] for k in range(len(EKMAN))]))


def fit_everyday(sets: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> EverydayHead:
    """Learn head and gate from embeddings (n, d) and columns of `EKMAN` (n,) by the names of `training_texts`."""
    corpora = [name for name in sets if name != "situations"]
    names = [*corpora, "situations"]
    X, y = (np.concatenate([sets[name][i] for name in names]) for i in range(2))
    scaler = StandardScaler().fit(X)
    shares = dict.fromkeys(corpora, (1 - _SITUATIONS) / len(corpora)) | {"situations": _SITUATIONS}
    balanced = np.concatenate([shares[name] * _balanced(sets[name][1]) for name in names])
    head = _regression(scaler, X, y, balanced, _STRENGTH)
    apart = np.concatenate([np.full(len(sets[name][1]), name == "situations") for name in names])
    even = np.where(apart, 0.5 / apart.sum(), 0.0)
    for name in corpora:
        mine = np.concatenate([np.full(len(sets[other][1]), other == name) for other in names])
        even[mine] = 0.5 / len(corpora) / mine.sum()
    gate = _regression(scaler, X, apart, even, _GATE_STRENGTH)
    return EverydayHead(*(np.concatenate([a, b], axis=-1) for a, b in zip(head, gate, strict=True)))


def _balanced(y: np.ndarray) -> np.ndarray:
    """Weights (n,) that add up to 1, by which every label that occurs weighs the same."""
    counts = np.bincount(y)
    return np.asarray(1 / counts[y] / (counts > 0).sum())


def _regression(
    scaler: StandardScaler, X: np.ndarray, y: np.ndarray, weights: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (d, k) and intercepts (k,) over embeddings as they are, from weights (n,) that add up to 1."""
    model = LogisticRegression(C=strength, max_iter=_MOST_STEPS)
    model.fit(scaler.transform(X), y, sample_weight=weights * len(y))
    slopes = model.coef_ / scaler.scale_
    return slopes.T, model.intercept_ - slopes @ scaler.mean_


def add_everyday(model: Any, head: EverydayHead) -> None:
    """Let the graph of the English network join the head's answer to its "probabilities"; weights in 8 bits.

    Raises ConfigError where it does so already.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    if any(tensor.name == _OWN for tensor in graph.initializer):
        raise ConfigError("the weights hold this head already; give those that recipes.text_en made")
    for node in graph.node:
        node.output[:] = ["probabilities_before" if name == "probabilities" else name for name in node.output]
    scale = (np.abs(head.weights).max(axis=0) / 127).astype(np.float32)
    arrays = {
        _OWN: np.round(head.weights / scale).astype(np.int8),
        "everyday_scale": scale,
        "everyday_zero": np.zeros(len(scale), dtype=np.int8),
        "everyday_bias": head.bias.astype(np.float32),
        "everyday_parts": np.array([len(EKMAN), 1]),
        "everyday_floor": np.float32(_FLOOR),
        "everyday_most": np.float32(_MOST),
        "everyday_one": np.float32(1),
    }
    graph.initializer.extend(numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items())
    steps: list[tuple[str, list[str], list[str], dict[str, int]]] = [
        ("DequantizeLinear", [_OWN, "everyday_scale", "everyday_zero"], ["everyday_wide"], {"axis": 1}),
        ("MatMul", ["embedding", "everyday_wide"], ["everyday_sums"], {}),
        ("Add", ["everyday_sums", "everyday_bias"], ["everyday_logits"], {}),
        ("Split", ["everyday_logits", "everyday_parts"], ["everyday_emotions", "everyday_gate"], {"axis": 1}),
        ("Softmax", ["everyday_emotions"], ["everyday_shares"], {"axis": 1}),
        ("Sigmoid", ["everyday_gate"], ["everyday_open"], {}),
        ("Mul", ["everyday_open", "everyday_most"], ["everyday_part"], {}),
        ("Sub", ["everyday_one", "everyday_part"], ["everyday_rest"], {}),
        ("Add", ["everyday_shares", "everyday_floor"], ["everyday_raised"], {}),
        ("Log", ["everyday_raised"], ["everyday_log"], {}),
        ("Add", ["probabilities_before", "everyday_floor"], ["everyday_before"], {}),
        ("Log", ["everyday_before"], ["everyday_before_log"], {}),
        ("Mul", ["everyday_log", "everyday_part"], ["everyday_theirs"], {}),
        ("Mul", ["everyday_before_log", "everyday_rest"], ["everyday_own"], {}),
        ("Add", ["everyday_theirs", "everyday_own"], ["everyday_joined"], {}),
        ("Softmax", ["everyday_joined"], ["probabilities"], {"axis": 1}),
    ]
    graph.node.extend(helper.make_node(kind, takes, gives, **more) for kind, takes, gives, more in steps)


def shorten_names(model: Any) -> None:
    """Give everything in a graph that is no input, no output and no array of `add_everyday` a name of few letters."""
    graph = model.graph
    kept = {entry.name for entry in (*graph.input, *graph.output)} | {_OWN, ""}
    inside = dict.fromkeys(name for node in graph.node for name in (*node.input, *node.output))
    short = {name: np.base_repr(i, 36) for i, name in enumerate(name for name in inside if name not in kept)}
    for node in graph.node:
        node.name = ""
        node.input[:] = [short.get(name, name) for name in node.input]
        node.output[:] = [short.get(name, name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name = short.get(tensor.name, tensor.name)
    del graph.value_info[:]


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit head and gate and write text_en.onnx with both into the folder of the run."""
    import onnx

    parser = data_parser(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="text_en.onnx of a run of recipes.text_en")
    parser.add_argument("--out", type=Path, required=True, help="folder of this run")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        network = EnglishText(options.weights)
        texts = training_texts(options.data)
        head = fit_everyday({name: (network.embed(own), y) for name, (own, y) in texts.items()})
        model = onnx.load(str(options.weights))
        add_everyday(model, head)
        shorten_names(model)
        onnx.checker.check_model(model)
        options.out.mkdir(parents=True, exist_ok=True)
        with replacing(options.out / "text_en.onnx") as (part,):
            onnx.save(model, str(part))
    print({name: np.bincount(y, minlength=len(EKMAN)).tolist() for name, (_, y) in texts.items()})


if __name__ == "__main__":
    main()
