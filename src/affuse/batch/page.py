"""index.html: all recordings and persons on one page, which needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from affuse.batch.groups import GroupMean
from affuse.batch.rows import FLOAT, Columns
from affuse.errors import OutputError
from affuse.files import replacing
from affuse.report.messages import NATIVE, messages, name_of
from affuse.report.page import GENERATOR
from affuse.report.palette import palette
from affuse.report.sentences import purpose_key

__all__ = [
    "MOST_PICTURES",
    "PAGE",
    "pictures_in",
    "refuse_foreign_page",
    "render_index",
    "surest_rows",
    "write_index",
]

PAGE = "index.html"

MOST_PICTURES = 1_000
"""Rows with a picture, so that the page stays light: 1,000 pictures are 3.4 MB at most."""

_ELEMENT = r'<script type="application/json" id="{name}">(.*?)</script>'

_SHARE = "share_"
_SHOWN = (
    *("path", "person", "label", "confidence", "sentiment", "moment_start", "moment_label", "moment_confidence"),
    *("conflicts", "head_towards_camera", "error", "link"),
)
_DECIMALS = 3  # of numbers that the page draws


def refuse_foreign_page(folder: Path) -> None:
    """Raise OutputError where a page that affuse did not make lies where ours is to be."""
    path = folder / PAGE
    if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:65_536]:
        raise OutputError(f"{path} exists and was not written by affuse; move it away or choose another folder")


def write_index(
    folder: Path,
    columns: Columns,
    own: Sequence[str],
    language: str = "en",
    means: Mapping[str, Sequence[GroupMean]] | None = None,
    unit: str | None = None,
    pictures: Mapping[int, str] | None = None,
) -> None:
    """Write the page of `render_index`. Raises OutputError."""
    refuse_foreign_page(folder)
    page = render_index(columns, own, language, means, unit, pictures)
    with replacing(folder / PAGE) as (part,):
        part.write_text(page, encoding="utf-8")


def render_index(
    columns: Columns,
    own: Sequence[str],
    language: str = "en",
    means: Mapping[str, Sequence[GroupMean]] | None = None,
    unit: str | None = None,
    pictures: Mapping[int, str] | None = None,
) -> str:
    """The page of the summaries; ``own`` are the names of the user's columns in them, ``means`` by column.

    A column "link" holds the address of the report of a recording, relative to the page. ``pictures`` are JPEG in
    Base64 of strongest moments, by number of the row, of those of `surest_rows`.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    say = _texts(language)
    labels = [name.removeprefix(_SHARE) for name in columns if _is_share(name, columns, own)]
    script = _asset("overview.js")
    paths, errors = columns["path"][1], columns["error"][1]
    failed = sum(error is not None for error in errors)
    facts = say["facts"].format(recordings=len(set(paths)), persons=len(paths) - failed, failed=failed)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("overview.html.j2")).render(
        native=NATIVE[language],
        generator=Markup(GENERATOR),
        script_hash=_hash(script),
        title=say["title"].format(count=len(set(paths))),
        facts=facts,
        purpose=_purpose(columns, language),
        say=say,
        unit=unit,
        tables=[_group_table(by, found, language, say) for by, found in (means or {}).items()],
        style=Markup(_asset("overview.css")),
        script=Markup(script),
        data=Markup(_data(columns, own, labels, language, say)),
        pictures=Markup(json.dumps(dict(sorted(pictures.items())))) if pictures else "",
        pictured=_pictured(columns, say) if pictures else "",
    )


def surest_rows(columns: Columns, pictured: Collection[int]) -> list[int]:
    """Of the rows that have a picture, numbers of those whose moments are surest, which the page shows."""
    sure = columns["moment_confidence"][1]
    return sorted(sorted(pictured, key=lambda row: (-(sure[row] or 0.0), row))[:MOST_PICTURES])


def _pictured(columns: Columns, say: Mapping[str, str]) -> str:
    """What the page says where there may be more pictures than it shows."""
    moments = sum(confidence is not None for confidence in columns["moment_confidence"][1])
    return say["pictures"].format(most=f"{MOST_PICTURES:,}") if moments > MOST_PICTURES else ""


