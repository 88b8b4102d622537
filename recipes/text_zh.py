"""Recipe of the Chinese text expert: linear models over n-grams and words, and small convolutional networks, stacked.

``python -m recipes.text_zh --data DIR --out runs/text_zh [--resume]``

Emotions come from the microblogs of SMP2020-EWECT: those about the virus, and everyday ones, which belong to no part
of that task and hold more of the rare emotions. Polarity comes from ChnSentiCorp, waimai_10k, a part of
online_shopping_10_cats and the polar emotions of the microblogs. The categories books, computers and hotels of
online_shopping_10_cats are dropped as a whole: 96 % of ChnSentiCorp's dev rows stand in them word for word, so its
test rows do as well. Both corpora also repeat themselves: of the dev rows, 10 % (SMP2020) and 29 % (ChnSentiCorp)
stand word for word in train. Copies therefore share a fold here, and the card also scores the dev rows without one.
Traditional characters are read as their simplified forms.

Vectors of words, learned from Wikipedia, come with the package synonyms (`text_zh_words`).

Two linear models read n-grams of one to four characters, words, and the clusters of vectors that the words belong to:
a support vector machine over TF-IDF and one over naive Bayes ratios (Wang & Manning 2012, "Baselines and Bigrams").
They alone judge polarity, where networks gained nothing out of fold. Emotions are judged by networks as well. The
vectors of their characters start from the plain texts of all corpora (`text_zh_vectors`), those of the words stay
fixed. There is one network a fold, so that every training row has an answer from models that were not trained on it.
The weights of the parts (stacking: Wolpert 1992, doi:10.1016/S0893-6080(05)80023-1) and the offsets of rare emotions
are learned from these answers.

All of this is trained on microblogs of an epidemic, which have no label for disgust. The evidence of a second head,
trained on dialogues and posts of all kinds (`text_zh_everyday`), is added to that of the stack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.metrics import f1_score

from affuse.data.corpora import load
from affuse.experts.text.chinese import Alphabet, ChineseText, normalise
from affuse.labels import EKMAN, SENTIMENT, SMP2020, restrict
from affuse.training.calibration import class_offsets
from affuse.training.cards import write_card, write_held_out
from recipes.command import errors_as_sentences, recipe_parser, start_run
from recipes.text_zh_blend import ONTO, Blend, Everyday, blend_of, everyday_of, polarity_with_evidence, sentiment_of
from recipes.text_zh_data import Grams, ZhConfig, ZhRows, copied, gather, traditional_characters
from recipes.text_zh_everyday import read_everyday
from recipes.text_zh_graph import Graph, export
from recipes.text_zh_linear import Stack, cross_stacked, fit_stack, linear_models
from recipes.text_zh_network import NetworkInputs, ZhNetwork, fit_network, inputs_of, logits_of
from recipes.text_zh_words import read_sources, table_of, word_vectors

__all__ = ["alphabet_of", "cross_fit", "main", "measure", "stack_held_out", "train", "vocabularies_of"]

_LEAVE_NOTHING_OUT = -2
_POWERS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)  # of the priors, from which the offsets of rare emotions are chosen


def cross_fit(
    rows: ZhRows, matrices: dict[str, Any], inputs: NetworkInputs, everyday: Everyday, config: ZhConfig, out: Path
) -> tuple[list[ZhNetwork], np.ndarray, dict[str, dict[str, np.ndarray]]]:
    """The networks of all folds, and all heads' parts' answers on the rows (n,) that every fold left out."""
    networks, places, found = [], [], []
    for fold in range(config.folds):
        networks.append(fit_network(rows, inputs, fold, config, out / f"fold{fold}"))
        linear = linear_models(rows, matrices, fold, config)
        left_out = np.flatnonzero(rows.folds == fold)
        parts = {head: model.decide(matrices[head][left_out]) for head, model in linear.items()}
        parts["emotion"]["network"] = logits_of(networks[-1], inputs, left_out)
        parts["everyday"] = {"evidence": everyday.fit(fold, config).evidence(everyday.X[left_out])}
        places.append(left_out)
        found.append(parts)
    parts = {
        head: {name: np.concatenate([f[head][name] for f in found]) for name in found[0][head]} for head in found[0]
    }
    return networks, np.concatenate(places), parts


def alphabet_of(texts: list[str], least: int = 4) -> Alphabet:
    """Characters that occur ``least`` times."""
    codes, counts = np.unique(np.frombuffer("".join(texts).encode("utf-32-le"), dtype="<u4"), return_counts=True)
    return Alphabet(codes[counts >= least].astype(np.uint64))


def train(data: Path, vectors_file: Path, out: Path, config: ZhConfig, resume: bool = False) -> None:
    """Train, export, and measure the exported graph; leaves text_zh.onnx, card.json and held_out.npz in ``out``.

    ``vectors_file`` is that of the package synonyms (`word_vectors`).
    """
    simplified = str.maketrans(*traditional_characters())
    sources = read_sources(vectors_file, simplified)
    start_run(out, config, resume)
    rows = gather(data, config)
    table = table_of(rows.texts, sources, config.n_words)
    cuts = [table.words.cut(text) for text in rows.texts]
    grams = Grams.of(rows.texts, table.words)
    vocabularies = vocabularies_of(rows, grams)
    everything = np.arange(len(rows.texts))
    matrices = {head: grams.matrix(everything, hashes) for head, hashes in vocabularies.items()}
    alphabet = alphabet_of(rows.texts)
    inputs = inputs_of(rows.texts, cuts, alphabet, table, config)
    talk, targets = read_everyday(data)
    others = Grams.of([normalise(text).translate(simplified) for text in talk], table.words)
    everyday = everyday_of(rows, grams, others, targets)
    networks, places, parts = cross_fit(rows, matrices, inputs, everyday, config, out)
    stacks, offsets, blend, held_out = stack_held_out(rows, places, parts, config)
    linear = linear_models(rows, matrices, _LEAVE_NOTHING_OUT, config)
    head = everyday.fit(_LEAVE_NOTHING_OUT, config)
    weights = out / "text_zh.onnx"
    graph = Graph(linear, networks, table.numbers, stacks, offsets, head, blend)
    difference = export(
        graph, alphabet, table.words, vocabularies | {"everyday": everyday.vocabulary}, blend.prior, weights
    )
    write_held_out(out / "held_out.npz", **held_out)
    facts = {
        "config": asdict(config),
        "rows": {corpus: int((rows.corpora == corpus).sum()) for corpus in np.unique(rows.corpora).tolist()}
        | {"talk": len(talk)},
        "vocabularies": {name: len(hashes) for name, hashes in vocabularies.items()}
        | {"everyday": len(everyday.vocabulary)},
        "characters": alphabet.n_characters,
        "words": len(table.words.words),
        "offsets": dict(zip(SMP2020.labels, offsets.tolist(), strict=True)),
        "prior": dict(zip(EKMAN.labels, blend.prior.tolist(), strict=True)),
        "held_out": _scores_held_out(held_out),
        "export_difference": difference,
        "dev": measure(ChineseText(weights), data),
    }
    write_card(out / "card.json", weights, facts)
    print(facts)


def vocabularies_of(rows: ZhRows, grams: Grams) -> dict[str, np.ndarray]:
    """Hashes (v,) that each head's linear models know: those in several rows of the corpora that it is judged on."""
    polar_blogs = np.flatnonzero((rows.corpora == "blogs") & (rows.polarity >= 0))
    return {
        "emotion": grams.vocabulary(np.flatnonzero(rows.emotions >= 0), 2),
        # The microblogs' commoner n-grams are few more, and spare sentiment from blindness to how microblogs speak.
        "sentiment": np.union1d(grams.vocabulary(rows.of("reviews"), 3), grams.vocabulary(polar_blogs, 8)),
    }


