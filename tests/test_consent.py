"""The ledger of consent, and batches that read nothing without it."""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import date, timedelta
from pathlib import Path

import pandas as pd
import pytest

from affuse.batch import BatchSettings, read
from affuse.batch import run as run_batch
from affuse.batch.consent import COLUMNS, Consent, Ledger, add_consent, read_consents, withdraw_consent
from affuse.batch.pool import Pool
from affuse.batch.worker import Job
from affuse.errors import ConfigError, ConsentError, DataError, MediaError
from command import Run, caller

pytestmark = pytest.mark.usefixtures("batches_here")

TODAY = date.today()
DAY = timedelta(days=1)
SETTINGS = BatchSettings(experts={"text": "text"}, language="en", purpose="research")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return caller(monkeypatch, capfd)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "consent.csv"


@pytest.fixture
def clips(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.srt" for number in range(3)]
    for path, words in zip(paths, ("I am so happy!", "I hate this.", "I am so scared."), strict=True):
        path.write_text(f"1\n00:00:00,000 --> 00:00:02,000\n{words}\n", encoding="utf-8")
    return paths


def refusal(ledger: Path, recording: Path, purpose: str = "research", day: date | None = None) -> str:
    """Why a recording is refused; empty where it is not."""
    try:
        Ledger(ledger, purpose, day).check(recording)
    except ConsentError as error:
        return str(error)
    return ""


# --- one consent ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "fault"),
    [
        ("2026-02-28", "begins on 2026-03-01"),
        ("2026-03-01", ""),
        ("2026-03-31", ""),
        ("2026-04-01", "ended on 2026-03-31"),
    ],
)
def test_a_consent_holds_from_its_first_to_its_last_day(day: str, fault: str) -> None:
    own = Consent("0" * 64, "P07", "research", date(2026, 3, 1), until=date(2026, 3, 31))
    assert own.fault(date.fromisoformat(day)) == fault


def test_a_withdrawn_consent_does_not_hold_from_that_day_on() -> None:
    own = Consent("0" * 64, "P07", "research", date(2026, 3, 1), withdrawn=date(2026, 3, 9))
    assert own.fault(date(2026, 3, 8)) == ""
    assert own.fault(date(2026, 3, 9)) == own.fault(date(2030, 1, 1)) == "was withdrawn on 2026-03-09"


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_ledger_holds_a_checksum_a_code_a_purpose_and_dates(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "007", "research", date(2026, 3, 1), date(2026, 12, 31))
    checksum = hashlib.sha256(clips[0].read_bytes()).hexdigest()
    lines = ledger.read_text(encoding="utf-8").splitlines()
    assert lines == [",".join(COLUMNS), f"{checksum},007,research,2026-03-01,2026-12-31,"]
    expected = Consent(checksum, "007", "research", date(2026, 3, 1), date(2026, 12, 31))
    assert read_consents(ledger) == [expected]


def test_rows_are_added_and_withdrawn_but_never_lost(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "A", "research")
    add_consent(ledger, clips[1], "A", "media")
    add_consent(ledger, clips[1], "B", "research")
    found = withdraw_consent(ledger, "A", purpose="media")
    assert [(c.purpose, c.withdrawn) for c in found] == [("media", TODAY)]
    kept = read_consents(ledger)
    assert [(c.person, c.withdrawn) for c in kept] == [("A", None), ("A", TODAY), ("B", None)]
    assert len(withdraw_consent(ledger, "A")) == 1  # what was withdrawn before keeps its date
    with pytest.raises(DataError, match="no such consent of person A that is not withdrawn already"):
        withdraw_consent(ledger, "A")


def test_withdrawing_may_be_about_one_recording(ledger: Path, clips: list[Path]) -> None:
    for clip in clips[:2]:
        add_consent(ledger, clip, "A", "research")
    withdraw_consent(ledger, "A", clips[1])
    assert [refusal(ledger, clip) == "" for clip in clips[:2]] == [True, False]


def test_text_that_looks_like_a_formula_is_guarded_and_comes_back(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "=1+1", "research")
    add_consent(ledger, clips[1], "@B", "research")  # writes what was read
    assert ",'=1+1,research," in ledger.read_text(encoding="utf-8")
    assert [own.person for own in read_consents(ledger)] == ["=1+1", "@B"]


def test_columns_of_the_users_own_are_kept(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "A", "research")
    table = pd.read_csv(ledger, dtype=str, keep_default_na=False).assign(form="0042")
    table[["form", *COLUMNS]].to_csv(ledger, index=False)
    add_consent(ledger, clips[1], "B", "research")
    withdraw_consent(ledger, "A")
    kept = pd.read_csv(ledger, dtype=str, keep_default_na=False)
    assert kept.columns.tolist() == ["form", *COLUMNS]
    assert kept["form"].tolist() == ["0042", ""]
    assert kept["withdrawn"].tolist() == [str(TODAY), ""]


