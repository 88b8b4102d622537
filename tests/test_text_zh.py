"""The Chinese text network: its features by hand, its recipe against reference libraries, and the shipped weights."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import zipfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse import weights
from affuse.data.corpora import load
from affuse.errors import AssetError
from affuse.evaluation import classification_report
from affuse.experts.text.chinese import (
    Alphabet,
    ChineseText,
    gram_hashes,
    look_up,
    normalise,
)
from affuse.experts.text.chinese_words import Words
from affuse.labels import EKMAN, SENTIMENT, SMP2020, restrict

EVERYDAY = [
    "我今天很开心！",
    "气死我了，什么垃圾服务",
    "我好害怕",
    "今天星期三",
    "太难过了，眼泪止不住",
    "真没想到！",
]


@pytest.fixture(scope="module")
def network() -> ChineseText:
    return ChineseText(weights.shipped("text_zh"))


# --- features


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("ＡＢＣ！？", "abc!?"),
        ("好   的\n吧 ", "好 的 吧"),
        ("哈哈哈哈哈哈", "哈哈"),
        ("2020年1月23日", "0年0月0日"),
        ("看 http://t.cn/A6PqoMKY 吧", "看 \ue000 吧"),
        ("转//@烊家军:致敬", "转//\ue001致敬"),
        ("\ufeff酒店", "酒店"),
        ("[没有结束", "[没有结束"),
        ("", ""),
    ],
)
def test_texts_are_normalised(raw: str, clean: str) -> None:
    assert normalise(raw) == clean


def test_an_emoticon_is_one_character_and_keeps_its_identity() -> None:
    heart, tears = normalise("[心]"), normalise("[泪]")
    assert len(heart) == len(tears) == 1
    assert heart != tears
    assert normalise("爱你[心]") == "爱你" + heart


def reference_hash(gram: str) -> int:
    """The hash of one n-gram, in Python's own integers."""
    state = 0
    for character in gram:
        state = (state + ord(character) + 1) * 0x9E3779B97F4A7C15 % 2**64
        state ^= state >> 29
    return (state * 0x9E3779B97F4A7C15 % 2**64) >> 32


@pytest.mark.parametrize("text", ["", "好", "很好很好", "房间不错,服务一般!\U000f0001"])
def test_grams_are_all_sequences_of_one_to_four_characters(text: str) -> None:
    framed = "\x02" + text + "\x03"
    expected = Counter(reference_hash(framed[i : i + n]) for n in range(1, 5) for i in range(len(framed) - n + 1))
    hashes, counts = gram_hashes(text)
    assert hashes.dtype == np.uint32
    assert dict(zip(hashes.tolist(), counts.tolist(), strict=True)) == expected


def test_only_known_grams_are_looked_up() -> None:
    hashes = np.array([1, 5, 9, 2**32 - 1], dtype=np.uint32)
    ids, counts = look_up(hashes, np.array([1, 2, 3, 4]), np.array([5, 7, 9], dtype=np.uint32))
    assert ids.tolist() == [0, 2]
    assert counts.tolist() == [2.0, 3.0]


def test_other_hashes_count_as_ngrams_do() -> None:
    plain, counts = gram_hashes("好")
    first = plain[:1]
    hashes, more = gram_hashes("好", np.concatenate([first, first]))
    assert hashes.tolist() == plain.tolist()
    assert more.tolist() == [counts[0] + 2, *counts[1:]]


def test_characters_become_ids_with_padding_at_the_end() -> None:
    alphabet = Alphabet(np.array(sorted(map(ord, "不好")), dtype=np.uint64))
    assert alphabet.n_characters == 4
    assert alphabet.encode("不好吃").tolist() == [2, 3, 1, 0, 0, 0, 0]


def test_long_texts_keep_their_ends() -> None:
    alphabet = Alphabet(np.array(sorted(map(ord, "甲乙丙")), dtype=np.uint64))
    characters = alphabet.encode("甲" * 80 + "乙" * 500 + "丙" * 80)
    assert characters.tolist() == alphabet.encode("甲" * 80 + "丙" * 80).tolist()


# --- words


@pytest.fixture
def dictionary() -> Words:
    """结婚 and 和尚 cost little, 尚未 less than 和尚; 结婚 carries the tags 0 and 2, 未 the tag 1."""
    costs = {"结婚": 5.0, "和": 3.0, "和尚": 9.0, "尚未": 7.0, "未": 6.0}
    ends = np.array([0, 2, 2, 2, 2, 3])
    return Words(
        list(costs),
        np.array(list(costs.values())),
        ends,
        np.array([0, 2, 1], dtype=np.int16),
    )


