"""``affuse adapt``: from a table of labelled recordings to a fuser that other commands take, or one clear sentence."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import affuse.fusion.transfer as module
from affuse.analyzer import Analyzer, shipped_fuser
from affuse.cli.adapt import _advice
from affuse.errors import DataError
from affuse.evaluation.adapting import adapt
from affuse.evaluation.manifest import Clip, Manifest, read_manifest
from affuse.experts import Abilities, Expert, ExpertOutput
from affuse.fusion import NamedFuser, ProductRule
from affuse.fusion.transfer import transfer
from affuse.labels import EKMAN
from affuse.media import Recording
from affuse.testing import FakeExpert
from affuse.timeline import Timeline
from command import Run, caller

SENTENCES = Path(__file__).parent / "sentences_en.csv"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def written(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def sentences() -> list[tuple[str, str]]:
    """Six of every emotion at most, as few clips as somebody may label."""
    with SENTENCES.open(encoding="utf-8") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    return [row for i, row in enumerate(rows) if [label for _, label in rows[:i]].count(row[1]) < 6]


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    """Sentences of somebody who calls fear what others call sadness, and the other way round."""
    other = {"fear": "sadness", "sadness": "fear"}
    return written(tmp_path / "mine.csv", [(text, other[label]) for text, label in sentences() if label in other])


# --- the command ------------------------------------------------------------------------------------------------------


def test_what_was_learned_is_what_analyze_answers(run: Run, swapped: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "my.fuser"
    result = run("adapt", "--manifest", swapped, "--experts", "text", "--out", out, "--json")
    assert result.code == 0, result.err
    facts = json.loads(result.out)
    n = len(read_manifest(swapped))
    assert facts["rows"] == sum(facts["rows_by_label"].values()) == n
    assert facts["chosen"] != "unchanged"
    assert facts["gain"] > 0.3
    assert facts["failed"] == []
    assert facts["out"] == str(out)
    learnt = NamedFuser.read(out)
    assert learnt.method == facts["chosen"]
    assert learnt.modalities == shipped_fuser().modalities

    text = next(text for text, label in sentences() if label == "fear")
    plain = json.loads(run("analyze", "--text", text, "--experts", "text", "--json").out)
    own = json.loads(run("analyze", "--text", text, "--experts", "text", "--fuser", out, "--json").out)
    assert plain["persons"] == own["persons"] == []
    assert plain["summary"][0]["label"] == "fear"
    assert own["summary"][0]["label"] == "sadness"
    assert own["settings"]["fuser"] == {"name": facts["chosen"], "weights": {"fuser": learnt.sha256}}


def test_what_was_tried_is_told_in_sentences(run: Run, swapped: Path, tmp_path: Path) -> None:
    out = tmp_path / "my.fuser"
    result = run("adapt", "--manifest", swapped, "--experts", "text", "--out", out)
    assert result.code == 0, result.err
    assert "learned from 12 clips: fear 6, sadness 6" in result.out
    assert "on clips not learned from (5 folds" in result.out
    chosen = NamedFuser.read(out).method
    assert f"{chosen} *" in result.out
    assert f"chosen: {chosen}, " in result.out
    assert "(+100.0 points)" in result.out
    assert "no clip shows anger, disgust, happiness, surprise, neutral, which this fuser will hardly ever" in result.out
    assert f"kept: {out}" in result.out


def test_without_gain_the_fuser_stays_as_it_was(run: Run, tmp_path: Path) -> None:
    texts, labels = zip(*sentences(), strict=True)
    shuffled = np.random.default_rng(0).permutation(labels).tolist()
    manifest = written(tmp_path / "mine.csv", list(zip(texts, shuffled, strict=True)))
    out = tmp_path / "my.fuser"
    result = run("adapt", "--manifest", manifest, "--experts", "text", "--out", out)
    assert result.code == 0, result.err
    assert "chosen: unchanged, the fuser stays as it was" in result.out
    assert "(+0.0 points)" in result.out
    assert "unchanged *" in result.out
    assert "hardly ever" not in result.out
    modalities = shipped_fuser().modalities
    P = np.random.default_rng(0).dirichlet(np.ones(7), size=(5, len(modalities)))
    np.testing.assert_array_equal(NamedFuser.read(out).fuse(P, modalities), shipped_fuser().fuse(P, modalities))


def test_only_folders_of_fusers_are_written_to(run: Run, swapped: Path, tmp_path: Path) -> None:
    def write_to(out: Path) -> Any:
        return run("adapt", "--manifest", swapped, "--experts", "text", "--out", out)

    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter.txt").write_text("years of work", encoding="utf-8")
    for place in (thesis, swapped):
        result = write_to(place)
        assert result.code == 2
        assert result.err.count("\n") == 1
        assert f"{place} exists and holds no fuser of affuse; choose another folder for --out" in result.err
    assert [path.name for path in thesis.iterdir()] == ["chapter.txt"]
    result = write_to(tmp_path / "fuser.json")
    assert (result.code, "--out names a folder" in result.err) == (2, True)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_to(empty).code == 0
    before = NamedFuser.read(empty).sha256
    assert write_to(empty).code == 0, "a fuser of ours is replaced"
    assert NamedFuser.read(empty).sha256 == before, "by the same one"


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        (("text",), [("hello",)], "has no column named label"),
        (("words", "label"), [("hello", "anger")], "has no column named path or text"),
        (("text", "label"), [("hello", "xyzzy")], "the label 'xyzzy' is no emotion that affuse can answer"),
        (("text", "label"), [(f"hello {i}", "anger") for i in range(6)], "labelled rows of at least two emotions"),
        (
            ("text", "label"),
            [("oh no", "fear"), ("oh yes", "joy")] * 4,
            "adapting needs at least 5 rows of an emotion; got fear 4, happiness 4",
        ),
    ],
)
def test_bad_input_is_one_sentence(
    run: Run, tmp_path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], sentence: str
) -> None:
    out = tmp_path / "my.fuser"
    manifest = written(tmp_path / "mine.csv", rows, header)
    result = run("adapt", "--manifest", manifest, "--experts", "text", "--out", out)
    assert result.code == 2
    assert sentence in result.err
    assert result.err.count("\n") == 1
    assert not out.exists()


def test_a_missing_table_or_fuser_is_one_sentence(run: Run, swapped: Path, tmp_path: Path) -> None:
    for arguments in (
        ("--manifest", tmp_path / "nothing.csv"),
        ("--manifest", swapped, "--fuser", tmp_path),
        ("--manifest", swapped, "--experts", "smell"),
    ):
        result = run("adapt", *arguments, "--out", tmp_path / "my.fuser")
        assert result.code == 2
        assert result.err.count("\n") == 1


def test_advice_asks_for_more_only_where_more_has_helped() -> None:
    assert "added nothing that can be told from chance" in _advice({"per_doubling": 0.0, "rows": 40})
    assert _advice({"per_doubling": 0.06, "rows": 40}).startswith("the last doubling of the clips added 6 points; ")
    assert "twice as many, 80" in _advice({"per_doubling": 0.06, "rows": 40})


# --- in Python --------------------------------------------------------------------------------------------------------


class Echo(Expert):
    """Hears the emotion that is written, and takes one for the next: what it says of anger, it says of disgust."""

    name, modality, labels = "echo", "text", EKMAN
    abilities = Abilities(reads=("words",))

    def read_windows(self, recording: Recording, timeline: Timeline) -> list[ExpertOutput]:
        word = recording.cues[0].text.split()[0]
        if word == "silence":
            return [ExpertOutput(np.full((len(timeline), 7), np.nan), ("nothing said",) * len(timeline))]
        P = np.full((len(timeline), 7), 0.05)
        P[:, (EKMAN.index(word) + 1) % 7] = 0.7
        return [ExpertOutput(P, ("",) * len(timeline))]


@pytest.fixture
def analyzer() -> Analyzer:
    P = np.random.default_rng(0).dirichlet(np.ones(7), size=(70, 1))
    fuser = NamedFuser(ProductRule().fit(P, np.arange(70) % 7), ("text",), EKMAN.labels, "product")
    return Analyzer({"text": Echo()}, fuser=fuser)


def clips(
    n: int, labels: Sequence[str] = ("anger", "fear", "sadness"), person: str = "", group: str = ""
) -> list[Clip]:
    chosen = [labels[i % len(labels)] for i in range(n)]
    return [
        Clip(f"row {i}", label, text=f"{label} number {i}", person=person, group=group)
        for i, label in enumerate(chosen)
    ]


def test_an_expert_that_always_confuses_is_understood(analyzer: Analyzer) -> None:
    done: list[float] = []
    found = adapt(Manifest("mine", clips(18)), analyzer, progress=lambda name, share: done.append(share))
    assert done == pytest.approx([(i + 1) / 18 for i in range(18)])
    facts = found.to_dict()
    assert facts["tried"]["unchanged"]["accuracy"] == 0
    assert facts["gain"] == facts["tried"][found.transfer.chosen]["accuracy"] == 1
    assert facts["rows_by_label"] == {label: 6 * (label in ("anger", "fear", "sadness")) for label in EKMAN.labels}
    own = Analyzer({"text": Echo()}, fuser=found.transfer.fuser)
    assert own.analyze_text("sadness again").summaries[0].label == "sadness"
    json.dumps(facts)


def test_it_learns_from_the_very_rows_that_are_fused(analyzer: Analyzer) -> None:
    rows = clips(18)
    found = adapt(Manifest("mine", rows), analyzer)
    P = np.full((18, 1, 7), 0.05)
    y = np.array([EKMAN.index(clip.label) for clip in rows])
    P[np.arange(18), 0, (y + 1) % 7] = 0.7
    expected = transfer(analyzer.fuser, P, y, ("text",))
    assert found.transfer.chosen == expected.chosen
    for name, own in expected.facts["tried"].items():
        assert found.transfer.facts["tried"][name] == pytest.approx(own)


def test_clips_that_cannot_be_used_are_named_and_left_out(analyzer: Analyzer, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound")
    rows = [*clips(15), Clip("row a", "anger", path=broken), Clip("row b", "fear", text="silence")]
    found = adapt(Manifest("mine", rows), analyzer)
    assert found.transfer.facts["rows"] == 15
    assert [clip.where for clip, _ in found.failures] == ["row a", "row b"]
    assert found.failures[1][1] == "no modality has any evidence"
    assert [failure["row"] for failure in found.to_dict()["failed"]] == ["row a", "row b"]
    with pytest.raises(DataError, match="mine: no row could be analysed; row b: no modality has any evidence"):
        adapt(Manifest("mine", rows[-1:]), analyzer)


def test_persons_and_groups_of_the_table_bound_the_folds(analyzer: Analyzer, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_them = module._candidates

    def the_quickest(base: Any, people: Any) -> dict[str, Any]:
        return {name: all_of_them(base, people)[name] for name in ("unchanged", "recalibrated")}

    monkeypatch.setattr(module, "_candidates", the_quickest)

    def folds(rows: list[Clip]) -> int:
        return int(adapt(Manifest("mine", rows), analyzer).transfer.facts["folds"])

    assert folds(clips(24)) == 5
    assert folds([*clips(12, person="Ann"), *clips(12, person="Bob")]) == 2
    assert folds([*clips(8, group="a"), *clips(8, group="b"), *clips(8, group="c")]) == 3
    # Rows without a name each count by themselves.
    assert folds([*clips(12, person="Ann"), *clips(12)]) == 5


def test_a_modality_that_says_the_same_of_everything_teaches_nothing() -> None:
    P = np.random.default_rng(0).dirichlet(np.ones(7), size=(70, 1))
    fuser = NamedFuser(ProductRule().fit(P, np.arange(70) % 7), ("voice",), EKMAN.labels, "product")
    deaf = Analyzer({"voice": FakeExpert("voice", {"anger": 0.2})}, fuser=fuser)
    found = adapt(Manifest("mine", clips(21, EKMAN.labels[:3])), deaf)
    assert found.transfer.facts["tried"][found.transfer.chosen]["accuracy"] <= 1 / 3 + 1e-9
