"""The words of the commercial set: the graph answers as its linear models say, and languages are told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, softmax

from affuse import weights
from affuse.experts import TextExpert
from affuse.experts.text.commercial import commercial_kind
from affuse.experts.text.language import stored_tokenizer

TEXTS = {
    "en": "I can't believe that you did this to me, I am furious with all of you!",
    "de": "Ich bin so traurig, dass mein Hund gestern gestorben ist und wir nichts tun konnten.",
    "zh": "今天真的太开心了，谢谢大家来看我！",
    "ru": "Мне очень страшно за завтрашний день, я не знаю, что делать.",
}


def test_the_graph_answers_as_its_models_say(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    graph = pytest.importorskip("recipes.text_commercial_graph", reason="recipes lie in a checkout alone")
    recipe = pytest.importorskip("recipes.text_commercial")
    whole = onnx.load(str(weights.shipped("text_multi", of_set="research")))
    lower, grams = graph.lower_layers(whole)
    onnx.save(lower, tmp_path / "lower.onnx")
    rng = np.random.default_rng(0)
    slopes = np.round(rng.normal(size=(1920, 44)) * 20) / 2540  # few digits, which 8 bits hold nearly
    gram_slopes = rng.normal(size=(1 << 14, 10)) / 4
    heads = graph.Heads(
        rng.normal(size=1920), 1 + rng.random(1920), slopes, rng.normal(size=44), gram_slopes, *grams
    ).with_weights(rng.random(10), rng.random(5), rng.random(3), rng.normal(size=6))  # fmt: skip
    facts = {entry.key: entry.value for entry in whole.metadata_props}
    told = stored_tokenizer(facts, weights.companions(weights.shipped("text_multi", of_set="research")))
    graph.add_heads(lower, heads, {"tokenizer": told, "languages": facts["languages"]}, tmp_path / "whole.onnx")
    kind = commercial_kind("en")
    assert kind is not None
    network = kind(tmp_path / "whole.onnx")
    session = weights.session(tmp_path / "lower.onnx")
    for text in TEXTS.values():
        ids = np.array([network._tokenizer.encode(text).ids])
        (X,) = session.run(["statistics"], {"ids": ids, "mask": np.ones_like(ids)})
        z, G = heads.of_encoder(X), recipe._gram_matrix([text])
        languages = softmax(z[:, 16:], axis=1)
        posts = np.einsum("nkm,nk->nm", heads.of_posts(G), languages)
        own = G @ gram_slopes
        seven = np.concatenate([posts, [[0.0]]], axis=1)[:, heads.from_marks]
        e, s, m = heads.emotions, heads.sentiments, heads.marks
        expected = softmax(e[0] * z[:, :7] + e[1] * own[:, :7] + e[2] * seven + e[3:], axis=1)[0]
        sentiment = softmax(s[0] * z[:, 7:10] + s[1] * own[:, 7:] + s[2:], axis=1)[0]
        marks = expit(m[0] * z[:, 10:16] + m[1] * posts + m[2] - heads.cuts)[0]
        found = network.read(text)
        np.testing.assert_allclose(found[0], expected, atol=0.02)
        np.testing.assert_allclose(found[1], sentiment, atol=0.02)
        np.testing.assert_allclose(network.marks(text), marks, atol=0.02)


def test_a_masked_piece_changes_nothing() -> None:
    network = TextExpert(weight_set="commercial").network("en")
    ids = np.array([[0, 100, 200, 300, 2]])
    longer = np.concatenate([ids, [[7, 7]]], axis=1)
    mask = np.array([[1, 1, 1, 1, 1, 0, 0]])
    buckets = np.array([[3, 50, 16000]])
    names = ["probabilities", "sentiment", "marks", "languages"]
    plain = network._session.run(names, {"ids": ids, "mask": np.ones_like(ids), "buckets": buckets})
    padded = network._session.run(names, {"ids": longer, "mask": mask, "buckets": buckets})
    for a, b in zip(plain, padded, strict=True):
        np.testing.assert_allclose(a, b, atol=0.03, err_msg="but for the rounding of activations, which sees all")


def test_languages_are_told_apart() -> None:
    expert = TextExpert(weight_set="commercial")
    assert {code: expert.language_of(text) for code, text in TEXTS.items()} == {code: code for code in TEXTS}
    assert expert.language_of("Thank you") == "en"
    assert expert.language_of("これはとても良い映画でした") is None
    assert {expert.network(code) for code in TEXTS} == {expert.network("en")}, "one network reads them all"


def test_the_lower_layers_are_those_of_both_sets() -> None:
    onnx = pytest.importorskip("onnx")
    names = ("text_multi", "text_commercial")
    paths = [
        weights.shipped(name, of_set=chosen) for name, chosen in zip(names, ("research", "commercial"), strict=True)
    ]
    places = []
    for path in paths:
        tensors = onnx.load(str(path), load_external_data=False).graph.initializer
        told = [{item.key: item.value for item in tensor.external_data} for tensor in tensors]
        places.append({json.dumps(each, sort_keys=True) for each in told if each})
    assert len(places[0] & places[1]) >= 26, "embeddings, positions and 24 matrices"
