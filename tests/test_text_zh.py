"""The Chinese text network: its features by hand, its recipe against reference libraries, and the shipped weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.datasets import load
from affuse.errors import AssetError
from affuse.evaluation import classification_report
from affuse.experts import weights
from affuse.experts.text.chinese import Alphabet, ChineseText, gram_hashes, look_up, normalise
from affuse.labels import SENTIMENT, SMP2020, restrict

EVERYDAY = ["我今天很开心！", "气死我了，什么垃圾服务", "我好害怕", "今天星期三", "太难过了，眼泪止不住", "真没想到！"]


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


def test_characters_become_ids_with_padding_at_the_end() -> None:
    alphabet = Alphabet(np.array(sorted(map(ord, "不好")), dtype=np.uint64), n_pairs=1000)
    characters, pairs = alphabet.encode("不好吃")
    assert alphabet.n_characters == 4
    assert characters.tolist() == [2, 3, 1, 0, 0, 0, 0]
    by_hand = [(2 * 40503 + 3 * 7919) % 1000, (3 * 40503 + 1 * 7919) % 1000, 40503 % 1000, 0, 0, 0, 0]
    assert pairs.tolist() == by_hand


def test_long_texts_keep_their_ends() -> None:
    alphabet = Alphabet(np.array(sorted(map(ord, "甲乙丙")), dtype=np.uint64), n_pairs=10)
    characters, _ = alphabet.encode("甲" * 80 + "乙" * 500 + "丙" * 80)
    straight, _ = alphabet.encode("甲" * 80 + "丙" * 80)
    assert characters.tolist() == straight.tolist()


# --- the shipped weights


@pytest.mark.parametrize(("traditional", "simplified"), [("我很難過", "我很难过"), ("氣死我了", "气死我了")])
def test_traditional_characters_are_read_as_simplified_ones(
    network: ChineseText, traditional: str, simplified: str
) -> None:
    emotions, sentiment, embedding = network.read(traditional)
    for answer, expected in zip((emotions, sentiment, embedding), network.read(simplified), strict=True):
        np.testing.assert_array_equal(answer, expected)
    assert emotions.max() > 0.9


def test_answers_are_distributions(network: ChineseText) -> None:
    emotions, sentiment = network.probabilities(EVERYDAY), network.sentiment(EVERYDAY)
    assert emotions.shape == (6, len(SMP2020))
    assert sentiment.shape == (6, len(SENTIMENT))
    np.testing.assert_allclose(emotions.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(sentiment.sum(axis=1), 1, atol=1e-5)
    assert (emotions >= 0).all()
    assert (sentiment >= 0).all()


def test_neutral_sentiment_is_the_mass_of_neutral_and_surprise(network: ChineseText) -> None:
    emotions, sentiment = network.probabilities(EVERYDAY), network.sentiment(EVERYDAY)
    expected = emotions[:, SMP2020.index("neutral")] + emotions[:, SMP2020.index("surprise")]
    np.testing.assert_allclose(sentiment[:, SENTIMENT.index("neutral")], expected, atol=1e-6)


def test_a_batch_is_its_rows_in_any_order(network: ChineseText) -> None:
    texts = [*EVERYDAY, "酒店" * 300, "ok", "🙂"]
    for ask in (network.probabilities, network.sentiment, network.embed):
        together = ask(texts)
        assert np.array_equal(together, np.concatenate([ask([text]) for text in texts]))
        assert np.array_equal(together[::-1], ask(texts[::-1]))


@pytest.mark.parametrize("text", ["", " ", "\x00", "龘" * 5, "\ud800", "hello", "😀" * 9, "好" * 100_000])
def test_odd_texts_get_finite_answers(network: ChineseText, text: str) -> None:
    for answer in network.read(text):
        assert np.isfinite(answer).all()


def test_no_texts_give_no_rows(network: ChineseText) -> None:
    assert network.probabilities([]).shape == (0, 6)
    assert network.sentiment([]).shape == (0, 3)


def test_plain_sentences_have_the_right_sign(network: ChineseText) -> None:
    sentiment = network.sentiment(["我今天很开心！", "气死我了，什么垃圾服务", "太难过了，眼泪止不住", "我好害怕"])
    difference = sentiment[:, 2] - sentiment[:, 0]
    assert (np.sign(difference) == [1, -1, -1, -1]).all()


def test_another_models_file_is_refused(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx, of the extra train, makes the wrong file")
    helper = onnx.helper
    value = [helper.make_tensor_value_info(name, 1, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "other", value[:1], value[1:])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(AssetError, match=r"other\.onnx does not hold the Chinese text network.*characters"):
        ChineseText(path)


@pytest.fixture(scope="module")
def macro_f1_on_microblogs(network: ChineseText, data: Path) -> float:
    rows = load("smp2020_ewect", data, "valid")
    return classification_report(network.probabilities(rows.inputs), rows.targets, SMP2020.labels)["macro_f1"]


@pytest.mark.data
def test_microblogs_are_read_as_well_as_the_card_says(macro_f1_on_microblogs: float) -> None:
    assert macro_f1_on_microblogs == pytest.approx(0.596, abs=0.005)


@pytest.mark.data
def test_reviews_reach_the_first_bar(network: ChineseText, data: Path) -> None:
    rows = load("chnsenticorp", data, "valid")
    P = restrict(network.sentiment(rows.inputs), SENTIMENT, rows.labels.labels)
    assert classification_report(P, rows.targets, rows.labels.labels)["accuracy"] >= 0.91


# --- the recipe


@pytest.fixture(scope="module")
def recipe() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, runs the recipe")
    from affuse.training import text_zh

    return text_zh


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
    texts = ["悲壮!!", "这家酒店的早餐很丰富服务也很好,不错", "这家酒店的早餐一般,房间又小又旧,不推荐大家来住", "壮"]
    assert recipe.copied(texts, train).tolist() == [True, True, False, False]


def test_emotions_imply_polarity(recipe: Any) -> None:
    implied = dict(zip(SMP2020.labels, recipe.polarity_of(np.arange(6)).tolist(), strict=True))
    assert implied == {"anger": 0, "fear": 0, "happiness": 1, "neutral": -100, "sadness": 0, "surprise": -100}


def test_sentiment_by_hand(recipe: Any) -> None:
    emotions = np.array([[0.1, 0.1, 0.3, 0.2, 0.1, 0.2]])
    np.testing.assert_allclose(recipe.sentiment_of(emotions, np.array([0.75])), [[0.15, 0.4, 0.45]])


def test_a_row_does_not_depend_on_its_neighbours(recipe: Any) -> None:
    import torch

    torch.manual_seed(0)
    network = recipe.Network(50, recipe.ZhConfig(n_pairs=40)).eval()
    alphabet = Alphabet(np.arange(0x4E00, 0x4E30, dtype=np.uint64), 40)
    encoded = [alphabet.encode("".join(map(chr, range(0x4E00, 0x4E00 + n)))) for n in (1, 3, 40)]
    with torch.no_grad():
        alone = [network(*recipe.pad([row])) for row in encoded]
        together = network(*recipe.pad(encoded))
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
    from affuse.training.text_zh_vectors import co_occurrence

    pads = [0, 0, 0, 0]
    three = np.array([2, 3, 4, *pads]), np.array([7, 8, 9, *pads])
    with_unknown = np.array([2, 1, *pads]), np.array([5, 6, *pads])
    counts = co_occurrence([three, with_unknown], n_characters=5, n_pairs=10, window=2).toarray()
    expected = np.zeros((15, 5))
    expected[2, [3, 4]] = 1, 0.5
    expected[3, [2, 4]] = 1, 1
    expected[4, [2, 3]] = 0.5, 1
    expected[5 + 7, 4] = 1  # the pair of the first two: its nearer character is one place from the third
    expected[5 + 8, 2] = 1
    expected[5 + 9, [2, 3]] = 0.5, 1
    expected[5 + 6, 2] = 1
    np.testing.assert_allclose(counts, expected)


def test_characters_in_the_same_company_have_like_vectors(recipe: Any) -> None:
    from scipy import sparse

    from affuse.training.text_zh_vectors import neighbour_vectors

    counts = np.array([[9, 8, 1, 0], [8, 9, 0, 1], [0, 1, 9, 8], [1, 0, 8, 9], [0, 0, 0, 0]], dtype=np.float32)
    vectors = neighbour_vectors(sparse.csr_matrix(counts), width=2)
    assert np.isnan(vectors[4]).all()
    known = vectors[:4] / np.linalg.norm(vectors[:4], axis=1, keepdims=True)
    assert known[0] @ known[1] > 0.99
    assert known[2] @ known[3] > 0.99
    assert known[0] @ known[2] < 0.5
    assert vectors[:4].std() == pytest.approx(0.1)


def test_networks_start_from_the_vectors_that_are_known(recipe: Any) -> None:
    network = recipe.Network(3, recipe.ZhConfig(width=4, n_pairs=2))
    before = network.pairs.weight.detach().clone()
    vectors = np.arange(20.0).reshape(5, 4)
    vectors[4] = np.nan
    network.start_from(vectors)
    np.testing.assert_allclose(network.characters.weight.detach().numpy(), vectors[:3])
    np.testing.assert_allclose(network.pairs.weight[0].detach().numpy(), vectors[3])
    assert network.pairs.weight[1].equal(before[1])


def test_traditional_characters_have_simplified_forms(recipe: Any) -> None:
    pytest.importorskip("opencc", reason="opencc-python-reimplemented, of the extra train, carries the table")
    traditional, simplified = recipe.traditional_characters()
    assert len(traditional) == len(simplified) > 3000
    table = str.maketrans(traditional, simplified)
    assert "我很難過，謝謝你們".translate(table) == "我很难过，谢谢你们"
    assert "我很难过".translate(table) == "我很难过"


def test_the_mixture_prefers_the_part_that_knows(recipe: Any) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=400)
    noise = {kind: rng.normal(size=(400, 1)) for kind in ("tfidf", "bayes")}
    sign = (2.0 * y - 1)[:, None]
    knowing = recipe.fit_mixture(noise | {"network": sign + 0.1 * noise["bayes"]}, y, (0.5, 2.0))
    guessing = recipe.fit_mixture(
        {kind: sign + z for kind, z in noise.items()} | {"network": rng.normal(size=(400, 1))}, y, (0.5, 2.0)
    )
    spread = np.std(sign + 0.1 * noise["bayes"])
    assert knowing.factors["network"] * spread == pytest.approx(2.0)
    assert guessing.factors["network"] == pytest.approx(0.5, rel=0.2)


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
    words = {"angry": "气死", "fear": "害怕", "happy": "开心", "neutral": "通报", "sad": "难过", "surprise": "竟然"}
    (folder / "smp2020_ewect").mkdir()
    for file, n in (("virus_train.txt", 20), ("virus_eval_labeled.txt", 3), ("usual_eval_labeled.txt", 2)):
        rows = [
            {"content": f"{word}了{chr(0x5000 + i)}{file[6]}", "label": label}
            for label, word in words.items()
            for i in range(n)
        ]
        (folder / "smp2020_ewect" / file).write_text(json.dumps(rows), encoding="utf-8")
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


def test_categories_that_overlap_with_the_test_part_stay_away(recipe: Any, tmp_path: Path) -> None:
    write_tiny_corpora(tmp_path)
    rows = recipe.gather(tmp_path, recipe.ZhConfig())
    assert Counter(rows.corpora.tolist()) == {"blogs": 120, "everyday": 12, "reviews": 40, "delivery": 10, "shop": 4}
    assert not any(word in text for text in rows.texts for word in ("书籍", "酒店", "计算机"))
    assert (rows.folds[rows.corpora == "shop"] == -1).all()
    assert set(rows.folds[rows.corpora == "blogs"]) == {0, 1, 2}
    assert (rows.folds[rows.corpora == "everyday"] == -1).all()  # they help, and nothing is measured by them


@pytest.mark.slow
def test_the_recipe_learns_exports_and_measures(recipe: Any, tmp_path: Path) -> None:
    write_tiny_corpora(tmp_path)
    out = tmp_path / "run"
    # In a process of its own: torch's exporter warns of itself.
    command = [
        sys.executable,
        "-m",
        "affuse.training.text_zh",
        "--data",
        str(tmp_path),
        "--out",
        str(out),
        "--epochs",
        "6",
    ]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    card = json.loads((out / "card.json").read_text(encoding="utf-8"))
    assert card["sha256"] == weights.sha256_of(out / "text_zh.onnx")
    assert card["valid"]["smp2020_ewect"]["accuracy"] > 0.8
    assert card["valid"]["chnsenticorp"]["accuracy"] > 0.8
    model = ChineseText(out / "text_zh.onnx")
    assert model.probabilities(["好开心"])[0].argmax() == SMP2020.index("happiness")
    np.testing.assert_array_equal(model.probabilities(["好開心"]), model.probabilities(["好开心"]))
    with np.load(out / "held_out.npz", allow_pickle=False) as arrays:
        assert arrays["emotion_probabilities"].shape == (120, 6)
        assert arrays["emotion_targets"].shape == (120,)
        assert set(arrays["sentiment_targets"].tolist()) == {0, 2}
        assert len(arrays["sentiment_probabilities"]) == 40 + 80  # reviews, and the microblogs of a polar emotion
