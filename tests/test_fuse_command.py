"""`affuse fuse` from outside: what it prints, what it writes, and one clear sentence for every kind of bad input."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command import Run, caller


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "fuse")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A face that is right on 80 % and a voice on 70 % of 120 clips of 8 speakers; each misses some clips."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=120)
    for name, skill in (("face", 0.8), ("voice", 0.7)):
        said = np.where(rng.random(120) < skill, y, (y + 1) % 3)
        P = np.full((120, 3), (1 - skill) / 2)
        P[np.arange(120), said] = skill
        table = pd.DataFrame(P, columns=["angry", "happy", "sad"])
        table.insert(0, "clip", [f"c{i:03d}" for i in range(120)])
        kept = np.arange(120) % 10 != (1 if name == "face" else 2)
        table[kept].to_csv(tmp_path / f"{name}.csv", index=False)
    labels = np.array(["angry", "happy", "sad"])[y]
    truth = {"clip": [f"c{i:03d}" for i in range(120)], "label": labels, "speaker": [f"s{i % 8}" for i in range(120)]}
    pd.DataFrame(truth)[:100].to_csv(tmp_path / "y.csv", index=False)
    return tmp_path


def fuse_two(tmp_path: Path, face: str, voice: str) -> list[Path]:
    paths = [tmp_path / "face.csv", tmp_path / "voice.csv"]
    for path, text in zip(paths, (face, voice), strict=True):
        path.write_text(text, encoding="utf-8")
    return paths


def test_the_product_by_hand(run: Run, tmp_path: Path) -> None:
    # Without labels all of them count as equally frequent: .8 * .3 against .2 * .7 is .24 against .14.
    files = fuse_two(tmp_path, "id,happy,angry\nx,0.8,0.2\ny,0.6,0.4\n", "id,happy,angry\nx,0.3,0.7\nz,,\n")
    done = run(*files, "--out", tmp_path / "fused.csv")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "fused.csv").set_index("id")
    assert list(table) == ["happy", "angry", "label", "confidence", "conflict", "share_face", "share_voice"]
    assert table.loc["x", "happy"] == pytest.approx(0.24 / 0.38)
    assert table.loc["x", "label"] == "happy"
    assert table.loc["x", "confidence"] == table.loc["x", "happy"]
    # Log-odds over an even prior add up: log(.8/.2) from the face and log(.3/.7) from the voice.
    assert table.loc["x", "share_face"] == pytest.approx(np.log(4))
    assert table.loc["x", "share_voice"] == pytest.approx(np.log(3 / 7))
    assert table.loc["y", "happy"] == pytest.approx(0.6)
    assert np.isnan(table.loc["y", "conflict"])
    assert np.isnan(table.loc["y", "share_voice"])
    # Nothing spoke for z: no probability, no label, never a guess.
    assert table.loc["z"].isna().all()
    assert "1 rows have no evidence at all and no answer" in done.out


def test_the_mean_by_hand_printed_where_no_place_is_given(run: Run, tmp_path: Path) -> None:
    files = fuse_two(tmp_path, "id,happy,angry\nx,0.8,0.2\n", "id,happy,angry\nx,0.3,0.7\n")
    done = run(*files, "--method", "mean")
    assert done.code == 0, done.err
    header, row = done.out.splitlines()
    assert header.startswith("id,happy,angry,label")
    assert float(row.split(",")[1]) == pytest.approx(0.55)
    assert "1 rows fused by mean" in done.err


def test_learning_prints_an_accuracy_on_rows_not_learned_from(run: Run, folder: Path) -> None:
    files = [folder / "face.csv", folder / "voice.csv", "--labels", folder / "y.csv", "--group", "speaker"]
    done = run(*files, "--out", folder / "fused.csv", "--method", "log_pool", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert (facts["rows"], facts["labelled"], facts["modalities"]) == (120, 100, {"face": 108, "voice": 108})
    measured = facts["cross_validated"]
    assert (measured["folds"], measured["groups"]) == (5, 8)
    # A single modality has nothing to learn but the label of its silent rows, so its accuracy is nearly the plain one.
    truth = pd.read_csv(folder / "y.csv").set_index("clip")["label"]
    face = pd.read_csv(folder / "face.csv").set_index("clip")
    said = face.idxmax(axis=1)
    plain = (said[said.index.isin(truth.index)] == truth[truth.index.isin(said.index)]).sum()
    assert plain / 100 <= measured["single"]["face"]["accuracy"] <= (plain + 10) / 100
    assert measured["accuracy"] == pytest.approx(
        measured["single"][measured["best_single"]]["accuracy"] + measured["difference"]
    )
    table = pd.read_csv(folder / "fused.csv")
    assert len(table) == 120
    assert table["id"].is_unique
    np.testing.assert_allclose(table[["angry", "happy", "sad"]].sum(axis=1), 1)


def test_a_table_of_the_accuracy_for_people(run: Run, folder: Path) -> None:
    done = run(folder / "face.csv", folder / "voice.csv", "--labels", folder / "y.csv", "--group", "speaker", "--out",
               folder / "fused.csv")  # fmt: skip
    assert done.code == 0, done.err
    for words in ("120 rows fused by", "accuracy on rows not learned from", "only face", "only voice", "written:"):
        assert words in done.out


def test_a_fuser_is_kept_and_loaded(run: Run, folder: Path) -> None:
    files = [folder / "face.csv", folder / "voice.csv"]
    learned = run(*files, "--labels", folder / "y.csv", "--group", "speaker", "--out", folder / "a.csv", "--save",
                  folder / "fuser", "--method", "log_pool")  # fmt: skip
    assert learned.code == 0, learned.err
    # Loaded, with the files the other way round and one of them missing altogether.
    assert run(*files[::-1], "--fuser", folder / "fuser", "--out", folder / "b.csv").code == 0
    a, b = (pd.read_csv(folder / name).set_index("id").sort_index() for name in ("a.csv", "b.csv"))
    pd.testing.assert_frame_equal(a, b)
    alone = run(files[1], "--fuser", folder / "fuser", "--json")
    assert json.loads(alone.out)["modalities"] == {"face": 0, "voice": 108}
    # Keeping again replaces what is there; a folder of somebody else is left alone.
    again = run(*files, "--labels", folder / "y.csv", "--save", folder / "fuser", "--method", "mean", "--json")
    assert again.code == 0, again.err
    assert json.loads(run(*files, "--fuser", folder / "fuser", "--json").out)["method"] == "mean"
    foreign = run(*files, "--labels", folder / "y.csv", "--save", folder)
    assert (foreign.code, "holds no fuser of affuse" in foreign.err) == (2, True)
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_parquet_in_and_out(run: Run, folder: Path) -> None:
    pd.read_csv(folder / "face.csv").to_parquet(folder / "face.parquet")
    assert run(folder / "face.parquet", folder / "voice.csv", "--out", folder / "fused.parquet").code == 0
    assert run(folder / "face.csv", folder / "voice.csv", "--out", folder / "fused.csv").code == 0
    parquet, csv = pd.read_parquet(folder / "fused.parquet"), pd.read_csv(folder / "fused.csv")
    assert parquet["label"].tolist() == csv["label"].tolist()
    np.testing.assert_allclose(parquet["conflict"], csv["conflict"])


def test_nothing_is_left_behind_where_the_place_cannot_be_written(run: Run, tmp_path: Path) -> None:
    files = fuse_two(tmp_path, "id,a,b\nx,0.8,0.2\n", "id,a,b\nx,0.3,0.7\n")
    (tmp_path / "taken.csv").mkdir()
    done = run(*files, "--out", tmp_path / "taken.csv")
    assert (done.code, "is a folder" in done.err) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["face.csv", "taken.csv", "voice.csv"]


def test_what_does_not_fit_is_one_sentence(run: Run, folder: Path, tmp_path: Path) -> None:
    face, voice, y = folder / "face.csv", folder / "voice.csv", folder / "y.csv"
    joy = tmp_path / "text.csv"
    joy.write_text("id,angry,joy,sad\nc001,0.2,0.3,0.5\n")
    logits = tmp_path / "logits.csv"
    logits.write_text("id,angry,happy,sad\nc001,2,-1,0.5\n")
    clash = tmp_path / "clash.csv"
    clash.write_text("id,confidence,doubt\nc001,0.5,0.5\n")
    cases: list[tuple[list[str | Path], str]] = [
        ([face, joy], "--map labels.toml"),
        ([face, face], "would both be the modality 'face'"),
        ([face, logits], "if these are logits, give --logits"),
        (
            [face, voice, "--method", "stacking"],
            "stacking learns from true labels; give --labels, or take one of borda",
        ),
        ([face, voice, "--method", "magic"], "unknown fuser 'magic'; known: "),
        ([face, voice, "--labels", y, "--method", "magic"], "unknown fuser 'magic'; known: "),
        ([face, voice, "--group", "speaker"], "--group names a column of the table of --labels"),
        ([face, voice, "--labels", y, "--group", "actor"], "no column 'actor' as --group says"),
        ([face, voice, "--out", face], "is one of the inputs"),
        ([face, voice, "--labels", y, "--out", y], "is one of the inputs"),
        ([face, voice, "--out", tmp_path / "fused.doc"], "--out must end in .csv, .tsv, .parquet"),
        ([face, voice, "--fuser", tmp_path / "gone"], "holds no fuser"),
        ([face, voice, "--fuser", tmp_path, "--labels", y], "leave out --labels, --method and --save"),
        ([face, voice, "--save", tmp_path / "fuser"], "give --labels to learn from"),
        ([clash], "the label 'confidence' is a column of the output"),
        ([face, tmp_path / "gone.csv"], "does not exist"),
        ([face, voice, "--id", "name"], "has no column 'name' as --id says; its columns: clip, angry"),
    ]
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for arguments, sentence in cases:
        done = run(*arguments)
        assert (done.code, done.out) == (2, ""), (arguments, done.err)
        assert done.err.startswith("affuse: ")
        assert done.err.count("\n") == 1, done.err
        assert sentence in done.err, done.err
    assert before == {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_offers_work(run: Run, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "text.csv"
    other.write_text("id,angry,joy,sad\nc001,2,-1,0.5\n")
    (tmp_path / "labels.toml").write_text('[text]\njoy = "happy"\n')
    done = run(other, "--logits", "--map", tmp_path / "labels.toml", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["labels"] == ["angry", "happy", "sad"]