def test_the_cheapest_cut_wins(dictionary: Words) -> None:
    assert dictionary.cut("结婚的和尚未结婚的") == [
        "结婚",
        "的",
        "和",
        "尚未",
        "结婚",
        "的",
    ]
    assert dictionary.cut("") == []


def test_every_character_knows_its_word(dictionary: Words) -> None:
    assert dictionary.ids(dictionary.cut("和尚未结婚!")).tolist() == [2, 4, 4, 1, 1, 0]
    assert dictionary.ids([]).tolist() == []


def test_words_and_tags_become_hashes(dictionary: Words) -> None:
    tags = [zlib.crc32(f"\x01{kind}".encode()) for kind in range(3)]
    assert dictionary.hashes(["结婚", "吗", "未"]).tolist() == [
        zlib.crc32("结婚".encode()),
        tags[0],
        tags[2],
        tags[1],
    ]
    assert dictionary.hashes(["吗"]).dtype == np.uint32


# --- the shipped weights


@pytest.mark.parametrize(("traditional", "simplified"), [("我很難過", "我很难过"), ("氣死我了", "气死我了")])
def test_traditional_characters_are_read_as_simplified_ones(
    network: ChineseText, traditional: str, simplified: str
) -> None:
    emotions, sentiment, embedding = network.read(traditional)
    for answer, expected in zip((emotions, sentiment, embedding), network.read(simplified), strict=True):
        np.testing.assert_array_equal(answer, expected)
    assert emotions.max() > 0.75


def test_answers_are_distributions(network: ChineseText) -> None:
    emotions, sentiment = network.probabilities(EVERYDAY), network.sentiment(EVERYDAY)
    assert emotions.shape == (6, len(EKMAN))
    assert sentiment.shape == (6, len(SENTIMENT))
    np.testing.assert_allclose(emotions.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(sentiment.sum(axis=1), 1, atol=1e-5)
    assert (emotions >= 0).all()
    assert (sentiment >= 0).all()


def test_neutral_sentiment_is_the_mass_of_neutral_and_surprise(
    network: ChineseText,
) -> None:
    emotions, sentiment = network.probabilities(EVERYDAY), network.sentiment(EVERYDAY)
    expected = emotions[:, EKMAN.index("neutral")] + emotions[:, EKMAN.index("surprise")]
    np.testing.assert_allclose(sentiment[:, SENTIMENT.index("neutral")], expected, atol=1e-6)


def test_a_batch_is_its_rows_in_any_order(network: ChineseText) -> None:
    texts = [*EVERYDAY, "酒店" * 300, "ok", "🙂"]
    for ask in (network.probabilities, network.sentiment, network.embed):
        together = ask(texts)
        assert np.array_equal(together, np.concatenate([ask([text]) for text in texts]))
        assert np.array_equal(together[::-1], ask(texts[::-1]))


@pytest.mark.parametrize("text", ["", " ", "\x00", "龘" * 5, "\ud800", "hello", "😀" * 9, "好" * 100_000])
def test_odd_texts_get_finite_answers(network: ChineseText, text: str) -> None:
    emotions, sentiment, embedding = network.read(text)
    assert np.isfinite(embedding).all()
    for answer, labels in ((emotions, EKMAN), (sentiment, SENTIMENT)):
        assert answer.shape == (len(labels),)
        assert (answer >= 0).all()
        assert answer.sum() == pytest.approx(1, abs=1e-5)


def test_no_texts_give_no_rows(network: ChineseText) -> None:
    assert network.probabilities([]).shape == (0, 7)
    assert network.sentiment([]).shape == (0, 3)


def test_plain_sentences_have_the_right_sign(network: ChineseText) -> None:
    sentiment = network.sentiment(["我今天很开心！", "气死我了，什么垃圾服务", "太难过了，眼泪止不住", "我好害怕"])
    difference = sentiment[:, 2] - sentiment[:, 0]
    assert (np.sign(difference) == [1, -1, -1, -1]).all()


def test_it_says_under_which_frequencies_it_answers(network: ChineseText) -> None:
    assert network.prior.shape == (7,)
    assert network.prior.sum() == pytest.approx(1, abs=1e-5)
    assert network.prior[EKMAN.index("disgust")] == pytest.approx(
        0.016, abs=1e-6
    )  # which no microblog is labelled with


def test_disgust_is_known(network: ChineseText) -> None:
    evidence = np.log(network.probabilities(["真恶心，我要吐了", "会议三点开始"])) - np.log(network.prior)
    assert evidence[0].argmax() in (EKMAN.index("disgust"), EKMAN.index("anger"))
    assert evidence[0, EKMAN.index("disgust")] > evidence[1, EKMAN.index("disgust")] + 1
    assert evidence[1].argmax() == EKMAN.index("neutral")


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra train, makes the wrong file")
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", value[:1], value[1:])
    path = tmp_path / "other.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        str(path),
    )
    with pytest.raises(
        AssetError,
        match=r"other\.onnx does not hold the Chinese text network.*characters",
    ):
        ChineseText(path)


