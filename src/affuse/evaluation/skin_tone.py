"""Skin tone by a stated proxy: the angle between lightness and yellowness of the pixels of cheeks and forehead.

Light changes it as much as skin does: the same person is "tan" in a dim room and "light" beside a window, and a camera
that is set wrongly shifts everybody. So it tells groups of recordings apart, not people, and says nothing of who they
are. It is measured where an evaluation asks for it (``--by skin_tone``), and kept nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import cv2
import numpy as np

from affuse.errors import AffuseError
from affuse.evaluation.manifest import Clip, Manifest
from affuse.experts.face import FaceDetector, crop_face, default_detector
from affuse.media import Recording

__all__ = ["COLUMN", "skin_tone_group", "skin_tone_of", "typology_angle", "with_skin_tone"]

COLUMN = "skin_tone"
"""Name of the column that is measured where rows have none of this name."""

# Least angles in degrees (Chardon et al. 1991, with the names of Kinyanjui et al. 2019).
_GROUPS = ((55, "very light"), (41, "light"), (28, "intermediate"), (10, "tan"), (-30, "brown"), (-math.inf, "dark"))

# Parts of a face cut out as for the face expert, as fractions: forehead, and both cheeks beside the nose.
_PARTS = (((0.13, 0.27), (0.35, 0.65)), ((0.52, 0.70), (0.18, 0.36)), ((0.52, 0.70), (0.64, 0.82)))
_SIZE = 96  # pixels of the cut face
_FRAMES = 5
_MAX_SIDE = 960
# Pictures whose skin is less yellow than this (b* of CIELAB) are grey, or lie in blue light: the angle means nothing.
_LEAST_YELLOW = 2.0


def typology_angle(lightness: float, yellowness: float) -> float:
    """Individual typology angle (ITA) of a colour.

    Parameters
    ----------
    lightness, yellowness : float
        L* and b* of CIELAB, b* above 0.

    Returns
    -------
    float
        Degrees, -90 to 90; the higher, the lighter.

    References
    ----------
    Chardon, Cretois & Hourseau (1991), Skin colour typology and suntanning pathways.
    doi:10.1111/j.1467-2494.1991.tb00561.x

    Examples
    --------
    >>> round(typology_angle(70.0, 20.0), 6), round(typology_angle(40.0, 10.0), 6)
    (45.0, -45.0)
    """
    return math.degrees(math.atan((lightness - 50.0) / yellowness))


def skin_tone_group(angle: float) -> str:
    """The group that an angle of `typology_angle` falls into.

    Parameters
    ----------
    angle : float
        Degrees.

    Returns
    -------
    str
        "very light" (above 55), "light" (above 41), "intermediate" (above 28), "tan" (above 10), "brown" (above -30) or
        "dark".

    References
    ----------
    Kinyanjui et al. (2019), Estimating skin tone and effects on classification performance in dermatology datasets.
    arXiv:1910.13268

    Examples
    --------
    >>> [skin_tone_group(angle) for angle in (56, 45, 0, -45)]
    ['very light', 'light', 'brown', 'dark']
    """
    return next(name for least, name in _GROUPS if angle > least)


def skin_tone_of(recording: Recording, detector: FaceDetector | None = None) -> str:
    """Skin tone of the largest face of a recording, by the median colour of cheeks and forehead in up to five pictures.

    Parameters
    ----------
    recording : Recording
        With pictures.
    detector : FaceDetector, optional
        Finds the face; `default_detector` where None.

    Returns
    -------
    str
        As `skin_tone_group`; empty without pictures, without a face, and where the picture is grey or lies in blue
        light.

    Examples
    --------
    >>> skin_tone_of(Recording.from_text("no picture"))
    ''
    """
    if not recording.has_frames:
        return ""
    found = list(_colours(recording, detector or default_detector()))
    if not found:
        return ""
    lightness, yellowness = np.median(np.concatenate(found), axis=0)
    return skin_tone_group(typology_angle(lightness, yellowness)) if yellowness >= _LEAST_YELLOW else ""


def with_skin_tone(manifest: Manifest, by: Sequence[str]) -> Manifest:
    """Labelled recordings with the column `COLUMN`, where ``by`` asks for it and they have none.

    Parameters
    ----------
    manifest : Manifest
        The rows.
    by : sequence of str
        What answers are broken down by.

    Returns
    -------
    Manifest
        The same one where nothing is to be measured. The cell of a recording that cannot be read is empty.

    Examples
    --------
    >>> rows = with_skin_tone(Manifest("one", [Clip("row 1", "happiness", text="So glad!")]), ["skin_tone"])
    >>> rows.columns, rows.column("skin_tone")
    (('skin_tone',), [''])
    """
    if COLUMN not in by or COLUMN in manifest.columns:
        return manifest
    detector = default_detector()
    clips = [replace(own, columns={**own.columns, COLUMN: _cell(own, detector)}) for own in manifest.clips]
    return replace(manifest, clips=clips, columns=(*manifest.columns, COLUMN))


def _cell(clip: Clip, detector: FaceDetector) -> str:
    try:
        return skin_tone_of(clip.open(), detector)
    except AffuseError:
        return ""  # the evaluation lists it with its reason


def _colours(recording: Recording, detector: FaceDetector) -> Iterator[np.ndarray]:
    """L* and b* (n, 2) of cheeks and forehead of the largest face of a few pictures."""
    times = recording.span.start + recording.duration * (np.arange(_FRAMES) + 0.5) / _FRAMES
    wanted = times.tolist() if recording.duration > 0 else [recording.span.start]
    for frame in recording.frames(wanted, max_side=_MAX_SIDE):
        found = detector.detect(frame.image)
        if not len(found):
            continue
        largest = int(np.argmax(found.boxes[:, 2] * found.boxes[:, 3]))
        place = found.boxes[largest], found.landmarks[largest]
        face = crop_face(frame.image, *place, detector.framing, size=_SIZE, channels=3)
        colours = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        for rows, columns in _PARTS:
            (top, bottom), (left, right) = (np.round(_SIZE * np.array(ends)).astype(int) for ends in (rows, columns))
            yield colours[top:bottom, left:right, [0, 2]].reshape(-1, 2)
