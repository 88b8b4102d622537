"""The kinds of files that an analysis is written as: one file and one line of the registry each."""

from affuse.report.formats.base import Format, Place
from affuse.report.formats.labelstudio import labelling_config
from affuse.report.formats.registry import DEFAULT_FORMATS, FORMATS, formats_of, write_as

__all__ = ["DEFAULT_FORMATS", "FORMATS", "Format", "Place", "formats_of", "labelling_config", "write_as"]
