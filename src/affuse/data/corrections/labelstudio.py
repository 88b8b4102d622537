"""Corrections from Label Studio: the annotations of a project that was exported as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from affuse.data.corrections.tiers import Annotation, CorrectedRecording
from affuse.errors import DataError

__all__ = ["read_label_studio"]

_PERSON = "person"  # name of the field of a region that says who it is about
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the names of uploaded files


def read_label_studio(path: Path, tier: str, fps: float | None = None) -> list[CorrectedRecording]:
    """The labelled regions of every task that somebody has annotated; predictions are not taken.

    ``tier`` is the name of the labels in the labelling configuration, ``fps`` its frameRate where labels are of frames.
    Raises DataError where it is no such export, or a region has not one label.
    """
    tasks = _tasks(path)
    found = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {task.get('id', number)}"
        results = _results(where, task)
        if results is None:
            continue
        annotations = _regions(where, results, tier, _rate(task, fps))
        found.append(CorrectedRecording(where, _media(where, task), annotations))
    if not found:
        raise DataError(f"{path} holds no annotation, only tasks; submit them in Label Studio before the export")
    return found


def _tasks(path: Path) -> list[Mapping[str, Any]]:
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON; export the project from Label Studio as JSON") from error
    whole = (
        isinstance(tasks, list)
        and tasks
        and all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks)
    )
    if not whole:
        raise DataError(
            f"{path} is no export of Label Studio: a list of tasks with data is expected (JSON, not JSON-MIN)"
        )
    return list(tasks)


def _results(where: str, task: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The regions of the annotation that counts: the one marked as ground truth, else the one changed last."""
    annotations = task.get("annotations") or []
    if not isinstance(annotations, list) or not all(isinstance(a, dict) for a in annotations):
        raise DataError(f"{where}: annotations must be a list of objects")
    kept = [a for a in annotations if not a.get("was_cancelled")]
    if not kept:
        return None
    best = max(kept, key=lambda a: (bool(a.get("ground_truth")), str(a.get("updated_at") or a.get("created_at") or "")))
    results = best.get("result")
    if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
        raise DataError(f"{where}: the result of an annotation must be a list of regions")
    return results


def _regions(where: str, results: Sequence[Mapping[str, Any]], tier: str, fps: float | None) -> list[Annotation]:
    persons = {r.get("id"): _first(r) for r in results if r.get("from_name") == _PERSON}
    found = []
    for region in results:
        if region.get("from_name") != tier:
            continue
        start, end, labels = _stretch(where, region, fps)
        if len(labels) != 1 or not isinstance(labels[0], str) or not labels[0].strip():
            raise DataError(f"{where}: the region at {start:g} s must have one label; got {labels}")
        found.append(Annotation(start, end, labels[0].strip(), persons.get(region.get("id"), "")))
    if not found and results:
        names = ", ".join(sorted({str(r.get("from_name")) for r in results}))
        raise DataError(f"{where} has no labels called {tier}; it has {names} (--tier chooses others)")
    return sorted(found, key=lambda a: (a.start, a.end, a.speaker))


def _stretch(where: str, region: Mapping[str, Any], fps: float | None) -> tuple[float, float, list[Any]]:
    """Start and end in seconds, and the labels, of a region of an Audio tag or of the timeline of a Video tag."""
    value = region.get("value")
    try:
        if not isinstance(value, dict):
            raise TypeError
        if "ranges" not in value:
            return float(value["start"]), float(value["end"]), list(value["labels"])
        (span,) = value["ranges"]
        first, last = float(span["start"]), float(span["end"])
        labels = list(value["timelinelabels"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{where}: a region has no start, end and labels as Audio and TimelineLabels write them"
        ) from error
    if fps is None:
        raise DataError(f"{where}: its times are frames; say the frameRate of the Video tag by --fps")
    return (first - 1) / fps, last / fps, labels  # frames are counted from 1, the last one included


def _rate(task: Mapping[str, Any], fps: float | None) -> float | None:
    stated = task["data"].get("fps")
    return float(stated) if fps is None and isinstance(stated, int | float) and stated > 0 else fps


def _first(result: Mapping[str, Any]) -> str:
    value = result.get("value")
    words = (value.get("text") or value.get("choices")) if isinstance(value, dict) else None
    text = words[0] if isinstance(words, list) and words else words
    return " ".join(text.split()) if isinstance(text, str) else ""


def _media(where: str, task: Mapping[str, Any]) -> list[str]:
    data = task["data"]
    texts = [value for value in (data.get("recording"), *data.values()) if isinstance(value, str) and value]
    if not texts:
        raise DataError(f"{where}: its data name no recording")
    address = urlsplit(texts[0])
    place = parse_qs(address.query).get("d", [unquote(address.path)])[0]
    name = place.replace("\\", "/").rpartition("/")[2]
    return [name, _UPLOADED.sub("", name, count=1)] if _UPLOADED.match(name) else [name]