def stack_held_out(
    rows: ZhRows, places: np.ndarray, parts: dict[str, dict[str, np.ndarray]], config: ZhConfig
) -> tuple[dict[str, Stack], np.ndarray, Blend, dict[str, np.ndarray]]:
    """Stack, emotions' offsets and blend that ship, learned on the parts' answers on the rows ``places`` (n,).

    Also the arrays of held_out.npz: there every row's answer is from a stack that never saw its fold.
    """
    folds, emotions, polarity = rows.folds[places], rows.emotions[places], rows.polarity[places]
    blogs, reviews, polar = emotions >= 0, rows.corpora[places] == "reviews", polarity >= 0
    emotion = {name: z[blogs] for name, z in parts["emotion"].items()}
    sentiment = {name: z[reviews] for name, z in parts["sentiment"].items()}
    strength = config.stack_strength
    stacks = {
        "emotion": fit_stack(emotion, emotions[blogs], strength),
        "sentiment": fit_stack(sentiment, polarity[reviews], strength),
    }
    logits = stacks["emotion"].logits(parts["emotion"])
    logits[blogs] = cross_stacked(emotion, emotions[blogs], folds[blogs], strength)
    offsets = class_offsets(logits[blogs], emotions[blogs], _POWERS)
    polarities = stacks["sentiment"].logits(parts["sentiment"])
    polarities[reviews] = cross_stacked(sentiment, polarity[reviews], folds[reviews], strength)
    everyday = parts["everyday"]["evidence"]
    blend = blend_of(emotions[blogs], offsets, config.microblog_weight)
    probabilities = blend.emotions(logits + offsets, everyday)
    positive = expit(polarity_with_evidence(polarities[:, 0], everyday))
    held_out = {
        "emotion_probabilities": probabilities[blogs],
        "emotion_targets": np.array(ONTO)[emotions[blogs]],
        "sentiment_probabilities": sentiment_of(probabilities, positive)[polar],
        "sentiment_targets": polarity[polar] * 2,
        "sentiment_corpus": rows.corpora[places][polar],
    }
    return stacks, offsets, blend, held_out


