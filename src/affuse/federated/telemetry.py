"""Flower without its telemetry and without its log, before anything of it is loaded."""

from __future__ import annotations

import logging
import os
import sys

__all__ = ["silence"]

_SWITCH = "FLWR_TELEMETRY_ENABLED"


def silence() -> None:
    """Keep Flower from sending what it is used for to its makers, and from writing its log to the terminal.

    It reads the switch once, when it is loaded; where somebody loaded it before, what it read is set as well.

    Examples
    --------
    >>> import os
    >>> silence()
    >>> os.environ["FLWR_TELEMETRY_ENABLED"]
    '0'
    """
    os.environ[_SWITCH] = "0"
    loaded = sys.modules.get("flwr.supercore.telemetry")
    if loaded is not None:
        setattr(loaded, _SWITCH, "0")
    logging.getLogger("flwr").setLevel(logging.CRITICAL + 1)
