"""Feature sets and networks side by side: what is compared, what is kept, and the tables."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra train (torch)")
pytest.importorskip("lightning", reason="training needs the extra train (lightning)")

from affuse import features  # noqa: E402
from affuse.errors import AssetError, DataError  # noqa: E402
from affuse.training import networks  # noqa: E402
from research import compare_methods  # noqa: E402
from research.compare_methods import BENCHMARKS, Table, main, table  # noqa: E402
from research.measure_methods import (  # noqa: E402
    Benchmark,
    ByFeatures,
    ByNetwork,
    Frames,
    Method,
    Result,
    moving,
)
from research.pages import write_between  # noqa: E402

RESULT = Result(0.5, (0.25, 0.75), (0.4, 0.6), 1234, 3, 1.25, 0.125)


def reviews(folder: Path) -> Path:
    """A table of texts in which one word tells the label, with a stated dev split."""
    rng = np.random.default_rng(0)
    with (folder / "reviews.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "split", "speaker"])
        for i in range(160):
            label, word = (("happiness", "wonderful"), ("sadness", "dreadful"))[i % 2]
            words = [word, *rng.choice(["we", "saw", "this", "film", "today", "together"], 4), f"number{i}"]
            rng.shuffle(words)
            split = "train" if i < 120 else "dev"
            writer.writerow([" ".join(words), label, split, f"{split}{i % 8}"])
    return folder / "reviews.csv"


def benchmark(source: Path, methods: Mapping[str, Method], **changes: Any) -> Benchmark:
    return replace(Benchmark("Reviews", str(source), "text", 100, 30, methods), **changes)


SVM: dict[str, Method] = {"TF-IDF + SVM": ByFeatures("tf-idf", note="a note")}


def test_methods_that_can_tell_reach_all_and_answer_as_exported(tmp_path: Path) -> None:
    source = reviews(tmp_path)
    bag = ByNetwork("bag", 12, options={"buckets": 64, "width": 16}, training={"learning_rate": 0.03, "batch_size": 10})
    found = table(benchmark(source, {**SVM, "bag": bag}, seeds=(0, 1)), tmp_path, tmp_path / "kept")
    assert not found.missing
    svm, network = found.results["TF-IDF + SVM"], found.results["bag"]
    assert (svm.accuracy, svm.interval, svm.seeds, svm.passes) == (1.0, (1.0, 1.0), (1.0,), 1)
    assert network.accuracy > 0.9, "either label in half of the rows"
    assert len(network.seeds) == 2, "networks are trained once a seed"
    assert network.passes == 12
    assert network.seconds > 0
    assert network.milliseconds > 0
    learned = features.make("tf-idf").fit([row["text"] for row in rows_of_csv(source)])
    assert svm.weights <= learned.get_feature_names_out().size + 1, "a weight a word of the training rows, and one"
    # By hand: 64 buckets of 16, 16 for every token, and a layer of 16 to 2.
    assert (network.weights - 64 * 16 - 16 * 2 - 2) % 16 == 0


def rows_of_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_an_interrupted_comparison_goes_on_and_other_settings_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def measured(method: Any, benchmark: Any, rows: Any) -> Result:
        asked.append(method.extractor)
        if method.extractor == "hog" and len(asked) < 3:
            raise KeyboardInterrupt
        return RESULT

    monkeypatch.setattr(compare_methods, "measure", measured)
    two = benchmark(reviews(tmp_path), {**SVM, "other": ByFeatures("hog")})
    kept = tmp_path / "kept"
    with pytest.raises(KeyboardInterrupt):
        table(two, tmp_path, kept)
    found = table(two, tmp_path, kept)
    assert asked == ["tf-idf", "hog", "hog"], "the first was kept"
    assert found.results == {"TF-IDF + SVM": RESULT, "other": RESULT}
    table(replace(two, title="Other words"), tmp_path, kept)
    assert len(asked) == 3
    table(replace(two, n_train=99), tmp_path, kept)
    assert asked[3:] == ["tf-idf", "hog"]
    for path in kept.iterdir():
        path.write_text(path.read_text()[:-20])
    table(two, tmp_path, kept)
    assert asked[5:] == ["tf-idf", "hog"], "what was cut short is measured anew"


def test_what_is_not_installed_is_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> Result:
        raise AssetError("the base model is missing")

    monkeypatch.setattr(compare_methods, "measure", missing)
    found = table(benchmark(reviews(tmp_path), SVM), tmp_path, tmp_path / "kept")
    assert found.markdown().splitlines()[-1] == "- TF-IDF + SVM is left out: the base model is missing."
    assert not (tmp_path / "kept").exists(), "it may be installed tomorrow"


def test_a_table_by_hand() -> None:
    once = Result(0.612, (0.58, 0.6449), (0.612,), 20, 1, 0.04, 12.34)
    methods: dict[str, Method] = {"a": ByFeatures("hog", note="of one"), "b": ByNetwork("bag", 3, note="of one")}
    made = Table(Benchmark("Some", "x", "text", 2000, 50, methods), {"a": once, "b": RESULT}, {})
    assert made.markdown().splitlines() == [
        "### Some",
        "",
        "2,000 training rows, 50 test rows.",
        "",
        "| method | accuracy | 95 % interval | weights | training, s | an answer, ms |",
        "| --- | --- | --- | --- | --- | --- |",
        "| a | 61.2 | 58.0 to 64.5 | 20 | 0.04 | 12 |",
        "| b | 50.0 (40.0, 60.0) | 25.0 to 75.0 | 1,234 | 3 × 1.2 | 0.12 |",
        "",
        "- a, b: of one.",
    ]


def test_tables_stand_between_the_marks_of_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- methods: begin -->\nold\n<!-- methods: end -->\n\nafter\n")
    write_between(page, "methods", "new")
    assert page.read_text() == "before\n\n<!-- methods: begin -->\n\nnew\n\n<!-- methods: end -->\n\nafter\n"
    write_between(tmp_path / "fresh.md", "methods", "new")
    assert (tmp_path / "fresh.md").read_text() == "<!-- methods: begin -->\n\nnew\n\n<!-- methods: end -->\n"
    page.write_text("no marks")
    with pytest.raises(DataError, match=r"page.md has no lines <!-- methods: begin --> and"):
        write_between(page, "methods", "new")
    assert page.read_text() == "no marks"


def test_the_command_measures_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare_methods, "BENCHMARKS", {"text": benchmark(reviews(tmp_path), SVM)})
    options = ["--data", str(tmp_path), "--results", str(tmp_path / "kept"), "--out", str(tmp_path / "page.md")]
    main([*options, "--quick"])
    printed = capsys.readouterr().out
    assert "10 training rows, 3 test rows." in printed
    assert printed.strip() in (tmp_path / "page.md").read_text()
    kept = json.loads(next((tmp_path / "kept").iterdir()).read_text())
    assert kept["result"]["passes"] == 1


def test_without_data_it_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--data", str(tmp_path), "--only", "text", "--results", str(tmp_path / "kept")])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("affuse: ")
    assert len(error.splitlines()) == 1


def test_a_picture_in_motion() -> None:
    rng = np.random.default_rng(0)
    pictures = np.repeat(np.repeat(rng.integers(0, 256, (2, 1, 8, 8), np.uint8), 4, axis=2), 4, axis=3)
    clips = moving(pictures, 5, seed=0)
    assert clips.shape == (2, 3, 5, 32, 32)
    assert clips.dtype == np.uint8
    assert (clips[:, 0] == clips[:, 1]).all()
    assert (clips[:, 0] == clips[:, 2]).all()
    steps = np.abs(np.diff(clips[:, 0].astype(int), axis=1)).mean(axis=(2, 3))
    assert (steps > 1).all(), "every frame differs from the one before"
    assert (clips == moving(pictures, 5, seed=0)).all()
    flat = np.full((1, 1, 16, 16), 77, np.uint8)
    assert (moving(flat, 3, seed=1) == 77).all(), "the edge goes on beyond the picture"


def test_pictures_move_evenly_and_each_its_own_way() -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 8, dtype=np.uint8), (8, 1, 32, 32))
    means = moving(ramp, 9, seed=0)[:, 0, :, 12:20, 12:20].astype(float).mean(axis=(2, 3))
    steps = np.diff(means, axis=1)
    assert np.abs(steps - steps.mean(axis=1, keepdims=True)).max() < 1, "of 256 grey levels"
    ways = means[:, -1] - means[:, 0]
    assert ways.min() < -8, "a grey level is an eighth of a pixel"
    assert ways.max() > 8
    assert np.abs(ways).max() < 0.2 * 256 * 1.2, "the camera pans by a fifth of the side at most"


def test_shorter_rows_of_frames_are_padded() -> None:
    frames = Frames([np.ones((4, 2)), np.full((2, 2), 3.0)])
    both = frames.plain(np.array([0, 1]))
    assert both["lengths"].tolist() == [4, 2]
    assert both["frames"][1].tolist() == [[3, 3], [3, 3], [0, 0], [0, 0]]
    assert frames.whole(1)["frames"].shape == (1, 2, 2)


def test_every_method_that_is_compared_exists() -> None:
    compared: set[str] = set()
    for chosen in BENCHMARKS.values():
        for method in chosen.methods.values():
            if isinstance(method, ByFeatures):
                assert features.make(method.extractor).modality == chosen.modality
            else:
                compared.add(method.network)
                assert set(method.options) <= set(networks.options(method.network))
    assert compared == set(networks.names()) - {"concat"}, "fusion of features has tables of its own"
