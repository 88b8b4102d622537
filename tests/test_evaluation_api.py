"""What commands do, done in Python: the same figures, typed results, and errors before anything heavy is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import affuse
from affuse.data.corpora import Dataset
from affuse.errors import ConfigError, DataError
from affuse.evaluation import PredictionData, Protocol, group_folds
from affuse.evaluation.folders import data_folder
from affuse.evaluation.formatting import ResultTable, fraction, interval, percent, points, with_interval
from affuse.labels import EKMAN
from affuse.testing import FakeExpert
from affuse.testing.tables import predictions, write_predictions
from command import Run, caller


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


# --- compare ----------------------------------------------------------------------------------------------------------


def test_comparing_in_python_gives_what_the_command_prints(run: Run, tmp_path: Path) -> None:
    write_predictions(tmp_path)
    manifest = tmp_path / "predictions.csv"
    manifest.write_text("modality,path\nlabels,labels.csv\nface,face.csv\nvoice,voice.csv\n")
    shares: list[float] = []
    found = affuse.compare(
        manifest, group="speaker", methods=["mean"], seeds=1, progress=lambda name, share: shares.append(share)
    )
    done = run("compare", "--manifest", manifest, "--group", "speaker", "--methods", "mean", "--seeds", "1", "--json")
    printed, own = json.loads(done.out), found.to_dict()
    for facts in (*printed["methods"].values(), *own["methods"].values()):
        del facts["fit_seconds"], facts["predict_seconds_per_1000"]
    assert printed["methods"] == own["methods"]
    assert shares == [0.0, 0.5], "two methods, mean and auto"
    table = found.to_frame()
    assert set(table["method"]) == {"mean", "auto", "only face", "only voice"}
    assert table["accuracy"].is_monotonic_decreasing
    best = table.set_index("method").loc["mean"]
    assert best["low"] <= best["accuracy"] <= best["high"]


def test_predictions_in_memory_and_protocols_are_compared() -> None:
    made = predictions(60)
    by_predictions = affuse.compare(made, methods=["mean"], seeds=1).to_dict()
    rows = PredictionData(made.P, made.targets, made.groups)
    protocol = Protocol("own", made.modalities, made.labels, group_folds(rows, 5))
    by_protocol = affuse.compare(protocol, methods=["mean"], seeds=1).to_dict()
    assert by_predictions["methods"]["mean"]["accuracy"] == by_protocol["methods"]["mean"]["accuracy"]
    with pytest.raises(ConfigError, match="unknown adaptation 'world'; known: none, person"):
        affuse.compare(made, adapt="world")
    with pytest.raises(ConfigError, match="unknown data set 'iemocap'"):
        affuse.compare("iemocap", methods=["mean"])


def test_the_folder_of_datasets_is_named_or_that_of_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFFUSE_DATA", "/somewhere")
    assert data_folder() == Path("/somewhere")
    assert data_folder("here") == Path("here")
    monkeypatch.delenv("AFFUSE_DATA")
    with pytest.raises(ConfigError, match="--data DIR or AFFUSE_DATA"):
        data_folder()


# --- fuse -------------------------------------------------------------------------------------------------------------


def test_a_fuser_that_was_kept_fuses_as_before(tmp_path: Path) -> None:
    files = write_predictions(tmp_path)
    tables = [files["face"], files["voice"]]
    learned = affuse.fuse_tables(tables, files["labels"], group="speaker", method="log_pool")
    learned.named().write(tmp_path / "kept")
    again = affuse.fuse_tables(tables, fuser=tmp_path / "kept")
    np.testing.assert_allclose(again.P, learned.P)
    assert "cross_validated" not in again.to_dict()
    measured = learned.to_dict()["cross_validated"]
    assert measured["groups"] == 6
    assert set(measured["single"]) == {"face", "voice"}
    with pytest.raises(ConfigError, match="leave out the labels and the method"):
        affuse.fuse_tables(tables, files["labels"], fuser=tmp_path / "kept")


def test_one_modality_alone_is_what_it_says() -> None:
    made = predictions(20)
    made.P[:, 1] = np.nan
    fused = affuse.fuse_tables(made, method="mean")
    np.testing.assert_allclose(fused.P, made.P[:, 0])
    assert fused.to_dict()["modalities"] == {"face": 20, "voice": 0}


# --- tune -------------------------------------------------------------------------------------------------------------


def test_a_search_in_memory_finds_a_fuser_that_serves() -> None:
    pytest.importorskip("optuna")
    made = predictions(60)
    found = affuse.tune(made, methods=["vote", "log_pool"], trials=4, folds=3)
    facts = found.to_dict()
    scores = [trial["score"] for trial in facts["best_trials"]]
    assert scores == sorted(scores, reverse=True)
    assert facts["best"]["score"] == found.to_frame()["score"].iloc[0] == max(scores)
    best = found.fit()
    assert best.method == facts["best"]["method"]
    assert best.fuse(made.P, made.modalities).shape == (60, 3)
    with pytest.raises(ConfigError, match="unknown metric 'f1'; known: accuracy, log_loss"):
        affuse.tune(made, metric="f1")


# --- evaluate ---------------------------------------------------------------------------------------------------------


def test_the_product_and_an_expert_are_measured_by_one_function(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("text,label,sex\nSo glad!,joy,f\nOh no.,sad,m\n", encoding="utf-8")
    happy = affuse.Analyzer({"text": FakeExpert("text", {"happiness": 0.9})})
    found = affuse.evaluate(tmp_path / "clips.csv", analyzer=happy, by=["sex"])
    assert found.to_frame()["answer"].tolist() == ["happiness", "happiness"]
    assert found.to_dict()["as_answered"]["by"]["sex"]["values"]["f"]["accuracy"] == 1.0
    with pytest.raises(ConfigError, match="an expert by itself is measured on a known corpus"):
        affuse.evaluate(tmp_path / "clips.csv", expert="text")
    with pytest.raises(DataError, match="has no column 'age' to break down by"):
        affuse.evaluate(tmp_path / "clips.csv", analyzer=happy, by=["age"])


def test_rows_in_memory_measure_an_expert() -> None:
    rows = Dataset("two", "text", EKMAN, ["I love it!", "How sad."], np.array([3, 4]), np.array(["a", "b"]))
    found = affuse.evaluate(rows, expert="text")
    assert found.to_dict()["accuracy"] == 1.0
    table = found.to_frame().set_index("label")
    assert table.loc["happiness", "recall"] == table.loc["sadness", "f1"] == 1.0
    assert np.isnan(table.loc["fear", "recall"])
    with pytest.raises(ConfigError, match="measured on a manifest, or on a known corpus by its name"):
        affuse.evaluate(rows)  # type: ignore[call-overload]


# --- features ---------------------------------------------------------------------------------------------------------


def test_features_of_files_lie_beside_their_paths(tmp_path: Path) -> None:
    for name, text in (("a.txt", "one day and one night"), ("b.txt", "another day")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = affuse.extract_features([tmp_path], ["bag-of-words"], options={"bag-of-words.max_features": 3})
    table = found.to_frame()
    assert table["path"].tolist() == [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]
    assert found.to_dict() == {"rows": 2, "columns": table.shape[1], "missing": {"bag-of-words": 0}}
    assert sum(name.startswith("bag-of-words__") for name in table) == 3
    with pytest.raises(ConfigError, match=r"--set takes NAME\.OPTION=VALUE of features that are asked for"):
        affuse.extract_features([tmp_path], ["bag-of-words"], options={"mfcc.coefficients": 3})


# --- tables of results ------------------------------------------------------------------------------------------------


def test_a_table_is_written_for_pages_and_terminals() -> None:
    table = ResultTable(["", "accuracy"])
    table.add("mean", "0.8")
    table.add()
    table.add("only face")
    assert table.markdown() == "|  | accuracy |\n| --- | --- |\n| mean | 0.8 |\n| only face |  |"
    assert table.rich().row_count == 2


def test_figures_are_written_as_the_field_writes_them() -> None:
    assert (percent(0.8404), fraction(0.6318), fraction(1.0), interval((0.61, 0.7249))) == (
        "84.0 %",
        ".632",
        "1.000",
        "0.610 to 0.725",
    )
    assert with_interval({"uar": 0.5, "uar_ci95": None}, "uar") == "50.0 %"
    assert with_interval({"uar": 0.5, "uar_ci95": (0.4, 0.6)}, "uar") == "50.0 % (40.0–60.0)"
    assert points({"difference": -0.034, "ci95": (-0.1, 0.02)}) == "-3.4 (-10.0 … +2.0)"