def _scores_held_out(arrays: dict[str, np.ndarray]) -> dict[str, float]:
    answered = restrict(arrays["emotion_probabilities"], EKMAN, SMP2020.labels).argmax(axis=1)
    y = np.array([ONTO.index(label) for label in arrays["emotion_targets"]])
    reviews = arrays["sentiment_corpus"] == "reviews"
    polarity = restrict(arrays["sentiment_probabilities"], SENTIMENT, ("negative", "positive")).argmax(axis=1) * 2
    right = polarity == arrays["sentiment_targets"]
    return {
        "smp2020_macro_f1": float(f1_score(y, answered, average="macro")),
        "smp2020_accuracy": float((answered == y).mean()),
        "chnsenticorp_accuracy": float(right[reviews].mean()),
        "smp2020_polarity_accuracy": float(right[~reviews].mean()),
    }


def measure(model: ChineseText, data: Path) -> dict[str, dict[str, float]]:
    """Scores of the exported model on the dev splits: on all rows, and on those without a copy in train."""
    blogs, reviews = load("smp2020_ewect", data, "dev"), load("chnsenticorp", data, "dev")
    answered = restrict(model.probabilities(blogs.inputs), EKMAN, SMP2020.labels).argmax(axis=1)
    fresh = ~copied(blogs.inputs, load("smp2020_ewect", data, "train").inputs)
    polarity = restrict(model.sentiment(reviews.inputs), SENTIMENT, reviews.labels.labels).argmax(axis=1)
    unseen = ~copied(reviews.inputs, load("chnsenticorp", data, "train").inputs)
    right = polarity == reviews.targets
    scores: dict[str, dict[str, float]] = {}
    for name, part in (("smp2020_ewect", slice(None)), ("smp2020_ewect without copies", fresh)):
        y, z = blogs.targets[part], answered[part]
        macro_f1 = float(f1_score(y, z, average="macro"))
        scores[name] = {"n": len(y), "macro_f1": macro_f1, "accuracy": float((y == z).mean())}
    for name, part in (("chnsenticorp", slice(None)), ("chnsenticorp without copies", unseen)):
        scores[name] = {"n": len(right[part]), "accuracy": float(right[part].mean())}
    return scores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exits with 2 and a sentence where something is missing."""
    parser = recipe_parser(__doc__, ZhConfig)
    parser.add_argument("--word-vectors", type=Path, help="in place of those of the package synonyms")
    options = parser.parse_args(arguments)
    config = ZhConfig(epochs=options.epochs, seed=options.seed, threads=options.threads)
    with errors_as_sentences(parser):
        train(options.data, options.word_vectors or word_vectors(), options.out, config, options.resume)


if __name__ == "__main__":
    main()
