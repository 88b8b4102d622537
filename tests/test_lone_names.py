"""A single name or path where several may be given, and what prints of results in a notebook."""

from pathlib import Path

import numpy as np
import pytest

import affuse
from affuse.data.feature_tables import chosen
from affuse.errors import DataError
from affuse.testing import FakeExpert
from affuse.testing.tables import predictions, write_predictions


def test_one_file_may_be_given_alone(tmp_path: Path) -> None:
    face = write_predictions(tmp_path)["face"]
    alone, several = affuse.fuse_tables(face), affuse.fuse_tables([face])
    assert np.array_equal(alone.P, several.P)
    assert np.array_equal(affuse.fuse_tables(str(face)).P, several.P)
    assert repr(alone) == "<FusedPredictions: 60 rows of face fused by product>"


def test_one_method_may_be_given_alone() -> None:
    found = affuse.compare(predictions(), methods="mean", seeds=1)
    assert sorted(found.methods) == ["auto", "mean"]
    told = found.to_dict()["methods"]["mean"]["accuracy"]
    assert f"mean {told:.4f}" in repr(found)
    assert len(repr(found)) < 200


def test_one_method_may_be_tuned_alone() -> None:
    pytest.importorskip("optuna")
    found = affuse.tune(predictions(), methods="mean", trials=1, folds=3)
    assert repr(found) == f"<TuningResult of 1 trials by accuracy; best: mean {found.study.best_value:.4f}>"


def test_one_feature_and_one_folder_may_be_given_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("good day", encoding="utf-8")
    found = affuse.extract_features(tmp_path, "bag-of-words").to_frame()
    assert [name for name in found if name.startswith("bag-of-words__")] == ["bag-of-words__day", "bag-of-words__good"]
    assert [extractor.name for extractor in chosen("mfcc")] == ["mfcc"]


def test_one_column_may_be_given_alone(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("text,label,sex\nSo glad!,joy,f\nOh no.,sad,m\n", encoding="utf-8")
    analyzer = affuse.Analyzer({"text": FakeExpert("text", {"happiness": 0.9})})
    found = affuse.evaluate(table, by="sex", analyzer=analyzer)
    assert list(found.report["as_answered"]["by"]) == ["sex"]
    assert repr(found) == "<ProductEvaluation of clips.csv: 2 clips, accuracy 0.5000, 0 failed>"
    with pytest.raises(DataError, match="no column 'age' to break down by"):
        affuse.evaluate(table, by="age", analyzer=analyzer)
