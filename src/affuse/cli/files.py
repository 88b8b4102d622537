"""Where results of commands may go."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from affuse.errors import ConfigError, OutputError
from affuse.tables import TABLE_SUFFIXES

__all__ = ["check_table", "refuse_inputs", "refuse_others"]


def check_table(out: Path, sentence: str = "--out must end in") -> Path:
    """``out``, a table that can be written. Raises ConfigError where its suffix is none of a table."""
    if out.suffix.lower() not in TABLE_SUFFIXES:
        raise ConfigError(f"{sentence} {', '.join(TABLE_SUFFIXES)}; got {out}")
    return out


def refuse_inputs(out: Path | None, inputs: Sequence[Path | None]) -> None:
    """Raise OutputError where ``out`` is one of the files that are read, or lies in a folder of them."""
    if out is None or not out.exists():
        return
    for path in inputs:
        if path is not None and path.exists() and (path.samefile(out) or _holds(path, out)):
            raise OutputError(f"{out} is one of the inputs; choose another place for the output")


def _holds(folder: Path, out: Path) -> bool:
    return folder.is_dir() and out.is_file() and folder.resolve() in out.resolve().parents


def refuse_others(folder: Path | None, option: str) -> None:
    """Raise OutputError where the place for a fuser holds something else; ``option`` is the one that names it."""
    from affuse.fusion.persistence import holds_fuser

    if folder is None:
        return
    if folder.exists() and not holds_fuser(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and holds no fuser of affuse; choose another folder for {option}")
