"""Everything affuse raises on purpose.

::

    AffuseError                 one clear sentence for the user; the command line exits with code 2
    ├── MediaError              a recording that is missing, empty, broken or holds nothing to analyse
    ├── TranscriptError         a transcript that does not parse or does not fit its recording
    ├── DataError               a table, data set or prediction that does not fit
    ├── ConfigError             an option out of range or a name that nobody registered
    ├── AssetError              weights that are missing, incomplete or fail their checksum
    ├── OutputError             a place that cannot be written
    └── MissingExtraError       an optional part that is not installed; the message holds the pip command

    LeakWarning                 a warning, not an error: outputs that are too good on the rows to learn from

Inner functions raise short truths; the outer layer (`affuse.analyzer`) adds file, time and modality once.
"""

__all__ = [
    "AffuseError",
    "AssetError",
    "ConfigError",
    "DataError",
    "LeakWarning",
    "MediaError",
    "MissingExtraError",
    "OutputError",
    "TranscriptError",
]


class AffuseError(Exception):
    """Base of all errors that affuse raises on purpose."""


class MediaError(AffuseError):
    """A recording is missing, empty, broken or holds nothing to analyse."""


class TranscriptError(AffuseError):
    """A transcript does not parse or does not fit its recording."""


class DataError(AffuseError, ValueError):
    """A table, a data set or an array of predictions does not fit."""


class ConfigError(AffuseError, ValueError):
    """An option is out of range, or a name is not registered."""


class AssetError(AffuseError):
    """Weights are missing, incomplete or fail their checksum."""


class OutputError(AffuseError):
    """A place cannot be written."""


class MissingExtraError(AffuseError, ImportError):
    """An optional part of affuse is not installed.

    Parameters
    ----------
    what: the library that failed to import.
    extra: the extra of affuse that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; run: pip install 'affuse[{extra}]'")


class LeakWarning(UserWarning):
    """Outputs or features are so much better on the rows to learn from that they have probably learned from them."""