@pytest.fixture(scope="module")
def macro_f1_on_microblogs(network: ChineseText, data: Path) -> float:
    rows = load("smp2020_ewect", data, "valid")
    P = restrict(network.probabilities(rows.inputs), EKMAN, SMP2020.labels)
    return classification_report(P, rows.targets, SMP2020.labels)["macro_f1"]


@pytest.mark.data
def test_microblogs_are_read_as_well_as_the_card_says(
    macro_f1_on_microblogs: float,
) -> None:
    assert macro_f1_on_microblogs == pytest.approx(0.601, abs=0.005)


@pytest.mark.data
def test_reviews_reach_the_first_bar(network: ChineseText, data: Path) -> None:
    rows = load("chnsenticorp", data, "valid")
    P = restrict(network.sentiment(rows.inputs), SENTIMENT, rows.labels.labels)
    assert classification_report(P, rows.targets, rows.labels.labels)["accuracy"] >= 0.91


# --- the recipe


@pytest.fixture(scope="module")
def recipe() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, runs the recipe")
    from types import SimpleNamespace

    from affuse.training.batching import pad
    from recipes import text_zh, text_zh_blend, text_zh_data, text_zh_graph, text_zh_linear, text_zh_network

    homes = (text_zh_data, text_zh_linear, text_zh_network, text_zh_blend, text_zh_graph, text_zh)
    names = {name: value for home in homes for name, value in vars(home).items()}
    return SimpleNamespace(**{**names, "pad": lambda rows: pad(rows)[0]})


def test_weights_of_words_are_those_of_scikit_learn(recipe: Any) -> None:
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = np.random.default_rng(0).poisson(0.7, size=(12, 9)).astype(np.float32)
    counts[:, 0] = 1
    X = sparse.csr_matrix(counts)
    expected = TfidfTransformer(sublinear_tf=True).fit_transform(X).toarray()
    ours = recipe.tfidf(X, recipe.inverse_document_frequency(X)).toarray()
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_bayes_ratio_by_hand(recipe: Any) -> None:
    from scipy import sparse

    X = sparse.csr_matrix(np.array([[3.0, 0], [1, 1], [0, 5]]))
    # Rows with each n-gram, and one more: positive 3 and 2, other 1 and 2.
    ratio = recipe.bayes_ratio(X, np.array([True, True, False]), np.ones(3))
    np.testing.assert_allclose(ratio, [np.log((3 / 5) / (1 / 3)), np.log((2 / 5) / (2 / 3))])