def pictures_in(page: str) -> dict[tuple[str, str | None], str]:
    """The pictures of a page of `render_index`, by recording and person."""
    data, pictures = (re.search(_ELEMENT.format(name=name), page, re.DOTALL) for name in ("data", "pictures"))
    if data is None or pictures is None:
        return {}
    try:
        rows, shown = json.loads(data[1])["rows"], json.loads(pictures[1]).items()
        found = {(rows["path"][int(row)], rows["person"][int(row)]): str(picture) for row, picture in shown}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):  # somebody has changed the page
        return {}
    return {place: picture for place, picture in found.items() if re.fullmatch(r"[A-Za-z0-9+/=]+", picture)}


def _purpose(columns: Columns, language: str) -> str:
    """What the recordings were analysed for, which is the same for all; nothing where none was analysed."""
    if "purpose" not in columns:
        return ""
    first = next((i for i, error in enumerate(columns["error"][1]) if error is None), None)
    if first is None:
        return ""
    return messages(language)[purpose_key(columns["purpose"][1][first], columns["exemption"][1][first])]


def _asset(name: str) -> str:
    return files("affuse.batch").joinpath(f"static/{name}").read_text(encoding="utf-8")


def _texts(language: str) -> dict[str, str]:
    messages(language)  # refuses an unknown one
    texts = json.loads(files("affuse.batch").joinpath("messages.json").read_text(encoding="utf-8"))
    found: dict[str, str] = texts[language]
    return found


def _is_share(name: str, columns: Columns, own: Sequence[str]) -> bool:
    return name.startswith(_SHARE) and name not in own and columns[name][0] == FLOAT


def _hash(script: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data(columns: Columns, own: Sequence[str], labels: Sequence[str], language: str, say: Mapping[str, str]) -> str:
    """What the script reads; "<" is written so that no name can end the element that holds it."""
    rows = len(columns["path"][1])
    wanted = [*_SHOWN, *own, *(f"{_SHARE}{label}" for label in labels)]
    values = {name: _drawn(columns[name][1]) if name in columns else [None] * rows for name in wanted}
    values["link"] = [None if link is None else quote(link) for link in values["link"]]
    names = {f"emotion.{label}": name_of("emotion", label, language) for label in labels}
    facts = {
        "rows": values,
        "own": list(own),
        "labels": list(labels),
        "palette": palette(tuple(labels)).to_dict(),
        "say": {**say, **names},
    }
    return json.dumps(facts, ensure_ascii=False, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _drawn(values: Sequence[Any]) -> list[Any]:
    return [round(value, _DECIMALS) if isinstance(value, float) else value for value in values]


def _measure_name(measure: str, language: str, say: Mapping[str, str]) -> str:
    if measure.startswith(_SHARE):
        return name_of("emotion", measure.removeprefix(_SHARE), language)
    return say[f"column.{measure}"]


def _group_table(by: str, means: Sequence[GroupMean], language: str, say: Mapping[str, str]) -> dict[str, Any]:
    measures = dict.fromkeys(mean.measure for mean in means)
    return {"by": by, "measures": [_measure_name(m, language, say) for m in measures], "groups": _group_rows(means)}


def _group_rows(means: Sequence[GroupMean]) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for mean in means:
        row = found.setdefault(mean.group, {"name": mean.group or "–", "n": 0, "cells": []})
        row["n"] = max(row["n"], mean.persons)
        row["cells"].append(_cell(mean))
    return list(found.values())


def _cell(mean: GroupMean) -> str:
    if not mean.persons:
        return ""
    if mean.measure == "sentiment":
        text, ends = f"{mean.mean:+.2f}", [f"{end:+.2f}" for end in mean.interval or ()]
    else:
        text, ends = f"{100 * mean.mean:.0f}", [f"{100 * end:.0f}" for end in mean.interval or ()]
    return f"{text} [{', '.join(ends)}]" if ends else text
