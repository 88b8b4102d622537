"""Files of annotation tools: entities that grow without end, or read other files, are refused, as is too much."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command import Run, caller

pytest.importorskip("pympi", reason="ELAN files need the extra formats")

GROWS = '<!ENTITY l0 "anger">' + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 10))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd, "import")


def elan(path: Path, entities: str, value: str) -> Path:
    """An ELAN file of one label, which stands in an entity."""
    from pympi import Eaf

    made = Eaf(author="somebody")
    made.add_tier("emotion")
    made.add_annotation("emotion", 0, 1000, "anger")
    made.to_file(str(path))
    text = path.read_text(encoding="utf-8")
    start = text.index("<ANNOTATION_DOCUMENT")
    whole = text[start:].replace(">anger<", f">{value}<")
    path.write_text(f"{text[:start]}<!DOCTYPE A [{entities}]>{whole}", encoding="utf-8")
    return path


def test_a_harmless_entity_is_read(run: Run, tmp_path: Path, tone: Path) -> None:
    labels = elan(tmp_path / "labels.eaf", '<!ENTITY x "anger">', "&x;")
    done = run(labels, "--recording", tone, "--out", tmp_path / "manifest.csv")
    assert done.code == 0, done.err
    assert "anger" in (tmp_path / "manifest.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("entities", "value"),
    [(GROWS, "&l9;"), ('<!ENTITY x SYSTEM "secret.txt">', "&x;")],
    ids=["five gigabytes of text", "another file"],
)
def test_an_entity_that_grows_or_reads_is_refused(
    run: Run, tmp_path: Path, tone: Path, monkeypatch: pytest.MonkeyPatch, entities: str, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.txt").write_text("anger", encoding="utf-8")
    done = run(elan(tmp_path / "labels.eaf", entities, value), "--recording", tone, "--out", tmp_path / "manifest.csv")
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert "is not an ELAN file" in done.err
    assert not (tmp_path / "manifest.csv").exists()


def labelled(path: Path, labels: int = 2, words: int = 3, end: float = 4.0) -> Path:
    """An ELAN file with labels of the whole time, which overlap, and words of four letters."""
    from pympi import Eaf

    made = Eaf(author="somebody")
    for tier, count, text in (("emotion", labels, "anger"), ("words", words, "word")):
        for number in range(count):
            name = f"{tier}@{number}" if tier == "emotion" else tier
            if name not in made.get_tier_names():
                made.add_tier(name)
            span = (0, int(1000 * end)) if tier == "emotion" else (100 * number, 100 * number + 90)
            made.add_annotation(name, *span, text)
    made.to_file(str(path))
    return path


@pytest.mark.parametrize(
    ("limit", "least", "told"),
    [
        ("--max-duration", 4, "a label ends at 4 s"),
        ("--max-rows", 2, "2 labelled stretches up to here"),
        ("--max-cues", 3, "has 3 words"),
    ],
)
def test_labels_have_the_limits_of_transcripts(
    run: Run, tmp_path: Path, tone: Path, limit: str, least: int, told: str
) -> None:
    labels, out = labelled(tmp_path / "labels.eaf"), tmp_path / "manifest.csv"
    done = run(labels, "--recording", tone, "--out", out, limit, least - 1)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert told in done.err
    assert f"raise it with {limit}" in done.err
    assert not out.exists()
    assert run(labels, "--recording", tone, "--out", out, limit, least).code == 0
    assert out.read_text(encoding="utf-8").count("word word word") == 2


def test_a_file_of_labels_has_a_largest_size_and_so_have_the_words_that_overlapping_labels_repeat(
    run: Run, tmp_path: Path, tone: Path
) -> None:
    region = {"id": "a", "from_name": "emotion", "value": {"start": 0, "end": 2.5, "labels": ["anger"]}}
    project = tmp_path / "project.json"
    project.write_text(json.dumps([{"id": 1, "data": {"a": "b.wav"}, "annotations": [{"result": [region]}]}]))
    out, size = tmp_path / "manifest.csv", project.stat().st_size
    done = run(project, "--recording", tone, "--out", out, "--max-text", size - 1)
    assert (done.code, out.exists()) == (2, False)
    assert f"has {size:,} bytes; the limit is {size - 1:,} bytes (raise it with --max-text" in done.err
    assert run(project, "--recording", tone, "--out", out, "--max-text", size).code == 0
    many = labelled(tmp_path / "many.eaf", labels=1, words=5000, end=1000.0)
    done = run(many, "--recording", tone, "--out", tmp_path / "m.csv", "--max-text", many.stat().st_size)
    assert done.code == 0, done.err
