"""``make fuzz``: mutated files until the time or their number is spent; what goes wrong is kept, as small as can be.

AFFUSE_HOSTILE may name a folder of further files to start from.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fuzz.harness import Answer, Reader
from fuzz.kinds import kind_of, seeds_of_kinds
from fuzz.makers import seeds
from fuzz.mutations import Input
from fuzz.run import further_seeds, search


class Table:
    """What came out, by kind."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.slowest: dict[str, float] = {}
        self.largest: dict[str, float] = {}

    def add(self, tried: Input, answer: Answer) -> None:
        """Count an input."""
        kind = kind_of(tried.name)
        self.counts.setdefault(kind, Counter())[answer.outcome] += 1
        self.slowest[kind] = max(self.slowest.get(kind, 0.0), answer.seconds)
        self.largest[kind] = max(self.largest.get(kind, 0.0), answer.megabytes)

    def lines(self) -> list[str]:
        """A table in Markdown."""
        outcomes = ("read", "refused", "defect", "crash", "hang")
        found = [f"| kind | inputs | {' | '.join(outcomes)} | slowest (s) | most memory (MB) |", "|---" * 9 + "|"]
        rows = [(kind, own, self.slowest[kind], self.largest[kind]) for kind, own in sorted(self.counts.items())]
        total = sum((own for _, own, _, _ in rows), Counter[str]())
        rows.append(("all", total, max(self.slowest.values()), max(self.largest.values())))
        for kind, own, slowest, largest in rows:
            cells = " | ".join(f"{own[outcome]:,}" for outcome in outcomes)
            found.append(f"| {kind} | {own.total():,} | {cells} | {slowest:.1f} | {largest:.0f} |")
        return found


def main() -> int:
    """Run, print what came out, and return 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", help="media, tables, packages, configs or messages (default: all)")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-out"), help="folder for what goes wrong")
    chosen = parser.parse_args()
    table = Table()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as folder, Reader() as reader:
        start = seeds(Path(made)) | seeds_of_kinds() | further_seeds()
        start = {name: data for name, data in start.items() if not chosen.kind or kind_of(name) in chosen.kind}
        found = search(start, reader, Path(folder), chosen.inputs, chosen.seconds, chosen.seed, table.add)
    print("\n".join([*table.lines(), f"{time.monotonic() - began:.0f} s"]))
    if found is None:
        return 0
    tried, answer = found
    place = chosen.keep / answer.outcome / tried.name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(tried.data)
    print(f"{place} ({len(tried.data)} bytes): {answer.trouble}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
