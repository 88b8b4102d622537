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
from fuzz.makers import seeds
from fuzz.mutations import Input
from fuzz.run import further_seeds, search


def main() -> int:
    """Run, print what came out, and return 1 where something went wrong."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-out"), help="folder for what goes wrong")
    chosen = parser.parse_args()
    counts: Counter[str] = Counter()
    slowest, largest = ("", 0.0), ("", 0.0)

    def told(tried: Input, answer: Answer) -> None:
        nonlocal slowest, largest
        counts[answer.outcome] += 1
        slowest = max(slowest, (tried.name, answer.seconds), key=lambda pair: pair[1])
        largest = max(largest, (tried.name, answer.megabytes), key=lambda pair: pair[1])

    began = time.monotonic()
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as folder, Reader() as reader:
        start = seeds(Path(made)) | further_seeds()
        found = search(start, reader, Path(folder), chosen.inputs, chosen.seconds, chosen.seed, told)
    print(f"{sum(counts.values())} inputs in {time.monotonic() - began:.0f} s: {dict(counts)}")
    print(f"slowest: {slowest[1]:.1f} s ({slowest[0]}); largest: {largest[1]:.0f} MB ({largest[0]})")
    if found is None:
        return 0
    tried, answer = found
    chosen.keep.mkdir(parents=True, exist_ok=True)
    place = chosen.keep / f"{answer.outcome}_{tried.name}"
    place.write_bytes(tried.data)
    print(f"{place} ({len(tried.data)} bytes): {answer.trouble}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
