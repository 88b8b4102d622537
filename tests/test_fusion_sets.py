"""Data sets of what people judged from one modality: CREMA-D votes and EmotionTalk, from files to the comparison."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from affuse.data.prediction_sets.cremad_votes import read_cremad_votes
from affuse.data.prediction_sets.emotiontalk import LABELS, read_emotiontalk
from affuse.errors import ConfigError, DataError
from affuse.evaluation.benchmarks import dataset_protocol
from command import Run, caller

VOTES = """\
clip,label,speaker,sentence,level,voice_anger,voice_fear,face_anger,face_fear,both_anger,both_fear
1001_A,anger,1001,A,XX,3,1,0,2,2,2
1001_B,fear,1001,B,XX,0,5,0,0,1,4
1002_A,anger,1002,A,XX,4,0,3,1,4,0
1003_A,fear,1003,A,XX,1,3,1,3,1,3
"""
VERDICTS = """\
id,split,dialogue,speaker,text,words,voice,face,label
G1/a,train,G1/G1_02,01,是,angry,neutral,happy,neutral
G1/b,train,G1/G1_03,02,好,,angry,angry,angry
G2/a,valid,G2/G2_01,03,不,sad,sad,neutral,sad
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, file, text in (
        ("cremad_votes", "votes_open.csv", VOTES),
        ("cremad_votes", "votes_test.csv", VOTES.replace("100", "200")),
        ("emotiontalk", "labels_open.csv", VERDICTS),
        (
            "emotiontalk",
            "labels_test.csv",
            VERDICTS.replace("G1/", "G8/").replace("G2/", "G9/").replace("split,", "s,"),
        ),
    ):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / file).write_text(text, encoding="utf-8")
    return tmp_path


def test_votes_are_shares_and_nobody_s_vote_is_no_evidence(folder: Path) -> None:
    found = read_cremad_votes(folder)
    assert (found.modalities, found.labels) == (("voice", "face"), ("anger", "fear"))
    assert found.ids[:2] == ("1001_A", "1001_B")
    np.testing.assert_allclose(found.P[0], [[0.75, 0.25], [0, 1]])
    assert np.isnan(found.P[1, 1]).all()
    assert found.targets.tolist() == [0, 1, 0, 1]
    assert found.groups.tolist() == ["1001", "1001", "1002", "1003"]
    assert read_cremad_votes(folder / "cremad_votes", "test").groups[0] == "2001"


def test_verdicts_are_certain_and_a_missing_one_is_no_evidence(folder: Path) -> None:
    train = read_emotiontalk(folder, "train")
    assert train.labels == LABELS
    assert train.groups.tolist() == ["G1", "G1"]
    said = [[LABELS[i] for i in row] for row in train.P[:1].argmax(axis=2)]
    assert said == [["angry", "neutral", "happy"]]
    assert np.isnan(train.P[1, 0]).all()
    np.testing.assert_allclose(train.P[0].sum(axis=1), 1)
    assert read_emotiontalk(folder, "valid").ids == ("G2/a",)
    assert set(read_emotiontalk(folder, "test").groups) == {"G8", "G9"}


def test_what_does_not_fit_is_one_sentence(folder: Path) -> None:
    with pytest.raises(DataError, match=r"votes_open\.csv is missing"):
        read_cremad_votes(folder / "elsewhere")
    path = folder / "cremad_votes" / "votes_open.csv"
    path.write_text(VOTES.replace("face_", "eyes_"))
    with pytest.raises(DataError, match="no column 'face_anger'"):
        read_cremad_votes(folder)
    path.write_text(VOTES.replace("1001_A,anger", "1001_A,joy"))
    with pytest.raises(DataError, match="'joy' is none of the labels"):
        read_cremad_votes(folder)
    path.write_text(VOTES.replace("3,1,0,2,2,2", "-3,4,0,2,2,2"))
    with pytest.raises(DataError, match=r"votes_open\.csv, row 1: votes are counts of at least 0"):
        read_cremad_votes(folder)
    verdicts = folder / "emotiontalk" / "labels_open.csv"
    verdicts.write_text(VERDICTS.replace("sad,sad", "sad,blue"), encoding="utf-8")
    with pytest.raises(DataError, match="'blue' is none of the labels angry"):
        read_emotiontalk(folder, "valid")
    verdicts.write_text(VERDICTS.replace("train", "valid"), encoding="utf-8")
    with pytest.raises(DataError, match="holds no row whose split is 'train'"):
        read_emotiontalk(folder, "train")


def test_splits_share_no_actor_and_no_pair(folder: Path) -> None:
    votes = dataset_protocol("cremad_votes", folder, None, "valid", [0, 1])
    assert len(votes.folds) == 6, "three actors, so three folds, twice"
    test = dataset_protocol("cremad_votes", folder, None, "test", [0])
    assert [(len(fold.train), len(fold.test)) for fold in test.folds] == [(4, 4)]
    verdicts = dataset_protocol("emotiontalk", folder, None, "valid", [0])
    assert [(len(fold.train), len(fold.test)) for fold in verdicts.folds] == [(2, 1)]
    assert dataset_protocol("emotiontalk", folder, None, "test", [0]).n_rows == 3
    for name in ("cremad_votes", "emotiontalk"):
        with pytest.raises(ConfigError, match=f"{name} has no numbered folds"):
            dataset_protocol(name, folder, [0], "valid", [0])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "compare")


@pytest.fixture
def some(data: Path, tmp_path: Path) -> Path:
    """The votes on every third actor, who show what all of them show in a third of the time."""
    votes = pd.read_csv(data / "cremad_votes" / "votes_open.csv")
    (tmp_path / "cremad_votes").mkdir()
    kept = votes["speaker"].isin(votes["speaker"].sort_values().unique()[::3])
    votes[kept].to_csv(tmp_path / "cremad_votes" / "votes_open.csv", index=False)
    return tmp_path


@pytest.mark.data
def test_the_command_fuses_votes_and_says_what_was_chosen(run: Run, some: Path) -> None:
    done = run("--dataset", "cremad_votes", "--data", some, "--methods", "mean", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["auto"]["method"] == "classwise"
    assert facts["auto"]["accuracy"] >= 0.77
    assert facts["methods"]["auto"]["below_best_remaining"] == {}