def test_copies_share_a_fold(recipe: Any) -> None:
    texts = [f"第{chr(0x4E00 + i // 2)}个{'!' * (i % 2)}" for i in range(80)]
    folds = recipe.fold_of(texts, np.arange(80) // 2 % 2, 3)
    assert set(folds) == {0, 1, 2}
    assert (folds[::2] == folds[1::2]).all()


def test_copies_are_found_whole_or_by_half(recipe: Any) -> None:
    train = ["这家酒店的早餐很丰富服务也很好下次还会再来住", "悲壮"]
    texts = [
        "悲壮!!",
        "这家酒店的早餐很丰富服务也很好,不错",
        "这家酒店的早餐一般,房间又小又旧,不推荐大家来住",
        "壮",
    ]
    assert recipe.copied(texts, train).tolist() == [True, True, False, False]


def test_emotions_imply_polarity(recipe: Any) -> None:
    implied = dict(zip(SMP2020.labels, recipe.polarity_of(np.arange(6)).tolist(), strict=True))
    assert implied == {
        "anger": 0,
        "fear": 0,
        "happiness": 1,
        "neutral": -100,
        "sadness": 0,
        "surprise": -100,
    }


def test_sentiment_by_hand(recipe: Any) -> None:
    emotions = np.array([[0.1, 0.05, 0.05, 0.3, 0.1, 0.2, 0.2]])
    np.testing.assert_allclose(recipe.sentiment_of(emotions, np.array([0.75])), [[0.15, 0.4, 0.45]])


def _blend(recipe: Any) -> Any:
    return recipe.blend_of(np.array([0] * 4 + [1] * 2 + [2] * 8 + [3, 3, 3, 4, 4, 5]), np.zeros(6), 0.5)


def test_the_blend_adds_evidence_to_what_is_frequent(recipe: Any) -> None:
    blend = _blend(recipe)
    np.testing.assert_allclose(blend.shares, np.array([4, 2, 8, 3, 2, 1]) / 20)
    assert blend.prior.sum() == pytest.approx(1)
    np.testing.assert_allclose(blend.prior[EKMAN.index("happiness")], 0.984 * 8 / 20)
    none = np.zeros((1, 8))
    # A stack that answers by its frequencies alone tells nothing, and neither does no evidence.
    np.testing.assert_allclose(blend.emotions(np.log(blend.shares)[None], none)[0], blend.prior)
    # By hand: the stack doubles the odds of anger (its first label), at half a weight; evidence of e^1 for disgust.
    logits, evidence = np.log(blend.shares)[None].copy(), none.copy()
    logits[0, 0] += np.log(2)
    logits -= np.log(np.exp(logits).sum())
    evidence[0, EKMAN.index("disgust")] = 1.0
    expected = blend.prior.copy()
    for i, label in enumerate(SMP2020.labels):
        expected[EKMAN.index(label)] *= np.sqrt(np.exp(logits[0, i]) / blend.shares[i])
    expected[EKMAN.index("disgust")] *= np.e
    np.testing.assert_allclose(blend.emotions(logits, evidence)[0], expected / expected.sum())


def test_lifts_are_part_of_the_frequencies(recipe: Any) -> None:
    blend = recipe.blend_of(np.array([0, 0, 0, 1, 2, 3, 4, 5]), np.log([1.0, 3, 3, 3, 3, 3]), 1.0)
    np.testing.assert_allclose(blend.shares, np.full(6, 1 / 6))


def test_everyday_emotions_count_for_polarity_unless_it_is_a_review(
    recipe: Any,
) -> None:
    evidence = np.zeros((2, 8))
    evidence[:, EKMAN.index("happiness")] = 2.0
    evidence[:, -1] = -50, 50  # a person who talks, and a review
    np.testing.assert_allclose(
        recipe.polarity_with_evidence(np.array([-1.0, -1.0]), evidence),
        [0.0, -1.0],
        atol=1e-9,
    )


def test_the_graph_blends_as_numpy_does(recipe: Any) -> None:
    import torch

    rng = np.random.default_rng(0)
    logits, evidence = rng.normal(size=(1, 6)) * 5, rng.normal(size=(1, 8))
    output = recipe.BlendGraph(_blend(recipe))(*(torch.from_numpy(z).float() for z in (logits, evidence)))
    np.testing.assert_allclose(output.numpy(), _blend(recipe).emotions(logits, evidence), rtol=1e-4)


def test_the_everyday_head_counts_every_emotion_the_same(recipe: Any) -> None:
    """Each emotion has a word of its own, one of them in nine of ten rows; reviews have another."""
    import torch
    from scipy import sparse

    from recipes.text_zh_everyday import fit_everyday

    emotions = np.array([6] * 90 + [0] * 3 + [1] * 3 + [3] * 4 + [-100] * 20)
    reviews = emotions < 0
    columns = np.where(reviews, 7, emotions)
    X = sparse.csr_matrix((np.ones(120), (np.arange(120), columns)), shape=(120, 8))
    head = fit_everyday(X, np.ones(8), emotions, reviews, 10.0)
    evidence = head.evidence(X)
    assert (evidence[~reviews][:, [0, 1, 3, 6]].argmax(axis=1) == np.searchsorted([0, 1, 3, 6], emotions[:100])).all()
    nothing = head.evidence(sparse.csr_matrix((1, 8)))[0]
    assert np.ptp(nothing[[0, 1, 3]]) < 0.7  # no label is taken for likely because it is frequent
    assert ((evidence[:, -1] > 0) == reviews).all()
    graph = recipe.EverydayGraph(head)(torch.tensor([3]), torch.tensor([2.0]))
    np.testing.assert_allclose(graph.numpy()[0], evidence[97], atol=0.1)  # INT8


def test_a_row_does_not_depend_on_its_neighbours(recipe: Any) -> None:
    import torch

    torch.manual_seed(0)
    network = recipe.ZhNetwork(50, 3, recipe.ZhConfig()).eval()
    alphabet = Alphabet(np.arange(0x4E00, 0x4E30, dtype=np.uint64))
    encoded = [alphabet.encode("".join(map(chr, range(0x4E00, 0x4E00 + n)))) for n in (1, 3, 40)]
    numbers = torch.randn(50, 3)
    numbers[0] = 0
    with torch.no_grad():
        alone = [network(row, numbers[row]) for row in (recipe.pad([ids]) for ids in encoded)]
        rows = recipe.pad(encoded)
        together = network(rows, numbers[rows])
    for i, outputs in enumerate(alone):
        for one, many in zip(outputs, together, strict=True):
            torch.testing.assert_close(one[0], many[i])


def test_the_graph_decides_as_the_linear_model_does(recipe: Any) -> None:
    import torch
    from scipy import sparse

    rng = np.random.default_rng(0)
    model = recipe.LinearModel(
        idf=rng.uniform(1, 8, size=30),
        weights={kind: rng.normal(size=(30, 6)) for kind in ("tfidf", "bayes")},
        bias={kind: rng.normal(size=6) for kind in ("tfidf", "bayes")},
    )
    ids, counts = np.array([3, 4, 17, 29]), np.array([1, 2, 1, 5], dtype=np.float32)
    X = sparse.csr_matrix((counts, (np.zeros(4, dtype=int), ids)), shape=(1, 30))
    with torch.no_grad():
        outputs = recipe.LinearGraph(model)(torch.from_numpy(ids), torch.from_numpy(counts))
    expected = model.decide(X)
    for kind, output in zip(("tfidf", "bayes"), outputs, strict=True):
        np.testing.assert_allclose(output.numpy(), expected[kind], atol=0.05)  # INT8: 1 of 127 steps of weights up to 3


def test_neighbours_count_by_their_distance(recipe: Any) -> None:
    from recipes.text_zh_vectors import co_occurrence

    counts = co_occurrence([np.array([2, 3, 4, 0]), np.array([2, 1, 0])], n_characters=5, window=2).toarray()
    expected = np.zeros((5, 5))
    expected[2, [3, 4]] = 1, 0.5
    expected[3, [2, 4]] = 1, 1
    expected[4, [2, 3]] = 0.5, 1
    np.testing.assert_allclose(counts, expected)


def test_characters_in_the_same_company_have_like_vectors(recipe: Any) -> None:
    from scipy import sparse

    from recipes.text_zh_vectors import neighbour_vectors

    counts = np.array(
        [[9, 8, 1, 0], [8, 9, 0, 1], [0, 1, 9, 8], [1, 0, 8, 9], [0, 0, 0, 0]],
        dtype=np.float32,
    )
    vectors = neighbour_vectors(sparse.csr_matrix(counts), width=2)
    assert np.isnan(vectors[4]).all()
    known = vectors[:4] / np.linalg.norm(vectors[:4], axis=1, keepdims=True)
    assert known[0] @ known[1] > 0.99
    assert known[2] @ known[3] > 0.99
    assert known[0] @ known[2] < 0.5
    assert vectors[:4].std() == pytest.approx(0.1)


def test_networks_start_from_the_vectors_that_are_known(recipe: Any) -> None:
    network = recipe.ZhNetwork(5, 2, recipe.ZhConfig(width=4))
    before = network.characters.weight.detach().clone()
    vectors = np.arange(20.0).reshape(5, 4)
    vectors[4] = np.nan
    network.start_from(vectors)
    np.testing.assert_allclose(network.characters.weight[:4].detach().numpy(), vectors[:4])
    assert network.characters.weight[4].equal(before[4])


def test_traditional_characters_have_simplified_forms(recipe: Any) -> None:
    pytest.importorskip(
        "opencc",
        reason="opencc-python-reimplemented, of the extra train, carries the table",
    )
    traditional, simplified = recipe.traditional_characters()
    assert len(traditional) == len(simplified) > 3000
    table = str.maketrans(traditional, simplified)
    assert "我很難過，謝謝你們".translate(table) == "我很难过，谢谢你们"
    assert "我很难过".translate(table) == "我很难过"


def test_the_stack_prefers_the_part_that_knows(recipe: Any) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=400)
    sign = (2.0 * y - 1)[:, None]
    parts = {
        "tfidf": rng.normal(size=(400, 1)),
        "network": 3 * sign + rng.normal(size=(400, 1)),
    }
    stack = recipe.fit_stack(parts, y, 1.0)
    assert ((stack.logits(parts)[:, 0] > 0) == y).mean() > 0.97
    assert abs(stack.weights["tfidf"][0, 0]) < 0.2 * stack.weights["network"][0, 0]


