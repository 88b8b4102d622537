"""Curves of accuracy under damage: worked out by hand, and the damage itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from affuse.errors import ConfigError, DataError
from affuse.evaluation.robustness import CLEAN, Damage, Point, largest_loss, robustness_curves

# --- the measure -----------------------------------------------------------------------------------------------------


def classify(numbers: Sequence[Any]) -> np.ndarray:
    """Says "1" of numbers above 5."""
    above = (np.asarray(numbers) > 5).astype(float)
    return np.stack([1 - above, above], axis=1)


def lowered(by: float) -> Damage:
    return Damage("lowered", f"by {by:g}", lambda numbers: [x - by for x in numbers])


NUMBERS, TARGETS, GROUPS = [1, 2, 6, 7, 8, 9], np.array([0, 0, 1, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])


def test_points_worked_out_by_hand() -> None:
    points = robustness_curves(classify, NUMBERS, TARGETS, GROUPS, [lowered(2), lowered(9)])
    assert [(p.kind, p.level) for p in points] == [(CLEAN, ""), ("lowered", "by 2"), ("lowered", "by 9")]
    assert [p.accuracy for p in points] == pytest.approx([1, 4 / 6, 2 / 6])  # 6 and 7 fall below 5, then all do
    assert [p.uar for p in points] == pytest.approx([1, (1 + 2 / 4) / 2, 0.5])
    assert points[1].n == 6
    for point in points:
        assert point.ci95[0] <= point.accuracy <= point.ci95[1]
    # Group 1 is wrong altogether, the others are right: drawing three groups with replacement gives 0, 1/3, 2/3 or 1.
    assert points[1].ci95 == pytest.approx((0, 1))


def test_largest_loss_is_that_of_the_worst_point_of_its_kind() -> None:
    points = [Point(CLEAN, "", 10, 0.9, (0, 1), 0.9), *(Point("blur", "", 10, a, (0, 1), a) for a in (0.8, 0.5, 0.7))]
    assert largest_loss(points, "blur") == pytest.approx(0.4)
    with pytest.raises(DataError, match="no point of 'noise'; there are: clean, blur"):
        largest_loss(points, "noise")


def test_answers_that_do_not_fit_the_rows_are_told() -> None:
    lost = Damage("lost", "one", lambda numbers: numbers[1:])
    with pytest.raises(DataError, match=r"lost one: expected 6 answers; got an array \(5, 2\)"):
        robustness_curves(classify, NUMBERS, TARGETS, GROUPS, [lost])


# --- the damage ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def robustness() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, changes the pictures")
    from research import robustness

    return robustness


def clips() -> list[np.ndarray]:
    """Eight clips of a second: gliding tones that come and go, so that they resemble speech to a codec."""
    time = np.arange(16000) / 16000
    return [
        (0.2 * np.sin(2 * np.pi * (200 + 30 * i + 40 * time) * time) * np.sin(6 * np.pi * time) ** 2).astype(np.float32)
        for i in range(8)
    ]


def faces() -> np.ndarray:
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (6, 12, 12)).astype(np.uint8)
    return np.stack([cv2.resize(image, (48, 48), interpolation=cv2.INTER_CUBIC) for image in noise])


TEXTS = ["I really did not expect that of you", "What a lovely day we had by the sea", "今天的天气真不错啊"]


@pytest.mark.parametrize(("modality", "inputs"), [("voice", clips()), ("face", faces()), ("text", TEXTS)])
def test_damage_keeps_rows_repeats_and_changes_them(robustness: Any, modality: str, inputs: Sequence[Any]) -> None:
    found = robustness.damages(modality)
    assert len({(d.kind, d.level) for d in found}) == len(found)
    for damage in found:
        try:
            once, again = damage.change(inputs), damage.change(inputs)
        except ConfigError as error:
            assert "FFmpeg was built without" in str(error)  # noqa: PT017 - a codec that this machine lacks
            continue
        assert len(once) == len(inputs)
        for before, after, repeated in zip(inputs, once, again, strict=True):
            assert np.array_equal(after, repeated)
            if modality != "text":
                assert after.shape == before.shape
                assert after.dtype == before.dtype
        assert any(not np.array_equal(a, b) for a, b in zip(inputs, once, strict=True)), (damage.kind, damage.level)


@pytest.mark.parametrize(
    ("modality", "kind"),
    [("voice", "white noise"), ("voice", "voices behind"), ("face", "blur"), ("face", "box off by"), ("face", "roll")],
)
def test_curves_run_from_mild_to_strong(robustness: Any, modality: str, kind: str) -> None:
    inputs = clips() if modality == "voice" else faces()
    steps = [d.change(inputs) for d in robustness.damages(modality) if d.kind == kind]
    moved = [
        np.mean([np.mean((a.astype(float) - b) ** 2) for a, b in zip(step, inputs, strict=True)]) for step in steps
    ]
    assert len(moved) >= 2
    assert moved == sorted(moved)


def test_unknown_modality_is_told(robustness: Any) -> None:
    with pytest.raises(ConfigError, match=r"'smell'; known: face, voice, text"):
        robustness.damages("smell")


def test_page_and_picture_hold_every_condition(robustness: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib, of the extra plot, draws the picture")

    def column(*accuracies: float) -> list[dict[str, Any]]:
        keys = [(CLEAN, ""), ("blur", "1 px"), ("blur", "2 px")]
        return [
            {"kind": k, "level": level, "n": 9, "accuracy": a, "ci95": [a - 0.1, a + 0.1], "uar": a}
            for (k, level), a in zip(keys, accuracies, strict=True)
        ]

    found = {"face, ferplus": {"before": column(0.8, 0.5, 0.25), "after": column(0.82, 0.75, 0.7)}}
    text = robustness.page(found)
    assert "| condition | before | after | 95 % interval |" in text
    assert "| clean | 80.0 % | 82.0 % | 72.0 to 92.0 |" in text
    assert "| blur 2 px | 25.0 % | 70.0 % | 60.0 to 80.0 |" in text
    robustness.draw(found, tmp_path / "robustness.png")
    assert (tmp_path / "robustness.png").read_bytes().startswith(b"\x89PNG")
    assert [p.name for p in tmp_path.iterdir()] == ["robustness.png"]


# --- voice and action units -------------------------------------------------------------------------------------------


def write_ravdess(folder: Path, actors: Sequence[str]) -> Path:
    """Action units and voice of every actor's eight emotions, twice; the units are noise."""
    rng = np.random.default_rng(0)
    names = [f"03-01-{e:02d}-01-01-{r:02d}-{a}" for a in actors for e in range(1, 9) for r in (1, 2)]
    rows = [",".join([*(f"{x:.3f}" for x in rng.random(3)), "1", f"01{name[2:]}"]) for name in reversed(names)]
    (folder / "ravdess").mkdir()
    header = "AU01_r,AU02_r,AU04_c,speech,name"
    (folder / "ravdess" / "face_action_units.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    targets = np.array([int(name.split("-")[2]) - 1 for name in names])
    P = np.full((len(names), 9), 0.05)
    P[np.arange(len(names)), targets] = 0.6
    place = folder / "held_out.npz"
    np.savez(
        place,
        probabilities=P,
        targets=targets,
        groups=np.array([f"ravdess/{name[-2:]}" for name in names]),
        corpus=np.full(len(names), "ravdess"),
        clips=np.array(names),
        folds=np.array([actors.index(name[-2:]) % 3 for name in names]),
    )
    return place


@pytest.fixture
def fusion() -> Any:
    pytest.importorskip("torch", reason="torch, of the extra train, is a neighbour of the recipe")
    from research import ravdess_fusion

    return ravdess_fusion


def test_voice_and_units_of_one_clip_are_joined_by_name(fusion: Any, tmp_path: Path) -> None:
    import pandas as pd

    place = write_ravdess(tmp_path, ["01", "02", "03"])
    clips = fusion.read_clips(tmp_path, place)
    assert clips.units.shape == (48, 3)
    table = pd.read_csv(tmp_path / "ravdess" / "face_action_units.csv").set_index("name")
    np.testing.assert_array_equal(clips.units[0], table.loc["01-01-01-01-01-01-01", ["AU01_r", "AU02_r", "AU04_c"]])
    np.testing.assert_allclose(clips.voice.sum(axis=1), 1)
    assert (clips.voice.argmax(axis=1) == clips.y).all()


def test_a_clip_without_action_units_is_told(fusion: Any, tmp_path: Path) -> None:
    place = write_ravdess(tmp_path, ["01", "02"])
    table = tmp_path / "ravdess" / "face_action_units.csv"
    table.write_text("\n".join(line for line in table.read_text().splitlines() if "-05-" not in line))
    with pytest.raises(DataError, match="no row for 4 clips, the first of them 01-01-05-01-01-01-01"):
        fusion.read_clips(tmp_path, place)


def test_fusers_learn_from_units_that_their_classifier_never_saw(fusion: Any, tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    clips = fusion.read_clips(tmp_path, write_ravdess(tmp_path, [f"{a:02d}" for a in range(1, 10)]))
    # The nearest neighbour knows every row that it was fitted on by heart, and the units say nothing.
    measured = fusion.protocol(clips, KNeighborsClassifier(1))
    assert len(measured.folds) == 3
    assert measured.n_rows == len(clips.y)
    for fold in measured.folds:
        right = fold.train.P[:, 1].argmax(axis=1) == fold.train.y
        assert right.mean() < 0.35
        assert (fold.train.P[:, 0].argmax(axis=1) == fold.train.y).all()


def test_page_of_the_fusion_names_methods_and_folds(fusion: Any, tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    from affuse.evaluation.comparison import compare_fusers
    from affuse.fusion import registry

    clips = fusion.read_clips(tmp_path, write_ravdess(tmp_path, [f"{a:02d}" for a in range(1, 10)]))
    measured = fusion.protocol(clips, KNeighborsClassifier(5))
    facts = compare_fusers(measured, {name: registry.make(name) for name in ("auto", "product")}, "auto").to_dict()
    text = fusion.page(facts, measured)
    assert "144 clips of 9 actors in 3 folds" in text
    assert "| only voice | 100.0 % | 100.0 to 100.0 |" in text
    assert "| auto | " in text.split("accuracy by fold")[1]
