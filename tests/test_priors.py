"""Priors: frequencies by name and by file, lexicon, soft rules, their weights, and the page about them."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import pickle
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from affuse.errors import ConfigError, DataError, OutputError
from affuse.fusion.priors import (
    LEXICON_CAP,
    MELD_TRAIN,
    NAMES,
    TEMPER,
    Fired,
    Prior,
    Rule,
    Windows,
    apply,
    fit_rule_weights,
    reweight,
    weigh,
)
from affuse.fusion.priors.phrases import PhraseIndex
from affuse.labels import EKMAN

DOCS = Path(__file__).parent.parent / "docs"
AB = ("sad", "glad")

frequencies = arrays(float, 4, elements=st.floats(0.01, 1)).map(lambda a: a / a.sum())
tables = arrays(float, (5, 4), elements=st.floats(0.01, 1)).map(lambda a: a / a.sum(axis=1, keepdims=True))


def own(**fields: Any) -> Prior:
    return Prior(AB, np.ones(2), "own", **fields)


# --- frequencies ------------------------------------------------------------------------------------------------------


def test_dialogue_is_how_often_meld_shows_each_label_plus_one() -> None:
    # 1109 + 1, 271 + 1, 268 + 1, 1743 + 1, 683 + 1, 1205 + 1, 4710 + 1, of 9989 + 7
    expected = np.array([1110, 272, 269, 1744, 684, 1206, 4711]) / 9996
    np.testing.assert_allclose(Prior.named("dialogue").frequencies, expected)


@pytest.mark.data
def test_the_counts_are_those_of_melds_training_part(data: Path) -> None:
    with (data / "meld" / "train_sent_emo.csv").open(encoding="utf-8", errors="replace") as file:
        counts = Counter(row["Emotion"] for row in csv.DictReader(file))
    counts["happiness"] = counts.pop("joy")
    assert dict(counts) == MELD_TRAIN


def test_tempered_lies_between_uniform_and_dialogue() -> None:
    named = {name: Prior.named(name).frequencies for name in NAMES}
    expected = named["dialogue"] ** TEMPER
    np.testing.assert_allclose(named["tempered"], expected / expected.sum())
    assert named["uniform"].max() < named["tempered"].max() < named["dialogue"].max()


def test_a_named_prior_follows_the_labels_it_is_asked_for() -> None:
    prior = Prior.named("dialogue", ["neutral", "fear"])
    np.testing.assert_allclose(prior.frequencies, [4711 / 4980, 269 / 4980])
    np.testing.assert_allclose(Prior.named("uniform", ["a", "b", "c"]).frequencies, [1 / 3] * 3)
    with pytest.raises(ConfigError, match="not calm; take uniform or a file"):
        Prior.named("dialogue", ["calm", "anger"])
    with pytest.raises(ConfigError, match="unknown prior 'flat'; known: dialogue, uniform, tempered"):
        Prior.named("flat")


def test_dialogue_knows_what_people_call_its_labels() -> None:
    np.testing.assert_allclose(Prior.named("dialogue", ["happy", "angry"]).frequencies, [1744 / 2854, 1110 / 2854])
    assert Prior.find(None, ["happy", "angry"]).name == "tempered"
    assert Prior.find(None, ["mad", "angry"]).name == "uniform"
    with pytest.raises(ConfigError, match="two of the labels mad, angry mean the same"):
        Prior.named("dialogue", ["mad", "angry"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, 3], "expected 2 frequencies"),
        ([1, -1], "at least 0"),
        ([1, np.nan], "finite"),
        ([0, 0], "all frequencies are 0"),
    ],
)
def test_frequencies_that_cannot_be_are_refused(values: list[float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prior(AB, np.array(values, dtype=float), "own")


def test_a_label_that_never_occurs_keeps_a_millionth() -> None:
    f = Prior(AB, np.array([0.0, 5.0]), "own").frequencies
    assert f[0] == pytest.approx(1e-6, rel=1e-3)
    assert f.sum() == pytest.approx(1)
    with pytest.raises(ValueError, match="read-only"):
        f[0] = 1


def test_reweight_by_hand() -> None:
    # .5·.25/.5 : .3·.25/.25 : .2·.5/.25 = .25 : .3 : .4
    found = reweight([[0.5, 0.3, 0.2]], [0.5, 0.25, 0.25], [0.25, 0.25, 0.5])
    np.testing.assert_allclose(found, [[25 / 95, 30 / 95, 40 / 95]])


@given(tables, frequencies, frequencies)
def test_reweight_there_and_back_is_the_identity(P: np.ndarray, old: np.ndarray, new: np.ndarray) -> None:
    np.testing.assert_allclose(reweight(reweight(P, old, new), new, old), P, rtol=1e-9)


@given(tables, frequencies)
def test_the_uniform_prior_leaves_the_order_of_likelihoods(likelihood: np.ndarray, old: np.ndarray) -> None:
    P = likelihood * old / (likelihood * old).sum(axis=1, keepdims=True)
    moved = reweight(P, old, np.full(4, 0.25))
    np.testing.assert_allclose(moved, likelihood / likelihood.sum(axis=1, keepdims=True), rtol=1e-9)


@given(tables, frequencies, frequencies)
def test_reweighting_in_two_steps_is_reweighting_once(P: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    uniform = np.full(4, 0.25)
    np.testing.assert_allclose(reweight(reweight(P, uniform, a), a, b), reweight(P, uniform, b), rtol=1e-9)


def test_rows_without_evidence_stay_so_and_impossible_ones_become_the_prior() -> None:
    P = np.array([[np.nan, np.nan], [1.0, 0.0]])
    found = reweight(P, [0.5, 0.5], [0.0, 1.0])
    assert np.isnan(found[0]).all()
    np.testing.assert_array_equal(found[1], [0, 1])
    by_row = reweight([[0.5, 0.5], [0.5, 0.5]], [0.5, 0.5], [[0.5, 0.5], [0.9, 0.1]])
    np.testing.assert_allclose(by_row, [[0.5, 0.5], [0.9, 0.1]])
    with pytest.raises(DataError, match="got 2, 3 and 2"):
        reweight(P, np.ones(3), np.ones(2))


def test_apply_adds_exactly_its_log_odds() -> None:
    P = np.array([[0.25, 0.75], [np.nan, np.nan], [1.0, 0.0]])
    added = np.array([[1.5, 0.0], [1.0, 0.0], [0.0, 800.0]])
    found = apply(P, np.ones(2) / 2, own(), added)
    assert np.log(found[0, 0] / found[0, 1]) == pytest.approx(np.log(1 / 3) + 1.5)
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], [1, 0])  # what the evidence excludes stays so
    with pytest.raises(DataError, match="same shape"):
        apply(P, np.ones(2), own(), np.zeros(2))


def test_apply_takes_the_frequencies_of_the_context() -> None:
    prior = own(contexts={"fair": np.array([1, 3])})
    half = np.full((2, 2), 0.5)
    np.testing.assert_allclose(apply(half, half[0], prior, contexts=["fair", None]), [[0.25, 0.75], [0.5, 0.5]])
    np.testing.assert_allclose(apply(half, half[0], prior, contexts="fair"), [[0.25, 0.75]] * 2)
    np.testing.assert_allclose(apply(half, half[0], prior, contexts="unknown"), half)
    prior.check_context("fair")
    with pytest.raises(ConfigError, match="no context 'fare'; it knows fair"):
        prior.check_context("fare")


# --- words ------------------------------------------------------------------------------------------------------------

PHRASES = ("happy", "fed up", "killing", "killing it", "开心", "太开心了", "😂", "don't know", "großartig")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("I am Happy!", ["happy"]),
        ("unhappy happyness", []),  # whole words
        ("happy happy happy", ["happy"]),  # once
        ("I'm not happy", []),
        ("not at all happy", []),
        ("not that I would mind, happy", ["happy"]),  # a comma ends the clause
        ("that is not what we saw happy", ["happy"]),  # four words away
        ("No. Happy now", ["happy"]),
        ("no happy end", []),
        ("no I am happy", ["happy"]),
        ("not sad but happy", ["happy"]),
        ("I wasn’t happy", []),
        ("i dont feel happy", []),
        ("FED-UP", ["fed up"]),
        ("He fed. Up there", []),
        ("you are killing it", ["killing it"]),  # the longest
        ("killing me", ["killing"]),
        ("not killing it", []),
        ("I don't know", ["don't know"]),
        ("GROSSARTIG", ["großartig"]),
        ("我很开心", ["开心"]),
        ("太开心了", ["太开心了"]),
        ("不开心", []),
        ("我没有开心", []),
        ("他不来,我开心", ["开心"]),
        ("太 开 心 了", ["太开心了"]),
        ("我happy啊", ["happy"]),
        ("haha😂😂", ["😂"]),
        ("", []),
    ],
)
def test_what_a_text_means(text: str, meant: list[str]) -> None:
    assert [PHRASES[i] for i in PhraseIndex(PHRASES).meant(text)] == meant


def test_words_with_marks_stay_whole() -> None:
    index = PhraseIndex(["खुशी", "café", "שמח"])
    assert index.meant("cafe\u0301!") == [1]
    assert index.meant("खुशी है") == [0]
    assert index.meant("खु शी") == []


def test_what_a_text_holds_counts_negated_and_shorter_ones_as_well() -> None:
    assert PhraseIndex(PHRASES).held("not killing it, 不太开心了") == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        (["Happy", "happy"], "'Happy' and 'happy' are the same"),
        (["fed up", "fed-up"], "are the same"),
        ([" "], "empty"),
        (["a b c d e f"], "longer than 5 words"),
        (["开" * 41], "longer than 5 words"),
    ],
)
def test_phrases_that_cannot_be_are_refused(phrases: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PhraseIndex(phrases)


@given(st.text(alphabet="ab .,not'开心不😂\n", max_size=40))
def test_any_text_is_read_and_what_is_meant_is_held(text: str) -> None:
    index = PhraseIndex(["a", "a b", "b a b", "开心", "心", "😂", "not"])
    meant = index.meant(text)
    assert meant == sorted(set(meant))
    assert set(meant) <= set(index.held(text))


def test_the_lexicon_adds_up_to_its_cap() -> None:
    prior = own(lexicon={"grand": {"glad": 2.0}, "great": {"glad": 2.0, "sad": -0.5}, "alas": {"sad": 1.0}})
    np.testing.assert_allclose(prior.log_odds("grand"), [0, 2])
    np.testing.assert_allclose(prior.log_odds("grand and great, alas"), [0.5, LEXICON_CAP])
    np.testing.assert_array_equal(prior.log_odds("nothing of it"), [0, 0])
    np.testing.assert_array_equal(prior.log_odds(), [0, 0])


# --- rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"any_words": ("refund", "money back")}, [0]),
        ({"all_words": ("no", "refund")}, [0]),
        ({"all_words": ("refund", "bye")}, []),
        ({"no_words": ("refund",)}, [1, 2, 3]),
        ({"any_words": ("bye", "refund"), "no_words": ("no",)}, [2]),
        ({"person": ("agent",)}, [1, 2]),
        ({"person": ("Agent", "Caller")}, [0, 1, 2]),
        ({"person": ("nobody",)}, []),
        ({"context": ("call",)}, [0, 3]),
        ({"label": ("sad",)}, [0]),
        ({"label": ("sad", "glad")}, [0, 1, 2]),
        ({"probability": {"glad": 0.6}}, [1, 2]),
        ({"probability": {"glad": 0.4, "sad": 0.4}}, [2]),
        ({"probability": {"glad": 0.5, "sad": 0.5}}, []),
        ({"after": 2.5}, [1, 2]),
        ({"before": 2.5}, [0]),
        ({"after": 1.5, "before": 11.5}, [0]),
        ({"part": (0.5, 1.0)}, [1, 2]),
        ({"part": (0.0, 0.5)}, [0]),
        ({"person": ("Agent",), "label": ("glad",), "after": 12}, [2]),
    ],
)
def test_where_a_rule_holds(condition: dict[str, Any], holds: list[int]) -> None:
    rule = Rule("one", {"sad": 1.0}, **condition)
    windows = Windows.of(
        ["there is no refund", "I see", "good bye", None],
        ["Caller", "Agent", "agent", None],
        [0, 10, 20, np.nan],  # middles 1.5, 11.5, 20
        [3, 13, 20, np.nan],
        ["call", None, "mail", "call"],
        [[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [np.nan, np.nan]],
        20,
    )
    fired = own(rules=(rule,)).fires(windows)
    assert fired.rows.tolist() == holds
    assert fired.shape == (4, 1)
    assert Fired.from_dense(fired.dense()).rows.tolist() == holds


def test_a_condition_on_what_nobody_knows_does_not_hold() -> None:
    rules = (
        Rule("time", {"sad": 1.0}, after=0.0),
        Rule("part", {"sad": 1.0}, part=(0.0, 1.0)),
        Rule("person", {"sad": 1.0}, person=("A",)),
        Rule("label", {"sad": 1.0}, label=("sad",)),
        Rule("probability", {"sad": 1.0}, probability={"sad": 0.0}),
        Rule("context", {"sad": 1.0}, context=("call",)),
    )
    prior = own(rules=rules)
    np.testing.assert_array_equal(prior.log_odds("hello"), [0, 0])
    assert prior.needs == {"times", "durations", "persons", "evidence", "contexts"}
    assert own(lexicon={"x": {"sad": 1.0}}).needs == {"words"}


def test_rules_and_words_add_up_and_say_so() -> None:
    prior = own(
        lexicon={"outrageous": {"sad": 1.5}, "fed up": {"sad": 1.0, "glad": -0.5}, "well": {"glad": 1.0}},
        rules=(Rule("calm", {"glad": 0.25}, person=("Agent",), weight=2.0), Rule("off", {"sad": 9}, after=0, weight=0)),
        weights={"fed up": 0.5, "well": 0.0},
    )
    said = {"words": "Outrageous! I'm fed up. Well...", "person": "Agent", "start": 0, "end": 3}
    np.testing.assert_allclose(prior.log_odds(**said), [1.5 + 0.5, -0.25 + 0.5])
    assert prior.explain(**said) == [
        "'outrageous' adds +1.5 to sad",
        "'fed up' adds +0.5 to sad and -0.25 to glad",
        "rule 'calm' adds +0.5 to glad",
    ]
    assert own(lexicon={"a": {"sad": 2}, "b": {"sad": 2}}).explain("a b")[-1] == (
        "all words together count at most 3 for sad"
    )


def test_many_windows_are_answered_as_each_by_itself() -> None:
    prior = Prior.read(DOCS / "prior.toml") if DOCS.is_dir() else own(lexicon={"bye": {"glad": 1}})
    rng = np.random.default_rng(0)
    texts = ["fed up", "refund", "bye", "", "不开心", "太开心了", "killing it not"]
    words = [" ".join(rng.choice(texts, 3)) for _ in range(50)]
    P = rng.dirichlet(np.ones(len(prior.labels)), 50)
    starts = np.arange(50.0)
    windows = Windows.of(words, "Agent", starts, starts + 3, "praise", P, 52)
    many, notes = prior.log_odds_of(windows), prior.explain_all(windows)
    for i in range(50):
        one = (words[i], "Agent", starts[i], starts[i] + 3, "praise", P[i], 52)
        np.testing.assert_allclose(prior.log_odds(*one), many[i])
        assert prior.explain(*one) == notes[i]
    assert prior.log_odds_of(Windows.of([])).shape == (0, len(prior.labels))


def test_windows_that_do_not_fit_are_refused() -> None:
    for fields, message in (
        ({"persons": ["A"]}, "persons must name 2 windows; got 1"),
        ({"starts": [1, 2, 3]}, "starts must hold 2 numbers"),
        ({"evidence": [0.5, 0.5]}, "must have 2 rows"),
    ):
        with pytest.raises(DataError, match=message):
            Windows.of(["a", "b"], **fields)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="2 labels; the evidence 3 classes"):
        own().log_odds_of(Windows.of(["a"], evidence=[[1, 0, 0]]))


def test_ten_thousand_words_in_twenty_thousand_windows_take_less_than_a_second() -> None:
    lexicon = {f"word{i} {i}" if i % 3 else f"word{i}": {"sad": 0.1} for i in range(10_000)}
    rng = np.random.default_rng(0)
    words = [" ".join(f"word{j}" for j in row) for row in rng.integers(0, 30_000, (20_000, 12))]
    prior, windows = own(lexicon=lexicon), Windows.of(words)
    seconds = []
    for _ in range(2):  # other work on the machine makes a run slower, never faster
        begin = time.process_time()
        prior.log_odds_of(windows)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 1.0  # a fifth of 100,000 windows in a fifth of 5 s


# --- files ------------------------------------------------------------------------------------------------------------


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


EVERYTHING = """
name = "mine"
[frequencies]
sad = 1
glad = 3
[context.fair.frequencies]
sad = 1
glad = 9
[lexicon]
hooray = { glad = 1.5 }
"oh no" = { sad = 1 }
[weights]
hooray = 0.5
[[rules]]
name = "r"
label = "sad"
probability = { sad = 0.4 }
words = { any = "a", all = ["b"], none = ["c"] }
person = ["A", "B"]
context = "fair"
after = 1
before = 60.5
part = [0, 0.5]
add = { sad = 1, glad = -1 }
weight = 0.25
"""


def test_a_file_holds_everything(tmp_path: Path) -> None:
    prior = Prior.read(write(tmp_path / "p.toml", EVERYTHING), AB)
    np.testing.assert_allclose(prior.frequencies, [0.25, 0.75])
    np.testing.assert_allclose(prior.frequencies_in("fair"), [0.1, 0.9])
    assert prior.known_contexts == ("fair",)
    np.testing.assert_allclose(prior.log_odds("hooray, oh no"), [1, 0.75])
    assert prior.rules == (
        Rule("r", {"sad": 1, "glad": -1}, ("sad",), {"sad": 0.4}, ("a",), ("b",), ("c",), ("A", "B"), ("fair",),
             1.0, 60.5, (0.0, 0.5), 0.25),
    )  # fmt: skip
    facts = prior.describe()
    assert facts.pop("sha256") == prior.sha256
    frequencies = {"sad": 0.25, "glad": 0.75}
    assert facts == {"name": "mine", "frequencies": frequencies, "lexicon": 2, "rules": 1, "context": None}
    assert prior.describe("fair")["context"] == "fair"
    json.dumps(prior.describe())


def test_a_prior_goes_to_disk_and_back(tmp_path: Path) -> None:
    prior = Prior.read(write(tmp_path / "p.toml", EVERYTHING), AB)
    prior.write(tmp_path / "new" / "p.json")
    again = Prior.read(tmp_path / "new" / "p.json", AB)
    assert again == prior
    assert hash(again) == hash(prior)
    assert again != prior.with_weights([1, 1, 1])
    assert prior != "mine"
    assert pickle.loads(pickle.dumps(prior)) == prior
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.json"]
    with pytest.raises(ConfigError, match=r"name the file p\.json"):
        prior.write(tmp_path / "p.toml")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        prior.write(tmp_path / "folder.json")


@given(
    st.dictionaries(st.sampled_from(["a", "b c", "开心", "😂"]), st.floats(-10, 10), max_size=4),
    arrays(float, 2, elements=st.floats(1e-3, 1e9)),
)
def test_whatever_is_written_is_read_again(words: dict[str, float], counts: np.ndarray) -> None:
    prior = Prior(AB, counts, "own", lexicon={word: {"sad": value} for word, value in words.items()})
    again = Prior.from_dict(json.loads(json.dumps(prior.to_dict())), AB)
    assert again == prior


def test_a_file_without_frequencies_has_those_of_its_base(tmp_path: Path) -> None:
    path = write(tmp_path / "words.toml", 'base = "uniform"\nlexicon.yay = { joy = 1 }')
    prior = Prior.read(path)
    assert prior.name == "words"
    assert prior.lexicon == {"yay": {"happiness": 1.0}}  # what people call a label
    np.testing.assert_allclose(prior.frequencies, np.full(7, 1 / 7))
    default = Prior.read(write(tmp_path / "words.json", '\ufeff{"lexicon": {"yay": {"happiness": 1}}}'))
    np.testing.assert_allclose(default.frequencies, Prior.find(None).frequencies)
    np.testing.assert_allclose(Prior.find(None, AB).frequencies, [0.5, 0.5])


def test_an_option_names_a_prior_or_a_file(tmp_path: Path) -> None:
    prior = Prior.find("uniform")
    assert Prior.find(prior) is prior
    assert Prior.find(write(tmp_path / "p.toml", EVERYTHING), AB).name == "mine"
    with pytest.raises(ConfigError, match="'unifrom' is neither a file nor one of dialogue, uniform, tempered"):
        Prior.find("unifrom")
    with pytest.raises(ConfigError, match="the prior is over anger"):
        Prior.find(prior, AB)


REFUSED = [
    ("frequency = 1", "the file: unknown key 'frequency'; known: name, base"),
    ("[frequencies]\nsad = 1", "frequencies: lacks glad"),
    ("[frequencies]\nsad = 1\nglda = 2", r"frequencies.glda: unknown label 'glda'; labels: sad, glad"),
    ("[frequencies]\nsad = -1\nglad = 2", "frequencies.sad: must lie between 0"),
    ("[frequencies]\nsad = nan\nglad = 2", "frequencies.sad: must lie between 0 and 1e\\+15; got nan"),
    ("[frequencies]\nsad = 0\nglad = 0", "frequencies: all are 0"),
    ("[frequencies]\nsad = true\nglad = 1", "frequencies.sad: must be a number; got true or false"),
    ("frequencies = [1, 2]", "frequencies: must be a table; got a list"),
    ("base = 'uniform'\n[frequencies]\nsad = 1\nglad = 1", "base: the file has"),
    ("base = 'even'", "unknown prior 'even'"),
    ("base = 'dialogue'", "knows anger"),
    ("name = ''", "name: must be a text"),
    ("name = 3", "name: must be a text"),
    ("[context]\nfair = 1", "context.fair: must be a table"),
    ("[context.fair]\nrules = []", "context.fair: unknown key 'rules'"),
    ("[context.fair]", "context.fair: needs a table"),
    ("[lexicon]\nyay = 1.5", "lexicon.yay: must be a table; got a number"),
    ("[lexicon]\nyay = { glad = 10.5 }", "lexicon.yay.glad: must lie between -10 and 10; got 10.5"),
    ("[lexicon]\nyay = { glad = -inf }", "lexicon.yay.glad: must lie between"),
    ("[lexicon]\nyay = { glad = '1' }", "lexicon.yay.glad: must be a number; got a text"),
    ("[lexicon]\nyay = { glad = 1 }\nYay = { glad = 1 }", "lexicon: the phrases 'yay' and 'Yay' are the same"),
    ("[weights]\nyay = 1", "weights.yay: the lexicon does not hold"),
    ("rules = 1", "rules: must be a list"),
    ("[[rules]]\nperson = 'A'", r"rules\[1\].add: a rule needs the log-odds"),
    ("[[rules]]\nadd = { sad = 1 }", r"rules\[1\]: a rule needs a condition"),
    ("[[rules]]\nadd = { sad = 1 }\nif = 1", r"rules\[1\]: unknown key 'if'"),
    ("[[rules]]\nadd = { sad = 11 }\nperson = 'A'", r"rules\[1\].add.sad: must lie between"),
    ("[[rules]]\nadd = { sad = 1 }\nwords = { some = 'a' }", r"rules\[1\].words: unknown key 'some'"),
    ("[[rules]]\nadd = { sad = 1 }\nwords = [1]", r"rules\[1\].words.any: must be a text"),
    ("[[rules]]\nadd = { sad = 1 }\nwords = 'a b c d e f'", "words: the phrase 'a b c d e f' is longer"),
    ("[[rules]]\nadd = { sad = 1 }\nperson = ''", r"rules\[1\].person: must be a text"),
    ("[[rules]]\nadd = { sad = 1 }\nlabel = 'mad'", r"rules\[1\].label: unknown label 'mad'"),
    (
        "[[rules]]\nadd = { sad = 1 }\nprobability = { sad = 2 }",
        r"rules\[1\].probability.sad: must lie between 0 and 1",
    ),
    ("[[rules]]\nadd = { sad = 1 }\nafter = 5\nbefore = 5", "after must be less than before"),
    ("[[rules]]\nadd = { sad = 1 }\nafter = -1", r"rules\[1\].after: must lie"),
    ("[[rules]]\nadd = { sad = 1 }\npart = [0.5]", r"rules\[1\].part: must be two"),
    ("[[rules]]\nadd = { sad = 1 }\npart = [0.5, 0.1]", r"rules\[1\].part: must begin"),
    ("[[rules]]\nadd = { sad = 1 }\nafter = 1\nweight = -1", r"rules\[1\].weight: must lie"),
    ("x = ", "is not a TOML file"),
    ("a = " + "[" * 20_000, "is not a TOML file"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_a_wrong_file_is_refused_with_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "wrong.toml", text)
    with pytest.raises(ConfigError, match=rf"^{re.escape(str(path))}.*{message}") as found:
        Prior.read(path, AB)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1]", "must hold a table"),
        ("{", "is not a JSON file"),
        ("[" * 200_000, "is not a JSON file"),
        ('{"name": "a", "name": "b"}', "the key 'name' stands there twice"),
        ('{"lexicon": {"a": {"sad": NaN}}}', "lexicon.a.sad: must lie"),
        ('{"lexicon": {"a": {"sad": 1' + "0" * 400 + "}}}", "lexicon.a.sad: must lie"),
        ('{"rules": [1]}', r"rules\[1\]: must be a table"),
    ],
)
def test_wrong_json_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prior.read(write(tmp_path / "wrong.json", text), AB)


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: no such file"):
        Prior.read(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(ConfigError, match="is not a TOML file"):
        Prior.read(tmp_path / "latin.toml")


def test_too_much_is_refused() -> None:
    lexicon = {f"w{i}": {"sad": 1.0} for i in range(100_001)}
    with pytest.raises(ConfigError, match="lexicon: at most 100,000 entries; got 100,001"):
        Prior.from_dict({"lexicon": lexicon}, AB)
    with pytest.raises(ConfigError, match="rules: at most 10,000 entries; got 10,001"):
        Prior.from_dict({"rules": [{"add": {"sad": 1}, "after": 1}] * 10_001}, AB)
    with pytest.raises(ConfigError, match="rules: at most 10,000"):
        own(rules=(Rule("r", {"sad": 1.0}, after=1),) * 10_001)


def test_a_prior_made_by_hand_is_checked_as_well() -> None:
    with pytest.raises(ConfigError, match="unknown label 'mad'"):
        own(lexicon={"x": {"mad": 1.0}})
    with pytest.raises(ConfigError, match=r"lexicon.x.sad: log-odds must lie within ±10; got nan"):
        own(lexicon={"x": {"sad": np.nan}})
    with pytest.raises(ConfigError, match="the rule 'r': unknown label 'mad'"):
        own(rules=(Rule("r", {"sad": 1.0}, label=("mad",)),))
    with pytest.raises(ConfigError, match="at least 2 different labels"):
        Prior(("a", "a"), np.ones(2), "twice")


# --- weights ----------------------------------------------------------------------------------------------------------


def test_a_word_that_is_always_wrong_is_silenced_and_one_without_data_stays() -> None:
    prior = own(lexicon={"wrong": {"glad": 2.0}, "unheard": {"glad": 2.0}}, rules=(Rule("r", {"sad": 1.0}, after=0),))
    features = np.zeros((500, 3))
    features[:, 0] = 1
    weights = fit_rule_weights(prior, features, np.log(np.full((500, 2), 0.5)), np.zeros(500))
    assert weights[0] == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(weights[1:], 1)
    np.testing.assert_allclose(fit_rule_weights(prior, np.zeros((0, 3)), np.zeros((0, 2)), np.zeros(0)), 1)


def test_a_weight_is_the_maximum_a_posteriori() -> None:
    # 30 of 40 rows are glad; a word adds w·1 to even odds: the slope is 40·σ(w) − 30 + (w − 1)/.25 = 0
    prior = own(lexicon={"x": {"glad": 1.0}})
    y = np.repeat([1, 0], [30, 10])
    (w,) = fit_rule_weights(prior, np.ones((40, 1)), np.log(np.full((40, 2), 0.5)), y)
    assert 40 / (1 + np.exp(-w)) - 30 + (w - 1) / 0.25 == pytest.approx(0, abs=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_learned_weights_explain_their_rows_at_least_as_well_as_the_written_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior = own(lexicon={"a": {"glad": 1.0}, "b": {"sad": 2.0}}, rules=(Rule("r", {"glad": -1.0}, after=0),))
    features, P, y = rng.random((60, 3)) < 0.4, rng.dirichlet([2, 2], 60), rng.integers(0, 2, 60)
    weights = fit_rule_weights(prior, features, np.log(P), y)

    def likelihood(p: Prior) -> float:
        said = features @ (p.adds * p.entry_weights[:, None])
        Z = np.log(P) + said
        return float((Z - np.logaddexp(*Z.T)[:, None])[np.arange(60), y].sum())

    assert (weights >= 0).all()
    assert likelihood(prior.with_weights(weights)) >= likelihood(prior) - 1e-6


def test_rows_without_evidence_or_label_teach_nothing() -> None:
    prior = own(lexicon={"x": {"glad": 2.0}})
    L = np.log(np.full((4, 2), 0.5))
    L[0] = np.nan
    y = np.array([0, -1, -1, -1])
    np.testing.assert_allclose(fit_rule_weights(prior, np.ones((4, 1)), L, y), [1])
    for features, y, message in (
        (np.ones((4, 2)), np.zeros(4), "has 1 entries; the features have 2"),
        (np.ones((4, 1)), np.zeros(3), "expected P of shape"),
        (np.ones((4, 1)), np.full(4, 2), "y names column 2; the prior has 2 labels"),
        (np.ones(4), np.zeros(4), "got 1 dimensions"),
    ):
        with pytest.raises(DataError, match=message):
            fit_rule_weights(prior, features, L, y)


def test_weighing_by_windows_keeps_what_helps() -> None:
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 400)
    # "hooray" is said when people are glad, "um" by chance
    words = [("hooray " if y_ and rng.random() < 0.8 else "") + ("um" if rng.random() < 0.5 else "") for y_ in y]
    prior = own(lexicon={"hooray": {"glad": 1.0}, "um": {"glad": 1.0}})
    weighed = weigh(prior, Windows.of(words), np.full((400, 2), 0.5), y)
    assert weighed.entry_weights[0] > 1.5
    assert weighed.entry_weights[1] < 0.3
    assert weighed.lexicon == prior.lexicon
    assert Prior.from_dict(weighed.to_dict(), AB) == weighed


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [np.nan, 1.0], [1.0, 1e9]])
def test_weights_that_cannot_be_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="weights"):
        own(lexicon={"a": {"sad": 1.0}, "b": {"sad": 1.0}}).with_weights(weights)


# --- predictions of anybody's models ----------------------------------------------------------------------------------


def test_fused_answers_go_under_a_prior_and_their_shares_with_them() -> None:
    from affuse.data.predictions import Predictions
    from affuse.evaluation.fused_tables import fuse_predictions

    P = np.array([[[0.8, 0.2], [0.3, 0.7]], [[np.nan] * 2, [np.nan] * 2]])
    predictions = Predictions(("x", "y"), ("face", "voice"), AB, P, np.array([-1, -1]), np.array(["x", "y"]))
    even = fuse_predictions(predictions)
    moved = even.under_prior(Prior(AB, np.array([0.25, 0.75]), "own"))
    # .8·.3·.25 against .2·.7·.75
    assert moved.P[0, 0] == pytest.approx(0.06 / (0.06 + 0.105))
    assert np.isnan(moved.P[1]).all()
    table = moved.to_frame()
    assert (table["label"][0], table["label"].notna().tolist()) == ("glad", [True, False])
    # Evidence speaks for "glad" as it did before; only what it starts from is another: log-odds of log 3.
    assert table["share_face"][0] == pytest.approx(np.log(0.2 / 0.8))
    assert table["share_voice"][0] == pytest.approx(np.log(0.7 / 0.3))
    assert moved.to_dict()["prior"]["name"] == "own"
    assert "prior" not in even.to_dict()
    with pytest.raises(ConfigError, match="neither a file"):
        even.under_prior("unifrom")


# --- the house --------------------------------------------------------------------------------------------------------


def test_priors_load_nothing_heavy() -> None:
    code = "import sys, affuse.fusion.priors; print(sorted({'scipy', 'sklearn', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.skipif(not (DOCS / "priors.md").is_file(), reason="the pages are not part of this source distribution")
def test_the_page_runs_and_prints_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DOCS)
    page = (DOCS / "priors.md").read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    printed = []
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(block, "priors.md", "exec"), names)
        printed += [out.getvalue()] if out.getvalue() else []
    assert printed == re.findall(r"```text\n(.*?)```", page, flags=re.DOTALL)


@pytest.mark.skipif(not DOCS.is_dir(), reason="the pages are not part of this source distribution")
def test_the_example_file_of_the_page_says_what_the_page_says() -> None:
    prior = Prior.read(DOCS / "prior.toml")
    assert prior.labels == EKMAN.labels
    assert (len(prior.lexicon), len(prior.rules), prior.known_contexts) == (6, 4, ("praise",))
