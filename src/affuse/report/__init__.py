"""What one sees of an `Analysis`: the HTML page, files of results, the terminal, a figure and the JSON Schema."""

from affuse.report.files import write_results
from affuse.report.formats import DEFAULT_FORMATS, FORMATS, Format, Place, formats_of, labelling_config, write_as
from affuse.report.page import render_report, write_report
from affuse.report.plot import plot_timeline
from affuse.report.redaction import blurred_copy, redact, without_identity
from affuse.report.schema import schema
from affuse.report.sentences import headline
from affuse.report.terminal import print_analysis

__all__ = [
    "DEFAULT_FORMATS",
    "FORMATS",
    "Format",
    "Place",
    "blurred_copy",
    "formats_of",
    "headline",
    "labelling_config",
    "plot_timeline",
    "print_analysis",
    "redact",
    "render_report",
    "schema",
    "without_identity",
    "write_as",
    "write_report",
    "write_results",
]
