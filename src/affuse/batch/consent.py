"""A ledger of consent: who agreed that which recording is analysed, what for, since when and until when.

The ledger is a table with one row a consent: the SHA-256 of the recording, a code for the person, the purpose, and the
dates on which consent was given, ends and was withdrawn. It holds no names and no paths. A row is never deleted, since
it says what was allowed at the time; columns of the user's own are kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.errors import ConfigError, ConsentError, DataError, MediaError
from affuse.purpose import PURPOSES
from affuse.tables import read_table, write_table
from affuse.weights import sha256_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COLUMNS", "Consent", "Ledger", "add_consent", "read_consents", "withdraw_consent"]

COLUMNS = ("sha256", "person", "purpose", "given", "until", "withdrawn")
"""Columns of a ledger."""


@dataclass(frozen=True)
class Consent:
    """That a person agreed to the analysis of one recording for one purpose.

    Parameters
    ----------
    sha256 : str
        Checksum of the recording.
    person : str
        A code for the person; who it is, is kept elsewhere.
    purpose : str
        One of `affuse.purpose.PURPOSES`.
    given : date
        The first day on which it holds.
    until : date, optional
        The last day on which it holds; without an end where None.
    withdrawn : date, optional
        When it was withdrawn: from that day on it does not hold.

    Examples
    --------
    >>> agreed = Consent("0" * 64, "P07", "research", date(2026, 3, 1), until=date(2026, 12, 31))
    >>> agreed.fault(date(2026, 12, 31)), agreed.fault(date(2027, 1, 1))
    ('', 'ended on 2026-12-31')
    """

    sha256: str
    person: str
    purpose: str
    given: date
    until: date | None = None
    withdrawn: date | None = None

    def fault(self, day: date) -> str:
        """Why the consent does not hold on a day.

        Parameters
        ----------
        day : date
            The day.

        Returns
        -------
        str
            Such as "was withdrawn on 2026-03-01"; empty where it holds.
        """
        if self.withdrawn is not None and day >= self.withdrawn:
            return f"was withdrawn on {self.withdrawn}"
        if self.until is not None and day > self.until:
            return f"ended on {self.until}"
        return f"begins on {self.given}" if day < self.given else ""

    def to_dict(self) -> dict[str, str]:
        """The row of a ledger.

        Returns
        -------
        dict of str to str
            By the names in `COLUMNS`; a date that is missing is empty.
        """
        return {name: str(getattr(self, name) or "") for name in COLUMNS}


class Ledger:
    """The consents in a file, asked on one day about one purpose.

    Parameters
    ----------
    path : Path
        The ledger.
    purpose : str, optional
        What recordings are to be analysed for.
    day : date, optional
        Today where None.

    Raises
    ------
    ConfigError
        If there is no purpose: nobody consents to everything.
    DataError
        If the file is no ledger.

    Examples
    --------
    >>> _ = Path("words.txt").write_text("I am so happy!")
    >>> _ = add_consent(Path("ledger.csv"), Path("words.txt"), "P07", "research")
    >>> Ledger(Path("ledger.csv"), "research").check(Path("words.txt"))
    >>> Ledger(Path("ledger.csv"), "media").check(Path("words.txt"))
    Traceback (most recent call last):
    ...
    affuse.errors.ConsentError: words.txt is not analysed: person P07 gave no consent to the purpose media (ledger.csv)
    """

    def __init__(self, path: Path, purpose: str | None, day: date | None = None) -> None:
        if purpose is None:
            raise ConfigError("--consent needs --purpose, since a consent is given for a purpose")
        self.path, self.purpose, self.day = path, purpose, day or date.today()
        self._by_recording: dict[str, list[Consent]] = {}
        for consent in read_consents(path):
            self._by_recording.setdefault(consent.sha256, []).append(consent)

    def check(self, recording: Path) -> None:
        """Refuse a recording unless everybody whom the ledger names for it agrees to the purpose on the day.

        Parameters
        ----------
        recording : Path
            The file; it is found in the ledger by its content, whatever its name.

        Raises
        ------
        ConsentError
            If a consent is missing, has ended or was withdrawn; the message says whose.
        MediaError
            If the file cannot be read.
        """
        found = self._by_recording.get(_checksum(recording), [])
        if not found:
            raise ConsentError(f"{recording} is not analysed: {self.path} holds no consent for it")
        for person in dict.fromkeys(consent.person for consent in found):
            own = [c for c in found if c.person == person and c.purpose == self.purpose]
            faults = [consent.fault(self.day) for consent in own]
            if not own:
                reason = f"person {person} gave no consent to the purpose {self.purpose}"
            elif all(faults):
                reason = f"the consent of person {person} to the purpose {self.purpose} {faults[-1]}"
            else:
                continue
            raise ConsentError(f"{recording} is not analysed: {reason} ({self.path})")


def read_consents(path: Path) -> list[Consent]:
    """The rows of a ledger.

    Parameters
    ----------
    path : Path
        CSV, TSV, Parquet or Excel.

    Returns
    -------
    list of Consent

    Raises
    ------
    DataError
        If the file cannot be read, a column is missing, or a cell is empty or no date; the message names the row.

    Examples
    --------
    >>> _ = Path("words.txt").write_text("I am so happy!")
    >>> _ = add_consent(Path("ledger.csv"), Path("words.txt"), "P07", "research", until=date(2030, 1, 31))
    >>> [(consent.person, consent.until.year) for consent in read_consents(Path("ledger.csv"))]
    [('P07', 2030)]
    """
    return _consents(path, _table(path))


def add_consent(
    path: Path, recording: Path, person: str, purpose: str, given: date | None = None, until: date | None = None
) -> Consent:
    """Enter a consent into a ledger, which is made where it does not exist.

    Parameters
    ----------
    path : Path
        The ledger.
    recording : Path
        What the person agreed to have analysed. Only its checksum is kept.
    person : str
        A code for the person.
    purpose : str
        One of `affuse.purpose.PURPOSES`.
    given : date, optional
        Today where None.
    until : date, optional
        The last day on which the consent holds.

    Returns
    -------
    Consent

    Raises
    ------
    ConfigError
        If the code is empty, the purpose unknown, or the end lies before the beginning.
    DataError, MediaError, OutputError
        If the ledger or the recording cannot be read, or the ledger not be written.

    Examples
    --------
    >>> _ = Path("words.txt").write_text("I am so happy!")
    >>> add_consent(Path("ledger.csv"), Path("words.txt"), "P07", "research").person
    'P07'
    """
    import pandas as pd

    person, given = person.strip(), given or date.today()
    if not person:
        raise ConfigError("the code of the person is empty; give one such as P07")
    if purpose not in PURPOSES:
        raise ConfigError(f"unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    if until is not None and until < given:
        raise ConfigError(f"a consent that is given on {given} cannot end on {until}")
    consent = Consent(_checksum(recording), person, purpose, given, until)
    before = _table(path) if path.exists() else pd.DataFrame(columns=list(COLUMNS), dtype=object)
    _consents(path, before)  # a broken ledger is not added to
    row = pd.DataFrame([consent.to_dict()], dtype=object)
    write_table(pd.concat([before, row], ignore_index=True).fillna(""), path)
    return consent


def withdraw_consent(
    path: Path, person: str, recording: Path | None = None, purpose: str | None = None, day: date | None = None
) -> list[Consent]:
    """Enter that a person withdraws consent: from today on, it does not hold.

    Parameters
    ----------
    path : Path
        The ledger.
    person : str
        The code of the person.
    recording : Path, optional
        The recording that it is about; all where None.
    purpose : str, optional
        The purpose that it is about; all where None.
    day : date, optional
        Today where None.

    Returns
    -------
    list of Consent
        Those that are withdrawn now.

    Raises
    ------
    DataError
        If the ledger holds no such consent that was not withdrawn before, or cannot be read.
    OutputError
        If it cannot be written.

    Examples
    --------
    >>> _ = Path("words.txt").write_text("I am so happy!")
    >>> _ = add_consent(Path("ledger.csv"), Path("words.txt"), "P07", "research")
    >>> len(withdraw_consent(Path("ledger.csv"), "P07"))
    1
    """
    table, day = _table(path), day or date.today()
    checksum = None if recording is None else _checksum(recording)
    consents = _consents(path, table)
    rows = [
        number
        for number, consent in enumerate(consents)
        if consent.person == person.strip()
        and consent.withdrawn is None
        and checksum in (None, consent.sha256)
        and purpose in (None, consent.purpose)
    ]
    if not rows:
        raise DataError(f"{path} holds no such consent of person {person.strip()} that is not withdrawn already")
    table.loc[rows, "withdrawn"] = str(day)
    write_table(table, path)
    return [replace(consents[number], withdrawn=day) for number in rows]


def _table(path: Path) -> pd.DataFrame:
    """All cells of a ledger as text, and its columns, the user's own included."""
    table = read_table(path)
    table = read_table(path, [str(name) for name in table.columns])  # "007" stays so
    missing = [name for name in COLUMNS if name not in table.columns]
    if missing:
        raise DataError(f"{path} is no ledger of consent: it has no column {missing[0]}")
    texts = {str(name): _texts(table[name].tolist()) for name in table.columns}
    return type(table)(texts, dtype=object)


