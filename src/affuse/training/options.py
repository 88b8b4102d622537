"""A configuration from a file, from a few options, or from a file with options over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from affuse.errors import ConfigError
from affuse.training.config import TrainConfig, read_config
from affuse.training.settings import as_overrides, build, with_values

__all__ = ["make_config"]


def make_config(
    path: str | Path | None = None,
    *,
    manifest: str | Path | None = None,
    dataset: str | None = None,
    data: str | Path | None = None,
    modality: str | None = None,
    options: Mapping[str, Any] | None = None,
    changes: Sequence[str] = (),
) -> TrainConfig:
    """The configuration of a training.

    Parameters
    ----------
    path : str or Path, optional
        TOML file that says everything, such as the config.toml of a run.
    manifest : str or Path, optional
        What is learned from: a table with path, start, end, text, label, speaker and split, or a folder with labels in
        the names of files or subfolders.
    dataset : str, optional
        A known corpus by name, instead of a manifest.
    data : str or Path, optional
        Folder that holds the known corpora.
    modality : {"voice", "face", "text", "joint"}, optional
        What the expert judges; needed without a file.
    options : mapping, optional
        Other options by dotted name, such as ``{"training.epochs": 20}``; those that are None are left out.
    changes : sequence of str
        The same as texts, such as "training.epochs=20", with values as TOML writes them.

    Returns
    -------
    TrainConfig

    Raises
    ------
    ConfigError
        If nothing names the data, several options do, or an option does not fit.

    Examples
    --------
    >>> Path("clips.csv").touch()
    >>> config = make_config(manifest="clips.csv", modality="voice", options={"training.epochs": 3})
    >>> config.data.modality, config.training.epochs
    ('voice', 3)
    """
    table = _data_table(manifest, dataset, data, modality)
    own = [*changes, *as_overrides(options or {})]
    if path is not None:
        return read_config(Path(path), [*as_overrides({f"data.{key}": value for key, value in _flat(table)}), *own])
    if "source" not in table:
        raise ConfigError(
            "what is learned from? Give a TOML file, --manifest PATH, or --dataset NAME --data DIR; "
            "for example: affuse train --manifest recordings --modality voice"
        )
    if "modality" not in table:
        raise ConfigError("--modality is needed: voice, face, text or joint")
    return build(TrainConfig, with_values({"data": table}, own))


def _data_table(
    manifest: str | Path | None, dataset: str | None, data: str | Path | None, modality: str | None
) -> dict[str, Any]:
    if manifest is not None and dataset is not None:
        raise ConfigError("give one of --manifest and --dataset, not both")
    if dataset is not None and data is None:
        raise ConfigError("--dataset needs --data, the folder that holds the corpora")
    table: dict[str, Any] = {}
    if dataset is not None and data is not None:
        table = {"source": dataset, "reading": {"folder": str(Path(data).resolve())}}
    elif manifest is not None:
        if not Path(manifest).exists():
            raise ConfigError(f"{manifest} does not exist")
        table = {"source": str(Path(manifest).resolve())}
    return table | ({} if modality is None else {"modality": modality})


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
