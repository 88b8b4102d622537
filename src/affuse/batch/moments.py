"""A small picture of the strongest moment of each person, for the page about many recordings."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from affuse.batch.rows import TEXT, WHOLE, Columns, strongest
from affuse.errors import MediaError
from affuse.results import Analysis, Person, Verdict

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["LARGEST", "SIDE", "moment_pictures", "picture_columns"]

SIDE = 72
"""Most pixels on a side of a picture."""

LARGEST = 2_500
"""Most bytes of a picture."""

_NEAR = 0.05  # seconds that the picture may be before the middle of the moment
_SEEN = 1.0  # seconds between a picture and the nearest time at which the face is known
_AROUND = 1.6  # times the larger side of the box of a face
_QUALITIES = (80, 65, 50, 35)


def picture_columns(analysis: Analysis, key: str) -> Columns:
    """The pictures of an analysis as rows of the table "pictures": key, rank of the person, JPEG in Base64."""
    found = moment_pictures(analysis)
    return {
        "key": (TEXT, [key] * len(found)),
        "rank": (WHOLE, list(found)),
        "picture": (TEXT, list(found.values())),
    }


def moment_pictures(analysis: Analysis) -> dict[int, str]:
    """A JPEG in Base64 of the strongest moment, by the rank of the person.

    It is cut to the face where that is known. The whole picture stands for somebody without a known face only where the
    analysis is about nobody else, who might be the one that it shows. A recording that cannot be read again has none.
    """
    source = analysis.source
    if source.path is None or source.kind not in ("video", "picture"):
        return {}
    from av.error import FFmpegError  # brings PyAV, as what follows brings Pillow

    moments: dict[int, Verdict] = {}
    for rank, summary in enumerate(analysis.summaries):
        windows = [v for v in analysis.verdicts if v.person == summary.person and v.label is not None]
        best = strongest(windows)
        if best is not None:
            moments[rank] = best
    try:
        if source.kind == "picture":
            return _of_picture(analysis, source.path, moments)
        return _of_video(analysis, source.path, moments)
    except (MediaError, FFmpegError, OSError, ValueError):
        return {}


def _of_picture(analysis: Analysis, path: Path, moments: dict[int, Verdict]) -> dict[int, str]:
    from PIL import Image

    from affuse.media.pictures import read_picture

    image = Image.fromarray(read_picture(path))
    return _cut(analysis, {rank: (image, verdict.segment.middle, verdict) for rank, verdict in moments.items()})


def _of_video(analysis: Analysis, path: Path, moments: dict[int, Verdict]) -> dict[int, str]:
    from affuse.media.containers import open_container
    from affuse.report.media import frame_near, upright

    found = {}
    with open_container(path) as container:
        for rank, verdict in moments.items():
            middle = verdict.segment.middle
            frame = frame_near(container, middle, _NEAR)
            if frame is not None:
                found[rank] = upright(frame), middle, verdict
    return _cut(analysis, found)


def _cut(analysis: Analysis, found: dict[int, tuple[Image.Image, float, Verdict]]) -> dict[int, str]:
    persons = {person.id: person for person in analysis.persons}
    pictures = {}
    for rank, (image, time, verdict) in found.items():
        box = _box(persons.get(verdict.person or ""), time)
        if box is not None:
            pictures[rank] = _jpeg(_face(image, box))
        elif len(analysis.summaries) == 1:
            pictures[rank] = _jpeg(image)
    return {rank: picture for rank, picture in pictures.items() if picture}


def _box(person: Person | None, time: float) -> np.ndarray | None:
    """Where the face is at the time that is nearest, and near."""
    if person is None or not len(person.times):
        return None
    nearest = int(np.argmin(np.abs(person.times - time)))
    box: np.ndarray = person.boxes[nearest]
    near = abs(float(person.times[nearest]) - time) <= _SEEN
    return box if near and np.isfinite(box).all() and (box[2:] > 0).all() else None


def _face(image: Image.Image, box: np.ndarray) -> Image.Image:
    """A square around a face, as far as the picture reaches."""
    x, y, w, h = box * np.tile(image.size, 2)
    half = _AROUND * max(w, h) / 2
    left, top = max(0, round(x + w / 2 - half)), max(0, round(y + h / 2 - half))
    right, bottom = min(image.width, round(x + w / 2 + half)), min(image.height, round(y + h / 2 + half))
    return image.crop((left, top, right, bottom)) if right > left and bottom > top else image


def _jpeg(image: Image.Image) -> str:
    """The picture in Base64, of the best quality that keeps it small; empty where none does."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= LARGEST:
            return base64.b64encode(buffer.getvalue()).decode("ascii")
    return ""