def _texts(cells: Iterable[Any]) -> list[str]:
    return ["" if cell is None or cell != cell else str(cell) for cell in cells]


def _consents(path: Path, table: pd.DataFrame) -> list[Consent]:
    rows = zip(*(table[name].tolist() for name in COLUMNS), strict=True)
    return [_consent(f"{path}, row {number}", cells) for number, cells in enumerate(rows, 1)]


def _consent(where: str, cells: Sequence[str]) -> Consent:
    checksum, person, purpose, given, until, withdrawn = (cell.strip() for cell in cells)
    for name, cell in zip(COLUMNS, (checksum, person, purpose, given), strict=False):
        if not cell:
            raise DataError(f"{where}: the column {name} is empty")
    if purpose not in PURPOSES:
        raise DataError(f"{where}: unknown purpose {purpose!r}; known: {', '.join(PURPOSES)}")
    began, *ends = (_date(where, cell) for cell in (given, until, withdrawn))
    assert began is not None
    return Consent(checksum.lower(), person, purpose, began, *ends)


def _date(where: str, cell: str) -> date | None:
    try:
        return date.fromisoformat(cell) if cell else None
    except ValueError:
        raise DataError(f"{where}: {cell!r} is no date; write it as 2026-03-31") from None


def _checksum(recording: Path) -> str:
    if not recording.is_file():
        state = "is a folder, not a recording" if recording.is_dir() else "does not exist"
        raise MediaError(f"{recording} {state}")
    try:
        return sha256_of(recording)
    except OSError as error:
        raise MediaError(f"{recording} cannot be read: {str(error.strerror).lower()}") from error
