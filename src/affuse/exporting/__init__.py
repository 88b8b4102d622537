"""From experts and fuser to a folder that can be copied anywhere, measured against its source."""

from affuse.exporting.run import TARGETS, Order, export

__all__ = ["TARGETS", "Order", "export"]
