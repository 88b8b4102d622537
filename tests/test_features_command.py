"""``affuse features`` and ``affuse compare --features`` from files to tables; late fusion that starts from features."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.feature_extraction.text import TfidfVectorizer

from affuse.errors import ConfigError
from affuse.evaluation.feature_comparison import FeatureData, compare_blocks
from affuse.features import Measured, make
from affuse.fusion.early import Concatenation
from affuse.fusion.late import LateFusion
from affuse.tables import read_table
from command import Run, caller

PAGE = Path(__file__).parent.parent / "docs" / "features.md"
WORDS = {"happy": ["glad", "great", "smile"], "sad": ["tears", "grey", "alone"]}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    monkeypatch.setenv("AFFUSE_CACHE", str(tmp_path / "cache"))
    return caller(monkeypatch, capfd)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts and pictures of 12 speakers: the words tell the label, and so does the direction of the stripes."""
    folder, rng = tmp_path_factory.mktemp("own"), np.random.default_rng(0)
    with (folder / "own.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "label", "speaker"])
        for i in range(48):
            label = ("happy", "sad")[i % 2]
            stripes = np.tile(np.where(np.arange(48) // 6 % 2, 200, 50), (48, 1))
            picture = (stripes if label == "happy" else stripes.T) + rng.normal(scale=20, size=(48, 48))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder / f"{i}.png")
            words = " ".join(rng.choice([*WORDS[label], "the", "a", "is"], 6))
            writer.writerow([f"{i}.png", f"{words} {i}", label, f"s{i // 4}"])
    return folder / "own.csv"


# --- the commands ---


def test_the_page_shows_the_list_that_the_command_prints(run: Run) -> None:
    pytest.importorskip("librosa", reason="widths of sound features need the extra features")
    result = run("features", "list", "--markdown")
    assert result.code == 0
    assert result.out.strip() in PAGE.read_text(encoding="utf-8")


def test_the_list_may_be_of_one_modality(run: Run) -> None:
    rows = json.loads(run("features", "list", "--json", "--modality", "text").out)
    assert {row["reads"] for row in rows} == {"text"}
    assert {row["name"] for row in rows} >= {"tf-idf", "bag-of-words"}
    result = run("features", "list", "--modality", "smell")
    assert (result.code, result.err) == (2, "affuse: unknown modality 'smell'; known: text, voice, face\n")


def test_a_table_becomes_features_with_its_own_columns(run: Run, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "features.parquet"
    result = run("features", "extract", "--features", "hog,tfidf", "--manifest", table, "--out", out)
    assert result.code == 0, result.err
    found = read_table(out)
    assert found["label"].tolist()[:3] == ["happy", "sad", "happy"]
    assert {"path", "text", "speaker", "hog_0_0", "hog reason", "tf-idf__glad", "tf-idf reason"} <= set(found.columns)
    texts = pd.read_csv(table)["text"]
    reference = TfidfVectorizer(ngram_range=(1, 2), max_features=5000).fit(texts)
    column = list(reference.get_feature_names_out()).index("glad")
    np.testing.assert_allclose(found["tf-idf__glad"], reference.transform(texts).toarray()[:, column])
    expected = make("hog").transform([table.parent / "5.png"])[0]
    np.testing.assert_allclose(found.filter(regex=r"^hog_").iloc[5].astype(float), expected)


def test_a_vocabulary_knows_the_words_of_train_alone(run: Run, tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    source.write_text("text,label,split\ngood day,joy,train\nbad night,sadness,train\nunseen day,joy,test\n")
    out = tmp_path / "t.features.csv"
    result = run("features", "extract", "--features", "bag-of-words", "--manifest", source, "--out", out)
    assert result.code == 0, result.err
    found = pd.read_csv(out)
    assert "bag-of-words__unseen" not in found
    assert found["bag-of-words__day"].tolist() == [1, 0, 1]


def test_files_and_folders_are_read_as_they_lie(run: Run, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.csv"
    assert (
        run(
            "features", "extract", "--features", "hog", table.parent / "1.png", table.parent / "2.png", "--out", out
        ).code
        == 0
    )
    assert pd.read_csv(out)["path"].tolist() == [str(table.parent / "1.png"), str(table.parent / "2.png")]
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("One day. Another day.")
    assert run("features", "extract", "--features", "bagofwords", tmp_path / "texts", "--out", out).code == 0
    assert pd.read_csv(out)["bag-of-words__day"].tolist() == [2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--features", "hog"], "give the table to write with --out; it must end in .csv, .tsv, .parquet"),
        (["--features", "hog", "--out", "x.csv"], "give either files and folders or --manifest"),
        (["x.png", "--out", "x.csv"], "name the features, with commas; known: bag-of-words"),
        (
            ["x.png", "--features", "hogg", "--out", "x.csv"],
            "unknown feature 'hogg' (did you mean 'hog'?); known: action-units",
        ),
        (["x.png", "--features", "hog", "--set", "sift.words=3", "--out", "x.csv"], "--set takes NAME.OPTION=VALUE"),
        (
            ["x.png", "--features", "sift", "--set", "sift.word=3", "--out", "x.csv"],
            "the feature 'sift' has no option 'word' (did you mean 'words'?)",
        ),
        (["x.png", "--features", "hog", "--out", "x.csv"], "x.png does not exist"),
    ],
)
def test_wrong_orders_are_told_in_a_sentence(run: Run, arguments: list[str], sentence: str, tmp_path: Path) -> None:
    placed = [str(tmp_path / a) if a in ("x.png", "x.csv") else a for a in arguments]
    result = run("features", "extract", *placed)
    assert result.code == 2
    assert sentence in result.err.replace(f"{tmp_path}/", "")
    assert list(tmp_path.glob("*.csv")) == []


def test_an_input_is_never_written_over(run: Run, table: Path) -> None:
    before = table.read_bytes()
    result = run("features", "extract", "--features", "tf-idf", "--manifest", table, "--out", table)
    assert result.code == 2
    assert "is one of the inputs" in result.err
    assert table.read_bytes() == before


def test_features_of_ones_own_table_are_compared(run: Run, table: Path) -> None:
    result = run("compare", "--manifest", table, "--features", "tfidf,hog", "--seeds", "1", "--json")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    assert (facts["rows"], facts["groups"], facts["blocks"]) == (48, 12, ["tf-idf", "hog"])
    assert facts["methods"]["hog"]["accuracy"] == 1.0  # stripes are stripes
    assert facts["methods"]["tf-idf"]["accuracy"] > 0.85
    assert facts["methods"]["concatenation"]["accuracy"] > 0.9
    kinds = {facts["methods"][name]["kind"] for name in facts["methods"]}
    assert kinds == {"single", "early", "late"}
    for found in facts["methods"].values():
        low, high = found["ci95"]
        assert low <= found["accuracy"] <= high
    shown = run("compare", "--manifest", table, "--features", "tfidf", "--seeds", "1")
    assert shown.code == 0
    assert "tf-idf, SVM" in shown.out
    assert run("compare", "--features", "hog").code == 2


# --- what is learned is learned inside the folds ---


def data_of(measured: dict[str, list[Measured]], y: np.ndarray, groups: np.ndarray, **more: object) -> FeatureData:
    extractors = tuple(make(name) for name in measured)
    return FeatureData("own", ("a", "b"), y, groups, extractors, measured, more.get("columns"), ())


def test_words_that_only_one_speaker_uses_tell_nothing_about_another() -> None:
    """Every speaker has words of their own that give the label away; learned across folds they would read 100 %."""
    rng = np.random.default_rng(4)
    y, groups = rng.integers(0, 2, 80), np.repeat(np.arange(20), 4)
    texts = [Measured(f"speaker{g}says{label} common words") for g, label in zip(groups, y, strict=True)]
    found = compare_blocks(data_of({"bag-of-words": texts}, y, groups), seeds=(0, 1))
    assert found.to_dict()["methods"]["bag-of-words"]["accuracy"] < 0.7


def test_rows_without_any_block_are_answered_and_gaps_are_no_obstacle() -> None:
    rng = np.random.default_rng(5)
    y, groups = np.tile([0, 1], 40), np.repeat(np.arange(20), 4)
    words = [Measured(("glad", "grey")[label]) for label in y]
    words[::5] = [Measured(None, "no words")] * len(words[::5])
    columns = y[:, None] + rng.normal(scale=0.3, size=(80, 2))
    columns[rng.random(80) < 0.5] = np.nan
    found = compare_blocks(data_of({"tf-idf": words}, y, groups, columns=columns), seeds=(0,))
    assert list(found.data.blocks) == ["tf-idf", "columns"]
    assert found.methods["late, product"]["accuracy"] > found.methods["columns"]["accuracy"]


# --- late fusion over features ---


def two_blocks() -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, slice]]:
    rng = np.random.default_rng(6)
    y, groups = np.tile(["x", "y", "z"], 60), np.repeat(np.arange(30), 6)
    signal = np.equal.outer(y, np.array(["x", "y", "z"])).astype(float)
    X = np.concatenate([signal + rng.normal(scale=0.8, size=signal.shape) for _ in range(2)], axis=1)
    return X, y, groups, {"a": slice(0, 3), "b": slice(3, 6)}


def test_late_fusion_of_two_blocks_is_better_than_either() -> None:
    X, y, groups, blocks = two_blocks()
    fit, test = groups < 20, groups >= 20
    fused = LateFusion(blocks, "product").fit(X[fit], y[fit], groups[fit]).predict(X[test])
    alone = [Concatenation({m: c}).fit(X[fit], y[fit]).predict(X[test]) for m, c in blocks.items()]
    assert np.mean(fused == y[test]) > max(np.mean(a == y[test]) for a in alone)


def test_late_fusion_with_one_block_is_that_block_and_gaps_stay_gaps() -> None:
    X, y, groups, blocks = two_blocks()
    X[::3, 3:] = np.nan
    X[0] = np.nan
    fuser = LateFusion(blocks, "mean").fit(X, y, groups)
    P = fuser.predict_proba(X)
    assert np.isnan(P[0]).all()
    np.testing.assert_allclose(P[1:].sum(axis=1), 1.0)
    own = Concatenation({"a": slice(0, 3)}).fit(X, y).predict_proba(X[3:4])
    np.testing.assert_allclose(P[3:4], own, atol=1e-6)  # row 3 has the block a alone
    assert fuser.predict(X[:1])[0] in set(y)
    with pytest.raises(ConfigError, match="unknown fuser 'best'"):
        LateFusion(blocks, "best").fit(X, y, groups)
