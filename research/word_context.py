"""What the turns before an utterance tell about its emotion: the words expert alone, and with them.

``python -m research.word_context --data DIR --corpus meld`` (or ``emotiontalk``)

A logistic regression reads up to three turns before an utterance, never the utterance itself and nothing after it: the
expert's probabilities, 32 directions of the embeddings of both networks, whether the speaker is the same, and what the
speaker said last. It learns from the train part; a twentieth of the train dialogues is left out. What it adds to the
log-odds of the emotions is added to the expert's answer by half, and again without any speaker. Both parts are
reported: the left-out dialogues, which the English network did not learn from either, and the dev part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from affuse.data.corpora import load
from affuse.experts import TextExpert
from affuse.labels import EKMAN
from recipes.command import data_parser, errors_as_sentences

__all__ = ["Dialogues", "context_features", "main"]

_TURNS = 3
_DIRECTIONS = 32
_STRENGTH = 0.01  # inverse of the penalty
_SHARE = 0.5  # of what the turns add to the log-odds
_EVERY = 20
_FLOOR = 0.01


@dataclass(frozen=True)
class Dialogues:
    """Utterances in order of time: columns of `EKMAN` (n,), dialogues (n,) and speakers (n,)."""

    texts: list[str]
    y: np.ndarray
    dialogues: np.ndarray
    speakers: np.ndarray


def context_features(P: np.ndarray, X: np.ndarray, spoken: Dialogues, knows_speakers: bool = True) -> np.ndarray:
    """What stands before every utterance (n, f), from P (n, 7) and embeddings X (n, d); zeros where nothing does."""
    logs = np.log(P + _FLOOR)
    said = np.concatenate([logs - logs.mean(axis=1, keepdims=True), X], axis=1)
    n, width = said.shape
    parts = []
    for back in range(1, _TURNS + 1):
        before = np.zeros((n, 2 * width + 2))
        rows = np.arange(back, n)
        rows = rows[spoken.dialogues[rows] == spoken.dialogues[rows - back]]
        same = (spoken.speakers[rows] == spoken.speakers[rows - back]) & knows_speakers
        before[rows] = np.column_stack([said[rows - back], said[rows - back] * same[:, None], np.ones(len(rows)), same])
        parts.append(before)
    last = np.zeros((n, len(EKMAN) + 1))
    spoke: dict[tuple[Any, Any], int] = {}
    for i, who in enumerate(zip(spoken.dialogues.tolist(), spoken.speakers.tolist(), strict=True)):
        if knows_speakers and who in spoke:
            last[i] = [*said[spoke[who], : len(EKMAN)], 1]
        spoke[who] = i
    return np.concatenate([*parts, last], axis=1)


def read_meld(data: Path, split: str) -> Dialogues:
    """Utterances of MELD with their speakers."""
    rows = load("meld", data, split)
    speakers = pd.read_csv(data / "meld" / f"{split}_sent_emo.csv")["Speaker"].to_numpy()
    return Dialogues(list(rows.inputs), rows.targets, rows.groups, speakers)


def read_emotiontalk(data: Path, split: str) -> Dialogues:
    """Utterances of EmotionTalk with the label of their words, in the order of their numbers."""
    names = {"angry": "anger", "disgusted": "disgust", "fearful": "fear", "happy": "happiness", "sad": "sadness"}
    names |= {"surprised": "surprise", "neutral": "neutral"}
    table = pd.read_csv(data / "emotiontalk" / "labels_open.csv")
    mine = (table["split"] == {"dev": "valid"}.get(split, split)) & table["text"].notna() & table["words"].isin(names)
    table = table[mine].assign(number=table["id"].str.rsplit("_", n=1).str[1].astype(int))
    table = table.sort_values(["dialogue", "number"])
    y = np.array([EKMAN.index(names[word]) for word in table["words"]])
    return Dialogues(table["text"].tolist(), y, table["dialogue"].to_numpy(), table["speaker"].to_numpy())


CORPORA = {"meld": ("en", read_meld), "emotiontalk": ("zh", read_emotiontalk)}


def _read(expert: TextExpert, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The expert's P (n, 7), and the embeddings of its own network and of the multilingual one (n, d)."""
    networks = expert.network(str(expert.language)), expert.network("de")
    return expert.classify(texts), np.concatenate([network.embed(texts) for network in networks], axis=1)


def _told(P: np.ndarray, added: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Figures of the answers P (n, 7) with what the turns add to their logarithms (n, 7)."""
    joined = np.log(P + 1e-4) + _SHARE * added
    joined = np.exp(joined - joined.max(axis=1, keepdims=True))
    joined /= joined.sum(axis=1, keepdims=True)
    return {
        "weighted_f1": round(float(f1_score(y, joined.argmax(axis=1), average="weighted")), 4),
        "loss": round(float(-np.log(joined[np.arange(len(y)), y]).mean()), 4),
    }


def measure(data: Path, corpus: str) -> dict[str, dict[str, Any]]:
    """Figures by part: the expert alone, with the turns before, and with these but without speakers."""
    language, reader = CORPORA[corpus]
    expert = TextExpert(language)
    train, dev = reader(data, "train"), reader(data, "dev")
    (P, X), (P_dev, X_dev) = _read(expert, train.texts), _read(expert, dev.texts)
    pca = PCA(_DIRECTIONS, whiten=True, random_state=0).fit(X)
    X, X_dev = pca.transform(X), pca.transform(X_dev)
    held = np.isin(train.dialogues, np.random.default_rng(0).permutation(np.unique(train.dialogues))[::_EVERY])
    features = context_features(P, X, train)
    model = LogisticRegression(C=_STRENGTH, max_iter=200).fit(features[~held], train.y[~held])
    found = {}
    for name, rows, own, told, mine in (
        ("left out", train, P, X, held),
        ("dev", dev, P_dev, X_dev, np.ones(len(dev.y), bool)),
    ):
        ways = {f"with turns, speakers {knows}": knows for knows in (True, False)}
        added = {way: context_features(own, told, rows, knows) @ model.coef_.T for way, knows in ways.items()}
        added |= {"alone": np.zeros_like(own)}
        found[name] = {"rows": int(mine.sum())} | {
            way: _told(own[mine], extra[mine], rows.y[mine]) for way, extra in added.items()
        }
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = data_parser(__doc__)
    parser.add_argument("--corpus", choices=CORPORA, default="meld", help="whose dialogues (%(default)s)")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        for name, figures in measure(options.data, options.corpus).items():
            print(name, figures)


if __name__ == "__main__":
    main()