def test_the_stack_is_scikit_learns_logistic_regression(recipe: Any) -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, size=200)
    parts = {name: np.eye(3)[y] + rng.normal(size=(200, 3)) for name in ("tfidf", "network")}
    X = np.concatenate([z / z.std() for z in parts.values()], axis=1)
    expected = LogisticRegression(C=0.1).fit(X, y).decision_function(X)
    np.testing.assert_allclose(recipe.fit_stack(parts, y, 0.1).logits(parts), expected, atol=1e-3)


def test_stacks_answer_only_for_folds_they_never_saw(recipe: Any) -> None:
    y, folds = np.arange(60) % 2, np.arange(60) // 30
    evidence = np.where(folds == 0, 2 * y - 1, 1 - 2 * y)[:, None].astype(float)  # the folds contradict each other
    logits = recipe.cross_stacked({"tfidf": evidence}, y, folds, 1.0)
    assert ((logits[:, 0] > 0) != y).all()


def test_the_graph_stacks_as_numpy_does(recipe: Any) -> None:
    import torch

    rng = np.random.default_rng(0)
    parts = {name: rng.normal(size=(1, 6)) for name in ("tfidf", "bayes", "network")}
    stack = recipe.Stack({name: rng.normal(size=(6, 6)) for name in parts}, rng.normal(size=6))
    outputs = recipe.StackGraph(stack)(*(torch.from_numpy(z).float() for z in parts.values()))
    np.testing.assert_allclose(outputs.numpy(), stack.logits(parts), rtol=1e-4, atol=1e-5)


