"""Where the known datasets lie."""

from __future__ import annotations

import os
from pathlib import Path

from affuse.errors import ConfigError

__all__ = ["data_folder"]


def data_folder(data: str | Path | None = None) -> Path:
    """The folder of the known datasets: the one that is named, or that of the variable AFFUSE_DATA.

    Raises ConfigError where neither names one.
    """
    named = data or os.environ.get("AFFUSE_DATA")
    if not named:
        raise ConfigError("known datasets lie in a folder that must be named: --data DIR or AFFUSE_DATA")
    return Path(named)
