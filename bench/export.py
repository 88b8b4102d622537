"""Export the shipped system to ONNX and to INT8, and put what was measured into ``docs/export.md``.

``python bench/export.py --data DIR`` measures every held-out row that is there (minutes); ``--rows 100`` does for a
first look. Timings are of the processor, so that other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from affuse.evaluation.formatting import ResultTable
from affuse.evaluation.speed import Request, measure
from affuse.exporting import export
from affuse.exporting.parity import markdown
from affuse.files import write_text

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "export.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def stages(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Milliseconds of processor by stage, one thread, as a table."""
    table = ResultTable(("stage (ms, one thread)", *figures))
    for stage in next(iter(figures.values()))["stages"]:
        table.add(stage, *(f"{own['stages'][stage]['cpu']:.2f}" for own in figures.values()))
    table.add("whole analysis of demo/clip.mp4", *(f"{own['analysis']['cpu']:.0f}" for own in figures.values()))
    return table.markdown()


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AFFUSE_DATA"), help="folder of the datasets")
    parser.add_argument("--rows", type=int, help="measure on at most so many held-out rows a set")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to put the figures into")
    options = parser.parse_args()
    clip, words = ROOT / "demo" / "clip.mp4", ROOT / "demo" / "clip.srt"
    parts, timings = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for target in ("onnx", "onnx-int8"):
            out = Path(folder) / target
            data = options.data if target == "onnx-int8" else None  # the float networks are the shipped ones
            facts = export("shipped", out, target, data=data, rows=options.rows, clip=clip, transcript=words)
            parts.append(f"### `--to {target}`\n\n{markdown(facts)}")
            timings[target] = measure(Request(str(out), str(clip), str(words), times=40, analyses=5))
    parts.append(f"### By stage\n\n{stages(timings)}\n")
    text = options.page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    write_text(options.page, f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}")
    print(f"written to {options.page}")


if __name__ == "__main__":
    main()
