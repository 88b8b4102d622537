"""From an analysis to rows: one a window and person, and one a person for the whole recording."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from affuse.results import Analysis, Verdict

__all__ = ["FLOAT", "TEXT", "WHOLE", "Columns", "answer_rows", "person_columns", "strongest", "window_columns"]

TEXT, FLOAT, WHOLE = "text", "float", "int"

Columns = dict[str, tuple[str, list[Any]]]
"""Kind and values of each column, in their order; a missing value is None."""

_DECIMALS = 6
_NEUTRAL = "neutral"
_HEAD = ("yaw", "pitch", "roll", "towards_camera")


def window_columns(analysis: Analysis, key: str) -> Columns:
    """The table of an analysis, as `Analysis.to_frame` gives it, with the key of the recording first."""
    frame = analysis.to_frame()
    return {"key": (TEXT, [key] * len(frame)), **{str(name): _column(frame[name]) for name in frame}}


def _column(values: pd.Series) -> tuple[str, list[Any]]:
    from pandas.api.types import is_numeric_dtype

    kind = FLOAT if is_numeric_dtype(values.dtype) else TEXT
    return kind, values.astype(object).where(values.notna(), None).tolist()


def person_columns(analysis: Analysis, key: str) -> Columns:
    """One row a person: the answer for the whole recording, shares of time, the strongest moment and conflicts."""
    rows = [_person_row(analysis, rank, verdict) | {"key": key} for rank, verdict in enumerate(analysis.summaries)]
    kinds = _person_kinds(analysis.labels.labels, analysis.modalities)
    return {name: (kind, [row[name] for row in rows]) for name, kind in kinds.items()}


def answer_rows(analysis: Analysis) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The kinds of the columns about one analysis, and a row a person."""
    columns = dict(person_columns(analysis, ""))
    del columns["key"]
    kinds = {name: kind for name, (kind, _) in columns.items()}
    count = len(columns["rank"][1])
    return kinds, [{name: cells[i] for name, (_, cells) in columns.items()} for i in range(count)]


def _person_kinds(labels: Sequence[str], modalities: Sequence[str]) -> dict[str, str]:
    return {
        **dict.fromkeys(("key", "person"), TEXT),
        "rank": WHOLE,
        "kind": TEXT,
        "duration": FLOAT,
        **dict.fromkeys(("windows", "answered"), WHOLE),
        "label": TEXT,
        **dict.fromkeys(("confidence", "sentiment"), FLOAT),
        **{f"share_{label}": FLOAT for label in labels},
        **{f"fused_{label}": FLOAT for label in labels},
        **dict.fromkeys(("moment_start", "moment_end"), FLOAT),
        "moment_label": TEXT,
        "moment_confidence": FLOAT,
        "conflicts": WHOLE,
        "conflict_text": TEXT,
        **{f"{modality}_windows": WHOLE for modality in modalities},
        **{f"head_{name}": FLOAT for name in _HEAD},
        **dict.fromkeys(("notes", "purpose", "exemption"), TEXT),
    }


def _person_row(analysis: Analysis, rank: int, summary: Verdict) -> dict[str, Any]:
    windows = [verdict for verdict in analysis.verdicts if verdict.person == summary.person]
    answered = [verdict for verdict in windows if verdict.label is not None]
    fused = summary.fused
    return {
        "person": summary.person,
        "rank": rank,
        "kind": analysis.source.kind,
        "duration": _rounded(analysis.source.duration),
        "windows": len(windows),
        "answered": len(answered),
        "label": summary.label,
        "confidence": _rounded(summary.confidence),
        "sentiment": _rounded(summary.sentiment),
        **_shares(answered, analysis.labels.labels),
        **{f"fused_{n}": None if fused is None else _rounded(fused[i]) for i, n in enumerate(analysis.labels.labels)},
        **_moment(answered),
        "conflicts": sum(bool(verdict.conflict_text) for verdict in windows),
        "conflict_text": summary.conflict_text,
        **{f"{m}_windows": sum(_is_there(v, m) for v in windows) for m in analysis.modalities},
        **{f"head_{n}": None if summary.head is None else _rounded(getattr(summary.head, n)) for n in _HEAD},
        "notes": "; ".join(analysis.notes),
        **{name: analysis.settings.get(name) for name in ("purpose", "exemption")},
    }


def _shares(answered: Sequence[Verdict], labels: Sequence[str]) -> Mapping[str, float | None]:
    """In how much of the answered windows each label is the most probable one."""
    total = len(answered)
    counts = [sum(verdict.label == label for verdict in answered) for label in labels]
    return {f"share_{n}": _rounded(c / total) if total else None for n, c in zip(labels, counts, strict=True)}


def strongest(answered: Sequence[Verdict]) -> Verdict | None:
    """The window whose label is surest, and not neutral where any is not; the first of equals."""
    felt = [verdict for verdict in answered if verdict.label != _NEUTRAL] or answered
    return max(felt, key=lambda verdict: _rounded(verdict.confidence) or 0.0, default=None)


def _moment(answered: Sequence[Verdict]) -> dict[str, Any]:
    best = strongest(answered)
    if best is None:
        return {"moment_start": None, "moment_end": None, "moment_label": None, "moment_confidence": None}
    return {
        "moment_start": _rounded(best.segment.start),
        "moment_end": _rounded(best.segment.end),
        "moment_label": best.label,
        "moment_confidence": _rounded(best.confidence),
    }


def _is_there(verdict: Verdict, modality: str) -> bool:
    return verdict.evidence[modality].probabilities is not None


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else round(float(value), _DECIMALS)
