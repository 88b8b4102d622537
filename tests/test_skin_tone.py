"""Skin tone by a stated proxy: angles worked out by hand, and faces painted in known colours."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from affuse.errors import DataError
from affuse.evaluation.manifest import Clip, Manifest
from affuse.evaluation.product import evaluation_rows
from affuse.evaluation.skin_tone import skin_tone_group, typology_angle, with_skin_tone
from affuse.media import Recording

CLIP = Path(__file__).resolve().parent.parent / "demo" / "clip.mp4"


@pytest.mark.parametrize(
    ("lightness", "yellowness", "angle"),
    [(50.0, 17.0, 0.0), (50 + 20 * 3**0.5, 20.0, 60.0), (60.0, 10.0, 45.0), (50 - 10 * 3**0.5, 10.0, -60.0)],
)
def test_angles_worked_out_by_hand(lightness: float, yellowness: float, angle: float) -> None:
    assert typology_angle(lightness, yellowness) == pytest.approx(angle)


def test_the_bounds_of_the_groups_belong_to_the_darker_one() -> None:
    expected = ["very light", "light", "intermediate", "tan", "brown", "dark"]
    assert [skin_tone_group(angle) for angle in (90, 55, 41, 28, 10, -30)] == expected
    assert skin_tone_group(-90) == "dark"


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    """A picture of the demo, in which a face is found."""
    recording = Recording.open(CLIP)
    (frame,) = recording.frames([recording.duration / 2])
    return frame.image


def painted(image: np.ndarray, lightness: float, yellowness: float) -> Callable[[], np.ndarray]:
    """The same picture with all its colour taken out, and then this mean lightness and this yellowness everywhere."""
    colours = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    colours[..., 0] = np.clip(colours[..., 0] - np.median(colours[..., 0]), -12, 12) + lightness
    colours[..., 1], colours[..., 2] = 0.0, yellowness
    return lambda: (cv2.cvtColor(colours, cv2.COLOR_LAB2RGB) * 255).round().clip(0, 255).astype(np.uint8)


def test_a_face_has_the_tone_of_its_colour_and_a_grey_one_has_none(face: np.ndarray) -> None:
    wanted = {"light": (72.0, 22.0), "dark": (33.0, 18.0), "": (60.0, 0.0)}  # 45, -43 degrees, and grey
    clips = [Clip(name or "grey", "happiness", picture=painted(face, *colour)) for name, colour in wanted.items()]
    rows = with_skin_tone(Manifest("three", clips, ("sex",)), ["sex", "skin_tone"])
    assert rows.columns == ("sex", "skin_tone")
    found = dict(zip(wanted, rows.column("skin_tone"), strict=True))
    assert found[""] == ""
    assert found["light"] in ("very light", "light", "intermediate")  # shadows and lights of the face are still there
    assert found["dark"] in ("brown", "dark")


def test_it_is_measured_only_where_it_is_asked_for_and_not_stated(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("text,label,skin_tone\nSo glad!,happiness,IV\n")
    assert evaluation_rows(tmp_path / "own.csv", by=["skin_tone"]).column("skin_tone") == ["IV"]
    (tmp_path / "none.csv").write_text(f"path,label\n{CLIP},happiness\n")
    assert evaluation_rows(tmp_path / "none.csv").columns == ("label",)
    (cell,) = evaluation_rows(tmp_path / "none.csv", by=["skin_tone"]).column("skin_tone")
    assert cell in ("very light", "light", "intermediate", "tan", "brown", "dark")
    with pytest.raises(DataError, match="has no column 'colour'"):
        evaluation_rows(tmp_path / "none.csv", by=["colour", "skin_tone"])
