"""A bounded search for an input that goes wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

from fuzz.harness import Answer, Reader
from fuzz.mutations import Input, inputs

__all__ = ["further_seeds", "search"]


_FAILED = Path(__file__).resolve().parent / "failed"


class _TroubleError(Exception):
    """An input went wrong."""


def further_seeds() -> dict[str, bytes]:
    """Files that went wrong once, of the folder ``failed`` here and of the one that AFFUSE_HOSTILE names."""
    found = {path.relative_to(_FAILED).as_posix(): path.read_bytes() for path in sorted(_FAILED.rglob("*.*"))}
    folder = os.environ.get("AFFUSE_HOSTILE")
    for path in sorted(Path(folder).iterdir()) if folder else []:
        if path.is_file() and path.suffix != ".md":
            found[f"tables/{path.name}" if path.suffix == ".csv" else path.name] = path.read_bytes()
    return found


def search(
    start: Mapping[str, bytes],
    reader: Reader,
    folder: Path,
    number: int,
    seconds: float,
    random_seed: int = 0,
    told: Callable[[Input, Answer], None] = lambda tried, answer: None,
) -> tuple[Input, Answer] | None:
    """Read the seeds themselves, then mutated ones, and give the smallest that goes wrong, if any does.

    Nothing further is read once ``seconds`` are spent; making it smaller is given as long again.
    """
    began = time.monotonic()
    worst: list[tuple[Input, Answer]] = []

    def attempt(tried: Input) -> None:
        if time.monotonic() - began > seconds * (2 if worst else 1):
            return
        path = folder / tried.name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(tried.data)
        answer = reader.read(path)
        told(tried, answer)
        if answer.trouble:
            worst.append((tried, answer))
            raise _TroubleError(answer.trouble)

    @seed(random_seed)
    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    @given(inputs(start))
    def mutated(tried: Input) -> None:
        attempt(tried)

    try:
        for name, data in start.items():
            attempt(Input(name, data))
        mutated()
    except Exception as error:
        if not worst:
            raise error
        return min(worst, key=lambda pair: len(pair[0].data))
    return None
