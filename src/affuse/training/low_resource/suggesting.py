"""Which unlabelled rows of one's own data to label next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from affuse.data.own import read
from affuse.errors import ConfigError, DataError
from affuse.packages import read_package
from affuse.training.config import TrainConfig
from affuse.training.low_resource.active import Suggestion, suggest, write_suggestions

__all__ = ["suggest_rows"]


def suggest_rows(config: TrainConfig, package: Path, count: int, out: Path) -> list[Suggestion]:
    """Name ``count`` unlabelled rows of the data of ``config`` and write them as a table, to be filled in.

    Raises DataError where every row has a label, ConfigError where ``out`` is a folder or the table that is read.
    """
    reading = replace(config.data.reading, unlabelled="keep")
    data = read(config.data.source, config.data.modality, reading)
    unlabelled = [sample for sample in data.samples if sample.label is None]
    if not unlabelled:
        raise DataError(f"every row of {data.name} has a label; there is nothing to suggest")
    labelled = [sample for sample in data.split("train") if sample.label is not None]
    if out.is_dir() or out.resolve() == Path(config.data.source).resolve():
        raise ConfigError(f"{out} cannot hold the suggestions; name another file by --out")
    suggestions = suggest(read_package(package), unlabelled, count, labelled)
    write_suggestions(suggestions, out)
    return suggestions
