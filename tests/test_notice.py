"""The notice for the people concerned: five languages that say the same, and blanks for what nobody told."""

from __future__ import annotations

import json
import re
import string
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from affuse.cli import completion
from affuse.errors import ConfigError
from affuse.purpose import EXEMPTIONS, FORBIDDEN, PURPOSES
from affuse.report.notice import BLANK, MODALITIES, notice_languages, write_notice
from command import Run, caller

TABLE: dict[str, Any] = json.loads(files("affuse.report").joinpath("notices.json").read_text(encoding="utf-8"))
LANGUAGES = ("en", "zh", "de", "fr", "es")
KEYS = {name for name in PURPOSES if name not in FORBIDDEN} | {f"{n}.{e}" for n in FORBIDDEN for e in EXEMPTIONS}
FACTS = {"controller": "Example University", "contact": "privacy@university.example", "retention": 365}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


def shape(line: str) -> tuple[str, list[str]]:
    """What two languages must share of a line: how it begins in Markdown, and its places."""
    begin = re.match(r"(#+ |- )?", line)
    assert begin is not None
    return begin[0], [name for _, name, _, _ in string.Formatter().parse(line) if name]


# --- the texts --------------------------------------------------------------------------------------------------------


def test_there_are_five_languages_that_the_shell_offers() -> None:
    assert tuple(TABLE) == notice_languages() == LANGUAGES
    assert completion.notice_languages("") == list(LANGUAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_all_languages_say_the_same_in_the_same_order(language: str) -> None:
    say, english = TABLE[language], TABLE["en"]
    assert [shape(line) for line in say["lines"]] == [shape(line) for line in english["lines"]]
    assert all(bool(a) == bool(b) for a, b in zip(say["lines"], english["lines"], strict=True))
    assert say.keys() == english.keys()
    assert set(say["purpose"]) == KEYS
    assert set(say["recorded"]) == set(say["read"]) == set(MODALITIES)


@pytest.mark.parametrize("language", [language for language in LANGUAGES if language != "en"])
def test_nothing_is_left_in_english(language: str) -> None:
    say, english = TABLE[language], TABLE["en"]
    lines = {line for line in english["lines"] if re.search(r"[a-z]{3}", re.sub(r"\{\w+\}", "", line))}
    assert lines & set(say["lines"]) <= {"- Name: {controller}"}  # which is German, too
    for part in ("purpose", "recorded", "read"):
        assert not set(say[part].values()) & set(english[part].values())


def test_the_chinese_text_is_chinese() -> None:
    for line in TABLE["zh"]["lines"]:
        words = re.findall(r"[A-Za-z]+", re.sub(r"\{\w+\}", "", line))
        assert set(words) <= {"affuse"}, line


# --- what is filled in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_given_stands_where_it_belongs(language: str) -> None:
    bare = write_notice(language)
    full = write_notice(language, purpose="research", **FACTS)  # type: ignore[arg-type]
    for fact in (*FACTS.values(), TABLE[language]["purpose"]["research"]):
        assert full.count(str(fact)) == 1
        assert str(fact) not in bare
    assert bare.count(BLANK) == full.count(BLANK) + 4
    assert not re.search(r"[{}]", full + bare)


def test_without_facts_nothing_is_invented() -> None:
    for label in ("Name", "Contact", "Purpose", "Legal basis", "Longest time, in days", "Recipients"):
        assert f"- {label}: {BLANK}\n" in write_notice()


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_only_what_is_read_is_named(language: str, modality: str) -> None:
    say = TABLE[language]
    text = write_notice(language, modalities=[modality])
    for name in MODALITIES:
        assert (say["recorded"][name] in text) == (name == modality)


def test_a_list_reads_as_a_sentence() -> None:
    def ways(language: str) -> str:
        return write_notice(language, modalities=["text", "face", "voice", "face"])

    assert "infers emotions from your face, your voice and your words:" in ways("en")
    assert "leitet aus Ihrem Gesicht, Ihrer Stimme und Ihren Worten Emotionen ab" in ways("de")
    assert "à partir de votre visage, de votre voix et de vos mots :" in ways("fr")
    assert "a partir de su rostro, su voz y sus palabras:" in ways("es")
    assert "从您的面部、您的声音和您的话语推断情绪：" in ways("zh")


def test_facts_cannot_break_out_of_their_line() -> None:
    text = write_notice(controller="Example\n\n# Heading {purpose}", contact=" \n ")
    assert "- Name: Example # Heading {purpose}\n" in text
    assert f"- Contact: {BLANK}\n" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"language": "nl"}, "no notice in the language 'nl'; known: en, zh, de, fr, es"),
        ({"retention": 0}, "must be 1 or more; got 0"),
        ({"modalities": ["gait"]}, "from face, voice, text; got 'gait'"),
        ({"modalities": []}, "from face, voice, text; got none"),
        ({"purpose": "education"}, "forbidden in the European Union"),
    ],
)
def test_bad_facts_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        write_notice(**options)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_writes_what_the_function_returns(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "notice.md"
    options = ("--language", "fr", "--purpose", "work", "--exemption", "medical", "--experts", "voice,text")
    done = run(
        "notice", *options, "--controller", "Clinique Exemple", "--contact", "+33 1 00 00", "--retention", 30,
        "--out", out,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.out == f"written: {out}\n"
    expected = write_notice(
        "fr", purpose="work", exemption="medical", modalities=["voice", "text"], controller="Clinique Exemple",
        contact="+33 1 00 00", retention=30,
    )  # fmt: skip
    assert out.read_text(encoding="utf-8") == expected
    assert done.err == f"affuse: {expected.count(BLANK)} blanks (________) are left for you to fill in\n"


def test_the_command_prints_where_no_file_is_named(run: Run) -> None:
    done = run("notice", "--language", "zh")
    assert done.code == 0
    assert done.out == write_notice("zh")


def test_a_notice_that_may_be_filled_in_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "notice.md"
    out.write_text("filled in", encoding="utf-8")
    done = run("notice", "--out", out)
    assert done.code == 2
    assert done.err == f"affuse: {out} exists, and may have been filled in; choose another name\n"
    assert out.read_text(encoding="utf-8") == "filled in"


def test_a_forbidden_purpose_gets_no_notice(run: Run, tmp_path: Path) -> None:
    done = run("notice", "--purpose", "work", "--out", tmp_path / "notice.md")
    assert done.code == 2
    assert "Art. 5(1)(f)" in done.err
    assert not list(tmp_path.iterdir())