def test_rare_classes_are_lifted_where_that_helps(recipe: Any) -> None:
    y = np.array([0] * 90 + [1] * 10)
    z = np.zeros((100, 2))
    z[:90, 0], z[90:, 0] = 2.0, 0.5  # the rare class is always second, and close
    lifted = recipe.class_offsets(z, y)
    np.testing.assert_allclose(lifted, -0.3 * np.log([0.9, 0.1]))
    z[:90, 0] = 0.1  # now it cannot be told apart: lifting it would lose the frequent one
    assert recipe.class_offsets(z, y).tolist() == [0.0, 0.0]


def write_tiny_corpora(folder: Path) -> None:
    """Corpora in the layout of the real ones, where every label has a word of its own."""
    words = {
        "angry": "气死",
        "fear": "害怕",
        "happy": "开心",
        "neutral": "通报",
        "sad": "难过",
        "surprise": "竟然",
    }
    (folder / "smp2020_ewect").mkdir()
    for file, n in (
        ("virus_train.txt", 20),
        ("virus_eval_labeled.txt", 3),
        ("usual_eval_labeled.txt", 2),
    ):
        rows = [
            {"content": f"{word}了{chr(0x5000 + i)}{file[6]}", "label": label}
            for label, word in words.items()
            for i in range(n)
        ]
        (folder / "smp2020_ewect" / file).write_text(json.dumps(rows), encoding="utf-8")
    talk = {
        "angry": "发火",
        "disgusted": "恶心",
        "fearful": "吓人",
        "happy": "高兴",
        "neutral": "开会",
        "sad": "哭了",
    }
    (folder / "emotiontalk").mkdir()
    lines = [
        f"{label}{i},{'valid' if i == 9 else 'train'},d{i},{word}{chr(0x5100 + i)},{label}"
        for label, word in (talk | {"surprised": "想不到"}).items()
        for i in range(10)
    ]
    (folder / "emotiontalk" / "labels_open.csv").write_text(
        "\n".join(["id,split,dialogue,text,words", *lines]), "utf-8"
    )
    (folder / "cped").mkdir()
    lines = [
        f"{tv},{label},{word}了" for tv in range(4) for label, word in (("worried", "担心"), ("astonished", "啊呀"))
    ]
    lines.append("3,negative-other,不知道")
    (folder / "cped" / "dialogues_open.csv").write_text("\n".join(["TV_ID,Emotion,Utterance", *lines]), "utf-8")
    for part in ("train", "dev"):
        (folder / "brighter" / part).mkdir(parents=True)
        lines = ["1,太好,0,0,0,1,0,0", "2,又气又怕,1,0,1,0,0,0", "3,通知,0,0,0,0,0,0"]
        table = "\n".join(["id,text,anger,disgust,fear,joy,sadness,surprise", *lines])
        (folder / "brighter" / part / "chn.csv").write_text(table, "utf-8")
    (folder / "chnsenticorp").mkdir()
    for file, start, n in (("train.csv", 0, 40), ("validation.csv", 40, 10)):
        lines = [f"{i % 2},房间{'很好' if i % 2 else '太差'}{chr(0x6000 + i)}" for i in range(start, start + n)]
        (folder / "chnsenticorp" / file).write_text("\n".join(["label,text", *lines]), encoding="utf-8")
    (folder / "waimai_10k").mkdir()
    lines = [f"{i % 2},送餐{'很好' if i % 2 else '太差'}{chr(0x7000 + i)}" for i in range(10)]
    (folder / "waimai_10k" / "waimai_10k.csv").write_text("\n".join(["label,review", *lines]), encoding="utf-8")
    (folder / "online_shopping_10_cats").mkdir()
    lines = [
        f"{cat},{i % 2},{cat}{'很好' if i % 2 else '太差'}{chr(0x8000 + i)}"
        for cat in ("水果", "书籍", "酒店", "计算机")
        for i in range(4)
    ]
    with zipfile.ZipFile(folder / "online_shopping_10_cats" / "online_shopping_10_cats.zip", "w") as archive:
        archive.writestr("online_shopping_10_cats.csv", "\n".join(["cat,label,review", *lines]))


