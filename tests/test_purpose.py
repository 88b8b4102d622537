"""What an analysis is for: declared, kept in every result, and refused where the law forbids it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from affuse import Analyzer, analyze
from affuse.analyzer import make_analyzer
from affuse.batch import BatchSettings, read
from affuse.batch import run as run_batch
from affuse.cli import completion
from affuse.errors import ConfigError
from affuse.purpose import EXEMPTIONS, FORBIDDEN, PURPOSES, Purpose
from affuse.report import render_report
from affuse.report.messages import messages
from affuse.report.schema import schema
from affuse.report.sentences import purpose_key
from affuse.results import Analysis
from affuse.testing import FakeExpert
from command import Run, caller
from serving import write_sound

pytestmark = pytest.mark.usefixtures("batches_here")

WORDS = ("--text", "I am so happy, thank you!", "--experts", "text")
TEXT = BatchSettings(experts={"text": "text"}, language="en")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def analysis_for(purpose: str | None = None, exemption: str | None = None) -> Analysis:
    experts = {"text": FakeExpert("text", {"happiness": 0.8})}
    return Analyzer(experts, purpose=purpose, exemption=exemption).analyze_text("What a day!")


def write_words(folder: Path, text: str = "I am so happy!") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "words.srt"
    path.write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{text}\n", encoding="utf-8")
    return path


# --- what may be declared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, *(name for name in PURPOSES if name not in FORBIDDEN)])
def test_what_is_not_forbidden_needs_no_exemption_and_takes_none(name: str | None) -> None:
    assert Purpose(name).to_dict() == {"purpose": name, "exemption": None}
    with pytest.raises(ConfigError, match="--exemption is about the purposes work and education"):
        Purpose(name, "medical")


@pytest.mark.parametrize(("name", "where"), [("work", "at work"), ("education", "in education")])
def test_what_is_forbidden_needs_an_exemption(name: str, where: str) -> None:
    with pytest.raises(ConfigError, match=rf"people {where} is forbidden .*2024/1689, Art\. 5\(1\)\(f\)"):
        Purpose(name)
    for exemption in EXEMPTIONS:
        assert Purpose(name, exemption).to_dict() == {"purpose": name, "exemption": exemption}
    with pytest.raises(ConfigError, match="unknown exemption 'consent'; known: medical, safety"):
        Purpose(name, "consent")


def test_unknown_purposes_are_refused_with_the_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown purpose 'hiring'; known: research, customer-insight, .*education"):
        Purpose("hiring")


def test_the_shell_offers_what_there_is() -> None:
    assert completion.purposes("") == list(PURPOSES)
    assert completion.exemptions("") == list(EXEMPTIONS)


# --- in Python --------------------------------------------------------------------------------------------------------


def test_an_analysis_keeps_what_it_is_for() -> None:
    assert analysis_for("work", "safety").to_dict()["settings"].items() >= Purpose("work", "safety").to_dict().items()
    assert analysis_for().to_dict()["settings"].items() >= {"purpose": None, "exemption": None}.items()


def test_all_ways_into_an_analysis_take_it() -> None:
    experts = {"text": FakeExpert("text", {"happiness": 0.8})}
    found = analyze(text="What a day!", experts=experts, purpose="media")
    assert found.settings["purpose"] == "media"
    assert make_analyzer(chosen={"text": "text"}, purpose="media").purpose == Purpose("media")
    for refused in (lambda: analyze(text="x", experts=experts, purpose="work"), lambda: make_analyzer(purpose="work")):
        with pytest.raises(ConfigError, match="forbidden in the European Union"):
            refused()


def test_it_changes_nothing_else() -> None:
    declared, undeclared = analysis_for("research").to_dict(), analysis_for().to_dict()
    assert declared["settings"].pop("purpose") == "research"
    assert undeclared["settings"].pop("purpose") is None
    assert declared == undeclared


# --- JSON, for new readers and old ones -------------------------------------------------------------------------------


def test_the_schema_knows_exactly_what_may_be_declared() -> None:
    settings = schema()["properties"]["settings"]["properties"]
    assert settings["purpose"]["enum"] == [*PURPOSES, None]
    assert settings["exemption"]["enum"] == [*EXEMPTIONS, None]
    document = analysis_for("medical").to_dict()
    Draft202012Validator(schema()).validate(document)
    document["settings"]["purpose"] = "hiring"
    (error,) = Draft202012Validator(schema()).iter_errors(document)
    assert list(error.path) == ["settings", "purpose"]


def test_readers_that_know_nothing_of_it_read_on() -> None:
    old = copy.deepcopy(schema())
    for name in ("purpose", "exemption"):
        del old["properties"]["settings"]["properties"][name]
    Draft202012Validator(old).validate(analysis_for("work", "medical").to_dict())
    document = analysis_for().to_dict()
    for name in ("purpose", "exemption"):
        del document["settings"][name]
    Draft202012Validator(schema()).validate(document)  # and new readers read what was written before


# --- the report -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_report_says_it_in_one_line(language: str) -> None:
    texts = set()
    declared = [Purpose(name) for name in PURPOSES if name not in FORBIDDEN]
    declared += [Purpose(name, exemption) for name in FORBIDDEN for exemption in EXEMPTIONS]
    for purpose in (Purpose(), *declared):
        key = purpose_key(purpose.name, purpose.exemption)
        page = render_report(analysis_for(purpose.name, purpose.exemption), language=language)
        assert f'<p data-say="{key}">{messages(language)[key]}</p>' in page
        texts.add(messages(language)[key])
    assert len(texts) == 1 + len(declared)


def test_an_undeclared_purpose_is_said_to_be_undeclared() -> None:
    assert "Purpose: not declared</p>" in render_report(analysis_for())
    assert "用途：未声明</p>" in render_report(analysis_for(), language="zh")


# --- affuse analyze ---------------------------------------------------------------------------------------------------


def test_analyze_keeps_it(run: Run) -> None:
    found = run("analyze", *WORDS, "--purpose", "education", "--exemption", "medical", "--json")
    assert found.code == 0, found.err
    assert json.loads(found.out)["settings"].items() >= Purpose("education", "medical").to_dict().items()
    assert json.loads(run("analyze", *WORDS, "--json").out)["settings"]["purpose"] is None


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("command", ["analyze", "batch"])
def test_forbidden_purposes_end_with_one_sentence(run: Run, tmp_path: Path, name: str, command: str) -> None:
    path, out = write_words(tmp_path), tmp_path / "out"
    found = run(command, path, "--out", out, "--experts", "text", "--purpose", name)
    assert found.code == 2
    assert found.out == ""
    assert found.err.count("\n") == 1
    assert found.err.startswith("affuse: inferring the emotions of people ")
    assert "Art. 5(1)(f)" in found.err
    assert not out.exists()


def test_the_summary_of_a_folder_states_it(run: Run, tmp_path: Path) -> None:
    write_sound(tmp_path / "heard.wav", 8000 * np.sin(np.arange(32_000) / 10))
    done = run("analyze", tmp_path, "--out", tmp_path / "out", "--experts", "voice", "--purpose", "media")
    assert done.code == 0, done.err
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["purpose"].tolist() == ["media"]
    assert "<p>Declared purpose: media</p>" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


# --- affuse batch -----------------------------------------------------------------------------------------------------


def test_a_batch_keeps_it_in_its_tables_page_and_configuration(run: Run, tmp_path: Path) -> None:
    write_words(tmp_path / "said")
    out = tmp_path / "study"
    done = run(
        "batch", tmp_path / "said" / "words.srt", "--out", out, "--experts", "text", "--workers", "1",
        "--purpose", "work", "--exemption", "safety", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    for table in ("persons", "summaries"):
        rows = read(out, table)
        assert rows[["purpose", "exemption"]].to_numpy().tolist() == [["work", "safety"]]
    assert pd.read_csv(out / "summary.csv")["exemption"].tolist() == ["safety"]
    configuration = json.loads(done.out)["configuration"]
    kept = json.loads((out / "configurations" / f"{configuration}.json").read_text(encoding="utf-8"))
    assert kept["options"].items() >= Purpose("work", "safety").to_dict().items()
    assert "<p>Declared purpose: work, for safety reasons</p>" in (out / "index.html").read_text(encoding="utf-8")


def test_results_for_one_purpose_are_not_taken_for_another(tmp_path: Path) -> None:
    write_words(tmp_path / "said")
    first = run_batch([tmp_path / "said" / "words.srt"], tmp_path / "study", TEXT)
    again = run_batch([tmp_path / "said" / "words.srt"], tmp_path / "study", TEXT)
    other = BatchSettings(experts={"text": "text"}, language="en", purpose="research")
    second = run_batch([tmp_path / "said" / "words.srt"], tmp_path / "study", other)
    assert (again.configuration, again.analyzed) == (first.configuration, 0)
    assert second.configuration != first.configuration
    assert second.analyzed == 1
    rows = read(tmp_path / "study", "persons", configuration=first.configuration)
    assert rows["purpose"].isna().all()


def test_a_column_purpose_of_the_manifest_stays_beside_ours(tmp_path: Path) -> None:
    write_words(tmp_path / "said")
    (tmp_path / "clips.csv").write_text("path,purpose\nsaid/words.srt,pilot\n", encoding="utf-8")
    settings = BatchSettings(experts={"text": "text"}, language="en", purpose="research")
    run_batch(tmp_path / "clips.csv", tmp_path / "study", settings)
    rows = pd.read_csv(tmp_path / "study" / "summary.csv")
    assert rows[["purpose", "purpose_manifest"]].to_numpy().tolist() == [["research", "pilot"]]
