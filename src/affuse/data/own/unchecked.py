"""Data as a source states them, before their files are opened, and what is wrong with their rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from affuse.data.own.samples import Sample
from affuse.errors import DataError
from affuse.labels import LabelSpace

__all__ = ["RowProblem", "UncheckedData", "data_error"]

_LISTED = 20


class RowProblem(NamedTuple):
    """Why a row (``where`` is its sample's) or, with an empty ``where``, the whole data cannot be used."""

    where: str
    reason: str

    def __str__(self) -> str:
        return self.reason if self.reason.startswith(self.where) else f"{self.where}: {self.reason}"


@dataclass
class UncheckedData:
    """Samples of a source with their labels as written (``words``, "" = none) and their split as stated ("" = none).

    A sample's ``distribution`` holds the votes for ``vote_words``. Where ``labels`` is given (a known corpus with
    splits of its own), the samples are labelled already and ``words`` is empty.
    """

    name: str
    samples: list[Sample] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    vote_words: tuple[str, ...] = ()
    column_names: tuple[str, ...] = ()
    labels: LabelSpace | None = None
    problems: list[RowProblem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def data_error(name: str, problems: Sequence[RowProblem], rows: int) -> DataError:
    """One error for all problems: a sentence for one, a list of at most 20 lines and a count for several."""
    if len(problems) == 1 and not problems[0].where:
        return DataError(f"{name}: {problems[0]}")
    bad = len({p.where for p in problems if p.where})
    hint = '; bad_rows = "skip" leaves them out' if 0 < bad < rows else ""
    if len(problems) == 1:
        return DataError(f"{problems[0]} (1 of {rows} rows is bad{hint.replace('them', 'it')})")
    head = f"{name}: {bad} of {rows} rows cannot be used{hint}:" if bad else f"{name} cannot be used:"
    return DataError("\n".join([head, *_lines(problems)]))


def _lines(problems: Sequence[RowProblem]) -> Iterable[str]:
    yield from (f"  {problem}" for problem in problems[:_LISTED])
    if len(problems) > _LISTED:
        yield f"  … and {len(problems) - _LISTED} more"