@pytest.mark.parametrize("suffix", [".tsv", ".parquet", ".xlsx"])
def test_a_ledger_may_be_another_kind_of_table(tmp_path: Path, clips: list[Path], suffix: str) -> None:
    if suffix == ".xlsx":
        pytest.importorskip("openpyxl")
    path = tmp_path / f"ledger{suffix}"
    given = [add_consent(path, clip, "007", "research", until=TODAY) for clip in clips]
    assert read_consents(path) == given


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("person,purpose\nA,research\n", "it has no column sha256"),
        (f"{','.join(COLUMNS)}\nabc,A,research,yesterday,,\n", "row 1: 'yesterday' is no date; write it as 2026-03-31"),
        (f"{','.join(COLUMNS)}\nabc,,research,2026-03-01,,\n", "row 1: the column person is empty"),
        (f"{','.join(COLUMNS)}\nabc,A,hiring,2026-03-01,,\n", "row 1: unknown purpose 'hiring'; known: research"),
    ],
)
def test_broken_ledgers_are_refused_and_left_as_they_are(
    ledger: Path, clips: list[Path], content: str, sentence: str
) -> None:
    ledger.write_text(content, encoding="utf-8")
    for use in (
        lambda: read_consents(ledger),
        lambda: add_consent(ledger, clips[0], "A", "research"),
        lambda: withdraw_consent(ledger, "A"),
    ):
        with pytest.raises(DataError, match=sentence):
            use()
    assert ledger.read_text(encoding="utf-8") == content


def test_bad_entries_are_refused_and_make_no_ledger(ledger: Path, clips: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="code of the person is empty"):
        add_consent(ledger, clips[0], "  ", "research")
    with pytest.raises(ConfigError, match="unknown purpose 'hiring'; known: research"):
        add_consent(ledger, clips[0], "A", "hiring")
    with pytest.raises(ConfigError, match="given on 2026-03-02 cannot end on 2026-03-01"):
        add_consent(ledger, clips[0], "A", "research", date(2026, 3, 2), date(2026, 3, 1))
    with pytest.raises(MediaError, match=r"missing\.mp4 does not exist"):
        add_consent(ledger, tmp_path / "missing.mp4", "A", "research")
    with pytest.raises(MediaError, match="is a folder, not a recording"):
        add_consent(ledger, tmp_path, "A", "research")
    assert not ledger.exists()


# --- asking it --------------------------------------------------------------------------------------------------------


def test_a_recording_is_known_by_its_content(ledger: Path, clips: list[Path], tmp_path: Path) -> None:
    add_consent(ledger, clips[0], "A", "research")
    moved = tmp_path / "renamed.srt"
    shutil.copy(clips[0], moved)
    assert refusal(ledger, moved) == ""
    moved.write_text(moved.read_text() + "\n")
    assert refusal(ledger, moved) == f"{moved} is not analysed: {ledger} holds no consent for it"


def test_everybody_in_a_recording_must_agree_to_the_purpose(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "A", "research")
    assert refusal(ledger, clips[0]) == ""
    assert "person A gave no consent to the purpose media" in refusal(ledger, clips[0], "media")
    add_consent(ledger, clips[0], "B", "media")
    assert "person B gave no consent to the purpose research" in refusal(ledger, clips[0])
    add_consent(ledger, clips[0], "B", "research", until=TODAY)
    assert refusal(ledger, clips[0]) == ""
    assert f"person B to the purpose research ended on {TODAY}" in refusal(ledger, clips[0], day=TODAY + DAY)
    withdraw_consent(ledger, "A")
    assert f"person A to the purpose research was withdrawn on {TODAY}" in refusal(ledger, clips[0])


def test_consent_can_be_given_again(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "A", "research", until=TODAY)
    withdraw_consent(ledger, "A")
    add_consent(ledger, clips[0], "A", "research")
    assert refusal(ledger, clips[0]) == ""
    assert len(read_consents(ledger)) == 2


def test_without_a_purpose_nothing_can_be_agreed_to(ledger: Path, clips: list[Path]) -> None:
    add_consent(ledger, clips[0], "A", "research")
    with pytest.raises(ConfigError, match="--consent needs --purpose"):
        Ledger(ledger, None)


