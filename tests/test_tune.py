"""`affuse tune`: a search that finds what is better, stops and is taken up again."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command import Run, caller


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "tune")


@pytest.fixture
def inputs(tmp_path: Path) -> list[str | Path]:
    """A face that knows and a voice that answers at random, the voice the surer: weights must find the face."""
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=200)
    for name, skill in (("face", 0.9), ("voice", 0.5)):
        said = np.where(rng.random(200) < skill, y, 1 - y)
        P = (
            np.where(np.arange(2) == said[:, None], 0.85, 0.15)
            if name == "voice"
            else np.where(np.arange(2) == said[:, None], 0.8, 0.2)
        )
        table = pd.DataFrame({"id": range(200), "no": P[:, 0], "yes": P[:, 1]})
        table.to_csv(tmp_path / f"{name}.csv", index=False)
    truth = pd.DataFrame({"id": range(200), "label": np.array(["no", "yes"])[y], "speaker": np.arange(200) % 10})
    truth.to_csv(tmp_path / "y.csv", index=False)
    return [tmp_path / "face.csv", tmp_path / "voice.csv", "--labels", tmp_path / "y.csv", "--group", "speaker"]


def test_a_study_finds_the_better_weights_and_goes_on(run: Run, inputs: list[str | Path], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    study = ["--study", tmp_path / "s.db", "--methods", "weighted,max"]
    code, out, err = run(*inputs, *study, "--trials", "14", "--out", tmp_path / "r.json", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert facts == json.loads((tmp_path / "r.json").read_text())
    assert sum(facts["trials"].values()) == 14
    assert sum(trial["method"] == "max" for trial in facts["best_trials"]) == 1  # a rule needs no second trial
    # The voice is surer and knows nothing, so max follows it: half right. Weights reach what the face knows.
    assert facts["untuned"]["max"] < 0.6
    assert facts["best"]["method"] == "weighted"
    assert facts["best"]["score"] > 0.85
    assert facts["best"]["score"] == pytest.approx(np.mean(facts["best"]["folds"]))
    weights = facts["best"]["parameters"]
    assert weights["weighted.weight_0"] > weights["weighted.weight_1"]
    code, out, err = run(*inputs, *study, "--trials", "3", "--save", tmp_path / "best")
    assert code == 0, err
    assert "weighted" in out
    assert (tmp_path / "best" / "fuser.json").is_file()
    import optuna

    trials = optuna.load_study(study_name="affuse", storage=f"sqlite:///{tmp_path / 's.db'}").trials
    assert len(trials) == 17
    drawn = [t.params["weighted.weight_0"] for t in trials if "weighted.weight_0" in t.params]
    assert len(set(drawn)) == len(drawn)  # continued, not repeated


def test_what_cannot_be_searched_is_one_sentence(run: Run, inputs: list[str | Path], tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    study = tmp_path / "s.db"
    assert run(*inputs, "--study", study, "--methods", "mean", "--trials", "1")[0] == 0
    (tmp_path / "no.db").write_text("this is no database, and it is long enough to be read as one" * 20)
    for arguments, sentence in [
        (["--study", study, "--methods", "mean", "--metric", "log_loss"], "is a study of other rows, folds, metric"),
        (["--study", study, "--methods", "mean,max"], "is a study of other rows, folds, metric or methods"),
        (["--study", tmp_path / "no.db"], "is no study of affuse tune"),
        (["--study", tmp_path / "y.csv"], "is one of the inputs"),
        (["--study", study, "--metric", "f1"], "unknown metric 'f1'; known: accuracy, log_loss"),
        (["--study", study, "--methods", "magic"], "unknown fuser 'magic'"),
        (["--study", study, "--n-folds", "11"], "11 folds need as many groups; got 10"),
    ]:
        code, out, err = run(*inputs, *arguments)
        assert (code, out) == (2, ""), arguments
        assert sentence in err
        assert err.count("\n") == 1, err


def test_without_optuna_the_command_names_the_extra(
    run: Run, inputs: list[str | Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = run(*inputs)
    assert code == 2
    assert "pip install 'affuse[tune]'" in err
