"""Measure the analysis of a transcript of 100,000 cues: the whole command, start-up and files included.

``python -m bench.cues --data DIR --work DIR [--cues 100000] [--hours 3] [--different N] [--words]``

The sentences are those of GoEmotions, MELD, SST-2 and CMU-MOSI (train), over 60,000 different ones; where there are
more cues, they begin again. ``--different N`` takes N of them only, drawn evenly. ``--words`` makes every word of them
a cue: nobody says 100,000 sentences in three hours. Prints one JSON object; where the machine does other work as well,
the processor's seconds say more than the clock.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from affuse.data import corpora
from bench.run import run

CORPORA = ("goemotions", "meld", "sst2", "mosi")


def sentences(data: Path) -> list[str]:
    """All different sentences of the corpora."""
    rows = [str(text) for name in CORPORA for text in corpora.load(name, data, "train").inputs]
    return list(dict.fromkeys(" ".join(text.split()) for text in rows if text.strip()))


def chosen(texts: Sequence[str], different: int | None, words: bool, cues: int) -> list[str]:
    """The texts of so many cues."""
    if words:
        texts = [word for text in texts for word in text.split()]
    elif different is not None:
        texts = [texts[place] for place in np.linspace(0, len(texts) - 1, different).astype(int)]
    return [texts[i % len(texts)] for i in range(cues)]


def write_transcript(path: Path, texts: Sequence[str], hours: float) -> None:
    """Segments of equal length, as recognisers write them."""
    step = 3600 * hours / len(texts)
    cues = [{"start": i * step, "end": (i + 1) * step, "text": text} for i, text in enumerate(texts)]
    path.write_text(json.dumps({"segments": cues}), encoding="utf-8")


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cues", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--different", type=int)
    parser.add_argument("--words", action="store_true")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    path, out = asked.work / "cues.json", asked.work / "out"
    texts = chosen(sentences(asked.data), asked.different, asked.words, asked.cues)
    write_transcript(path, texts, asked.hours)
    shutil.rmtree(out, ignore_errors=True)
    measured = run([sys.executable, "-m", "affuse.cli", "analyze", str(path), "--out", str(out)])
    answer: dict[str, Any] = json.loads((out / "cues.json").read_text(encoding="utf-8"))
    facts = {
        "cues": len(answer["cues"]),
        "different": len(set(texts)),
        "with_an_answer": sum(cue["label"] is not None for cue in answer["cues"]),
        **asdict(measured),
    }
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