def write_tiny_sources(folder: Path) -> Path:
    """Word vectors and frequencies in the layout of their package."""
    words = ["气死", "害怕", "開心", "开心", "通报", "房间", "word"]
    vectors = np.random.default_rng(0).normal(size=(len(words), 5)).astype("<f4")
    lines = [word.encode() + b" " + vector.tobytes() for word, vector in zip(words, vectors, strict=True)]
    (folder / "words.vector").write_bytes(f"{len(words)} 5\n".encode() + b"".join(lines))
    (folder / "vocab.txt").write_text("气死 10 v\n开心 90 a\n開心 10 a\n难过 50 a\n两 个 5 m\n\n", encoding="utf-8")
    return folder / "words.vector"


def tiny_sources(folder: Path) -> Any:
    from recipes.text_zh_words import read_sources

    return read_sources(write_tiny_sources(folder), str.maketrans("開", "开"))


def test_sources_are_read_as_their_package_writes_them(recipe: Any, tmp_path: Path) -> None:
    sources = tiny_sources(tmp_path)
    assert set(sources.vectors) == {"气死", "害怕", "开心", "通报", "房间"}
    raw = np.random.default_rng(0).normal(size=(7, 5)).astype("<f4")
    np.testing.assert_array_equal(sources.vectors["开心"], raw[3])  # its own vector before its traditional form's
    assert sources.frequencies == {"气死": 10, "开心": 100, "难过": 50}


def test_missing_sources_are_named_with_the_command(recipe: Any, tmp_path: Path) -> None:
    from recipes.text_zh_words import read_sources

    with pytest.raises(AssetError, match=r"pip install.*synonyms"):
        read_sources(tmp_path / "words.vector", {})


