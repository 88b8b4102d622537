"""The command line called in this process, which spares the start of an interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from affuse.cli import main

__all__ = ["Result", "Run", "caller"]


class Result(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str


Run = Callable[..., Result]


def caller(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *first: str) -> Run:
    """A function that calls ``affuse`` with the arguments ``first`` and its own."""

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["affuse", *first, *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else 1
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return call
