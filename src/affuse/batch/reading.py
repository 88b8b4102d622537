"""Reading the data set of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from affuse.batch.storage import as_path, uncached
from affuse.batch.store import TABLES, Store, configurations, joined, lists_of, read_arrow
from affuse.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd
    from arro3.core import Table

__all__ = ["read"]


def read(folder: str | Path, table: str = "summaries", configuration: str | None = None) -> pd.DataFrame:
    """Read one table of the data set of a batch, in order of the recordings.

    Parameters
    ----------
    folder : str or Path
        What ``affuse batch`` wrote with ``--out``; an address such as ``s3://bucket/study`` as well.
    table : {"summaries", "windows", "persons", "pictures", "errors", "contents"}
        Which one. "pictures" has a JPEG in Base64 of the strongest moment of those persons who are seen, by their rank;
        the last one is about recordings in cloud storage.
    configuration : str, optional
        Fingerprint of a configuration, where the data set holds more than one.

    Returns
    -------
    pandas.DataFrame
        The column "path" names the recording as the manifest does, and "key" is the SHA-256 of its content. A recording
        that is there twice has its rows twice. The rows do not depend on the order in which recordings were analysed.

    Raises
    ------
    DataError
        If the folder holds no data set, or a part of it is broken.
    ConfigError
        If there is no such table or configuration, or several configurations and none was named.

    Examples
    --------
    >>> from affuse.batch import BatchSettings, run
    >>> _ = Path("words.srt").write_text("1\\n00:00:00,000 --> 00:00:02,000\\nI am so happy!\\n")
    >>> done = run(["words.srt"], "study", BatchSettings(experts={"text": "text"}))
    >>> read("study")[["path", "label"]].to_dict("records")
    [{'path': 'words.srt', 'label': 'happiness'}]
    """
    if table not in TABLES:
        raise ConfigError(f"there is no table {table!r}; known: {', '.join(TABLES)}")
    place = uncached(as_path(folder))
    store = Store(place, _chosen(place, configuration))
    if table in ("windows", "persons", "pictures"):
        return _with_paths(store, table)
    frame = _frame([read_arrow(path) for path in store.parts(table)])
    return frame if table == "summaries" or frame.empty else _sorted(frame.drop_duplicates(["path", "key"]))


def _chosen(folder: Path, configuration: str | None) -> str:
    known = configurations(folder)
    if not known:
        raise DataError(f"{folder} holds no data set of affuse batch")
    if configuration is None and len(known) > 1:
        raise ConfigError(f"{folder} holds several configurations; name one of {', '.join(known)}")
    if configuration is not None and configuration not in known:
        raise ConfigError(f"{folder} holds no configuration {configuration}; known: {', '.join(known)}")
    return configuration or known[0]


def _with_paths(store: Store, table: str) -> pd.DataFrame:
    import pandas as pd

    frame = _frame([rows for _, rows in store.tables(table)])
    if frame.empty:
        return frame
    summaries = _frame([read_arrow(path) for path in store.parts("summaries")])
    paths = pd.DataFrame({"path": [], "key": []}, dtype=object) if summaries.empty else summaries[["path", "key"]]
    merged = frame.merge(paths.drop_duplicates(), on="key", how="left")
    return _sorted(merged[["path", *(name for name in merged if name != "path")]])


def _sorted(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.sort_values(["path", "key"], kind="stable", ignore_index=True)


def _frame(tables: list[Table]) -> pd.DataFrame:
    import pandas as pd

    if not tables:
        return pd.DataFrame()
    table = joined(tables)
    return pd.DataFrame({name: _series(table, name, values) for name, values in lists_of(table).items()})


def _series(table: Any, name: str, values: list[Any]) -> pd.Series:
    """Text as objects, numbers as floats with NaN for gaps, whole numbers as such where there are no gaps."""
    import pandas as pd

    kind = str(table.schema.field(name).type)
    if "Float" in kind or ("Int" in kind and None in values):
        return pd.Series([float("nan") if value is None else float(value) for value in values], dtype=float)
    return pd.Series(values, dtype="int64" if "Int" in kind else object)
