"""The page on corrections runs as it is printed: analyse, correct, import, evaluate, adapt, train."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from command import caller
from pages import DOCS, run_page
from serving import write_sound

pympi = pytest.importorskip("pympi", reason="the extra formats is not installed")

PAGE = DOCS / "corrections.md"
SAID = {
    "happiness": ["I am so happy today!", "What a wonderful surprise, thank you!"],
    "sadness": ["I lost my job today and I feel terrible.", "I miss her so much, I keep crying."],
    "anger": ["I hate this, how dare you!", "You lied to me again, I am furious."],
}
TRUTH = {text: label for label, texts in SAID.items() for text in texts}

pytestmark = [
    pytest.mark.skipif(not PAGE.is_file(), reason="the pages are not part of this source distribution"),
    pytest.mark.slow,
]


def write_recordings(folder: Path) -> None:
    """Three recordings of quiet noise, each with six sentences of two seconds in an order of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for day in range(1, 4):
        texts = rng.permutation(list(TRUTH))
        write_sound(folder / f"day {day}.wav", rng.normal(0, 300, 2 * len(texts) * 16_000))
        cues = [f"{i + 1}\n00:00:{2 * i:02},000 --> 00:00:{2 * i + 2:02},000\n{t}\n" for i, t in enumerate(texts)]
        (folder / f"day {day}.srt").write_text("\n".join(cues), encoding="utf-8")


def correct(path: Path) -> None:
    """Label every sentence as it is meant, with a library that affuse does not write with the same names."""
    document = pympi.Eaf(str(path))
    (tier,) = [name for name in document.get_tier_names() if name.startswith("emotion")]
    words = [row for name in document.get_tier_names() if name.startswith("words") for row in _rows(document, name)]
    document.remove_all_annotations_from_tier(tier)
    for start, end, text in words:
        document.add_annotation(tier, start, end, TRUTH[text])
    document.to_file(str(path))


def _rows(document: object, tier: str) -> list[tuple[int, int, str]]:
    return [row[:3] for row in document.get_annotation_data_for_tier(tier)]  # type: ignore[attr-defined]


def test_the_loop_from_answers_to_a_trained_expert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    write_recordings(Path("recordings"))
    ran = []

    def wanted(command: str) -> bool:
        if command.startswith("affuse import"):
            for path in sorted(Path("results").glob("*.eaf")):
                correct(path)
        trains = command.startswith("affuse train") or "runs/mine" in command
        ran.append(command)
        return not trains or _has_torch()

    assert run_page(PAGE, caller(monkeypatch, capfd), wanted) >= 5
    table = pd.read_csv("manifest.csv")
    assert len(table) == 18
    assert [TRUTH[text] for text in table["text"]] == table["label"].tolist()
    assert set(table["path"]) == {f"recordings/day {day}.wav" for day in (1, 2, 3)}
    card = json.loads(Path("mine.fuser/fuser.json").read_text(encoding="utf-8"))
    assert card
    assert {re.match(r"affuse (\w+)", command)[1] for command in ran} == {  # type: ignore[index]
        *("analyze", "import", "evaluate", "adapt", "train")
    }
    tasks = json.loads(Path("tasks/day 1.labelstudio.json").read_text(encoding="utf-8"))
    assert tasks[0]["predictions"]


def _has_torch() -> bool:
    try:
        import lightning  # noqa: F401
    except ImportError:
        return False
    return True
