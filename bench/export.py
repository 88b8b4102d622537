"""Export the shipped system to ONNX and to INT8, and put what was measured into ``docs/export.md``.

``python bench/export.py --data DIR`` measures every held-out row that is there (minutes); ``--rows 100`` does for a
first look. Timings are of the processor, so that other work on the machine changes them little.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from affuse.evaluation.speed import Request, measure
from affuse.exporting import Order, export
from affuse.exporting.parity import markdown
from affuse.files import replacing

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "export.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"


def stages(figures: dict[str, dict[str, object]]) -> str:
    """Milliseconds of processor by stage, one thread, as a table."""
    names = list(figures)
    lines = ["| stage (ms, one thread) | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for stage in figures[names[0]]["stages"]:  # type: ignore[attr-defined]
        row = [figures[name]["stages"][stage]["cpu"] for name in names]  # type: ignore[index]
        lines.append(f"| {stage} | " + " | ".join(f"{ms:.2f}" for ms in row) + " |")
    whole = [figures[name]["analysis"]["cpu"] for name in names]  # type: ignore[index]
    lines.append("| whole analysis of demo/clip.mp4 | " + " | ".join(f"{ms:.0f}" for ms in whole) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("AFFUSE_DATA"), help="folder of the data sets")
    parser.add_argument("--rows", type=int, help="measure on at most so many held-out rows a set")
    parser.add_argument("--page", type=Path, default=PAGE, help="page to put the figures into")
    options = parser.parse_args()
    clip, words = ROOT / "demo" / "clip.mp4", ROOT / "demo" / "clip.srt"
    parts, timings = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for target in ("onnx", "onnx-int8"):
            out = Path(folder) / target
            data = options.data if target == "onnx-int8" else None  # the float networks are the shipped ones
            facts = export("shipped", Order(target, out, data, options.rows, clip, words))
            parts.append(f"### `--to {target}`\n\n{markdown(facts)}")
            timings[target] = measure(Request(str(out), str(clip), str(words), times=40, analyses=5))
    parts.append(f"### By stage\n\n{stages(timings)}\n")
    text = options.page.read_text(encoding="utf-8")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    with replacing(options.page) as (page,):
        page.write_text(f"{before}{BEGIN}\n\n" + "\n".join(parts) + f"\n{END}{after}", encoding="utf-8")
    print(f"written to {options.page}")


if __name__ == "__main__":
    main()
