"""From experts and fuser to a folder that can be copied anywhere, measured against its source."""

from affuse.exporting.run import export
from affuse.exporting.spec import TARGETS

__all__ = ["TARGETS", "export"]
