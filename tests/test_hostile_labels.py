"""Files of annotation tools are XML: entities that grow without end, or read other files, are refused."""

from __future__ import annotations

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