def test_the_word_table_holds_what_is_known(recipe: Any, tmp_path: Path) -> None:
    from recipes.text_zh_words import table_of

    sources = tiny_sources(tmp_path)
    table = table_of(["房间很好", "房间太差"], sources, 3)
    assert table.words.words == [
        "开心",
        "房间",
        "气死",
    ]  # seen, then the most frequent; by code point
    assert table.numbers.shape[0] == 4
    assert not table.numbers[0].any()
    assert (table.numbers[1:, -1] == 1).all()
    cosine = sources.vectors["开心"] @ sources.vectors["气死"]
    cosine /= np.linalg.norm(sources.vectors["开心"]) * np.linalg.norm(sources.vectors["气死"])
    kept = table.numbers[[1, 3], :-1]  # as many directions as there are: turned, nothing lost
    assert kept[0] @ kept[1] / np.linalg.norm(kept[0]) / np.linalg.norm(kept[1]) == pytest.approx(cosine, abs=1e-5)
    carried = [set(table.words.tags[a:b].tolist()) for a, b in itertools.pairwise(table.words.ends)]
    assert all(len(tags) == 2 for tags in carried)  # a cluster of either size
    assert not carried[0] & carried[1]


def test_categories_that_overlap_with_the_test_part_stay_away(recipe: Any, tmp_path: Path) -> None:
    write_tiny_corpora(tmp_path)
    rows = recipe.gather(tmp_path, recipe.ZhConfig())
    assert Counter(rows.corpora.tolist()) == {
        "blogs": 120,
        "everyday": 12,
        "reviews": 40,
        "delivery": 10,
        "shop": 4,
    }
    assert not any(word in text for text in rows.texts for word in ("书籍", "酒店", "计算机"))
    assert (rows.folds[rows.corpora == "shop"] == -1).all()
    assert set(rows.folds[rows.corpora == "blogs"]) == set(range(recipe.ZhConfig().folds))
    assert (rows.folds[rows.corpora == "everyday"] == -1).all()  # they help, and nothing is measured by them


def test_everyday_corpora_are_read_by_their_own_rules(recipe: Any, tmp_path: Path) -> None:
    write_tiny_corpora(tmp_path)
    label = EKMAN.labels.__getitem__
    talk = load("emotiontalk_words", tmp_path, "train")
    assert (len(talk), len(load("emotiontalk_words", tmp_path, "dev"))) == (63, 7)
    assert dict(zip(talk.inputs[::9], map(label, talk.targets[::9]), strict=True))["恶心\u5100"] == "disgust"
    series = load("cped", tmp_path, "train")  # the first two series are valid; an emotion that has no place is left out
    assert series.groups.tolist() == [2, 2, 3, 3]
    assert [label(y) for y in series.targets] == ["fear", "surprise"] * 2
    posts = load("brighter_chn", tmp_path, "train")  # several emotions in one post teach nothing
    assert list(zip(posts.inputs, map(label, posts.targets), strict=True)) == [
        ("太好", "happiness"),
        ("通知", "neutral"),
    ]
    assert len(load("brighter_chn", tmp_path, "dev")) == 2
    texts, targets = recipe.read_everyday(tmp_path)
    assert len(texts) == len(targets) == 63 + 4 + 2


@pytest.mark.slow
def test_the_recipe_learns_exports_and_measures(recipe: Any, tmp_path: Path) -> None:
    write_tiny_corpora(tmp_path)
    out = tmp_path / "run"
    # In a process of its own: torch's exporter warns of itself.
    vectors = str(write_tiny_sources(tmp_path))
    options = {
        "--data": str(tmp_path),
        "--word-vectors": vectors,
        "--out": str(out),
        "--epochs": "12",
    }
    command = [
        sys.executable,
        "-m",
        "recipes.text_zh",
        *(word for pair in options.items() for word in pair),
    ]
    subprocess.run(
        command,
        check=True,
        capture_output=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    assert card["sha256"] == weights.sha256_of(out / "text_zh.onnx")
    assert card["dev"]["smp2020_ewect"]["accuracy"] > 0.8
    assert card["dev"]["chnsenticorp"]["accuracy"] > 0.8
    model = ChineseText(out / "text_zh.onnx")
    assert model.probabilities(["好开心"])[0].argmax() == EKMAN.index("happiness")
    assert (np.log(model.probabilities(["真恶心"])[0]) - np.log(model.prior)).argmax() == EKMAN.index("disgust")
    np.testing.assert_array_equal(model.probabilities(["好開心"]), model.probabilities(["好开心"]))
    with np.load(out / "held_out.npz", allow_pickle=False) as arrays:
        assert arrays["emotion_probabilities"].shape == (120, 7)
        assert arrays["emotion_targets"].shape == (120,)
        assert set(arrays["sentiment_targets"].tolist()) == {0, 2}
        assert len(arrays["sentiment_probabilities"]) == 40 + 80  # reviews, and the microblogs of a polar emotion