# --- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_reads_only_what_was_agreed_to(
    ledger: Path, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_consent(ledger, clips[0], "A", "research")
    add_consent(ledger, clips[1], "B", "media")
    asked: list[str] = []
    submit = Pool.submit

    def note(self: Pool, job: Job) -> bool:
        asked.append(Path(job.path).name)
        return submit(self, job)

    monkeypatch.setattr(Pool, "submit", note)
    done = run_batch(clips, tmp_path / "study", SETTINGS, consent=ledger)
    assert (done.total, done.analyzed, done.failed) == (3, 1, 2)
    assert asked == ["0.srt"]
    errors = read(tmp_path / "study", "errors").set_index("path")
    assert errors["error"].tolist() == ["ConsentError", "ConsentError"]
    assert "person B gave no consent to the purpose research" in errors.loc["1.srt", "reason"]
    assert "holds no consent for it" in errors.loc["2.srt", "reason"]
    rows = read(tmp_path / "study", "summaries").set_index("path")
    assert rows["label"].notna().to_dict() == {"0.srt": True, "1.srt": False, "2.srt": False}


def test_consent_that_is_given_later_or_withdrawn_counts_in_the_next_run(
    ledger: Path, clips: list[Path], tmp_path: Path
) -> None:
    study = tmp_path / "study"
    add_consent(ledger, clips[0], "A", "research")
    run_batch(clips[:2], study, SETTINGS, consent=ledger)
    add_consent(ledger, clips[1], "B", "research")
    withdraw_consent(ledger, "A")
    done = run_batch(clips[:2], study, SETTINGS, consent=ledger)
    assert (done.analyzed, done.earlier, done.failed) == (1, 0, 1)
    rows = read(study, "summaries").set_index("path")
    assert rows["label"].notna().to_dict() == {"0.srt": False, "1.srt": True}
    assert f"was withdrawn on {TODAY}" in rows.loc["0.srt", "error"]


def test_a_batch_needs_a_purpose_and_a_ledger_before_it_begins(clips: list[Path], tmp_path: Path) -> None:
    undeclared = BatchSettings(experts={"text": "text"}, language="en")
    with pytest.raises(ConfigError, match="--consent needs --purpose"):
        run_batch(clips, tmp_path / "study", undeclared, consent=tmp_path / "consent.csv")
    with pytest.raises(DataError, match=r"consent\.csv does not exist"):
        run_batch(clips, tmp_path / "study", SETTINGS, consent=tmp_path / "consent.csv")
    assert not (tmp_path / "study").exists()


# --- commands ---------------------------------------------------------------------------------------------------------


def test_the_commands_keep_a_ledger_that_a_batch_obeys(
    run: Run, ledger: Path, clips: list[Path], tmp_path: Path
) -> None:
    added = run(
        "consent", "add", ledger, "--recording", clips[0], "--person", "P07", "--purpose", "research", "--given",
        "2026-03-01", "--until", "9999-12-31",
    )  # fmt: skip
    assert added.code == 0, added.err
    assert added.out == f"P07 agrees to the purpose research from 2026-03-01 until 9999-12-31: added to {ledger}\n"
    shown = run("consent", "list", ledger)
    checksum = hashlib.sha256(clips[0].read_bytes()).hexdigest()
    assert shown.out == f"{checksum[:12]}  P07  research  from 2026-03-01: holds today\n"
    batch = ("batch", *clips[:2], "--out", tmp_path / "study", "--experts", "text", "--workers", "1", "--json")
    done = run(*batch, "--purpose", "research", "--consent", ledger)
    assert done.code == 0, done.err
    assert json.loads(done.out)["failed"] == 1
    withdrawn = run("consent", "withdraw", ledger, "--person", "P07")
    assert withdrawn.out == f"P07: 1 of the consents in {ledger} withdrawn on {TODAY}\n"
    (row,) = json.loads(run("consent", "list", ledger, "--json").out)
    assert row == {
        "sha256": checksum, "person": "P07", "purpose": "research", "given": "2026-03-01", "until": "9999-12-31",
        "withdrawn": str(TODAY), "fault": f"was withdrawn on {TODAY}",
    }  # fmt: skip
    assert run(*batch, "--purpose", "research", "--consent", ledger).code == 2  # nothing is left to analyse


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--until", "soon"), "--until soon: a date is needed, such as 2026-03-31"),
        (("--given", "31.3.2026"), "--given 31.3.2026: a date is needed, such as 2026-03-31"),
    ],
)
def test_dates_are_refused_in_one_sentence(
    run: Run, ledger: Path, clips: list[Path], options: tuple[str, str], sentence: str
) -> None:
    done = run("consent", "add", ledger, "--recording", clips[0], "--person", "A", "--purpose", "research", *options)
    assert (done.code, done.err) == (2, f"affuse: {sentence}\n")
    assert not ledger.exists()


def test_a_ledger_that_is_not_there_is_named(run: Run, ledger: Path) -> None:
    for command in (("list", ledger), ("withdraw", ledger, "--person", "A")):
        done = run("consent", *command)
        assert done.code == 2
        assert done.err.startswith(f"affuse: {ledger} does not exist")
