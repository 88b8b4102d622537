"""The errors that affuse raises on purpose.

::

    AffuseError                 base of all; the message is one sentence for the user, the command exits with code 2
    ├── MediaError              a recording is missing, empty, broken or holds nothing to analyse
    ├── TranscriptError         a transcript does not parse or does not fit its recording
    ├── DataError               a table, a data set or an array does not fit
    ├── ConfigError             an option is out of range, or a name is not registered
    ├── AssetError              weights are missing, incomplete or have a wrong checksum
    ├── OutputError             a file or folder cannot be written
    ├── ConsentError            a recording is not to be analysed, since people in it did not agree
    └── MissingExtraError       a library of an extra is not installed; the message holds the pip command

    LeakWarning                 a warning, no error: outputs are suspiciously good on the rows to learn from

Inner functions raise short sentences; the outer layer (`affuse.analyzer`) adds file, time and modality once.
"""

__all__ = [
    "AffuseError",
    "AssetError",
    "ConfigError",
    "ConsentError",
    "DataError",
    "LeakWarning",
    "MediaError",
    "MissingExtraError",
    "OutputError",
    "TranscriptError",
]


class AffuseError(Exception):
    """Base of all errors that affuse raises on purpose; catch it to catch them all."""


class MediaError(AffuseError):
    """Raised when a recording is missing, empty, broken or holds nothing to analyse."""


class TranscriptError(AffuseError):
    """Raised when a transcript does not parse or does not fit its recording."""


class DataError(AffuseError, ValueError):
    """Raised when a table, a data set or an array does not fit: missing columns, wrong shapes, bad values."""


class ConfigError(AffuseError, ValueError):
    """Raised when an option is out of range, or a name is not registered."""


class ConsentError(AffuseError):
    """Raised when a recording is not to be analysed, since people in it did not agree, or no longer do."""


class AssetError(AffuseError):
    """Raised when weights are missing, incomplete or have a wrong checksum."""


class OutputError(AffuseError):
    """Raised when a file or folder cannot be written."""


class MissingExtraError(AffuseError, ImportError):
    """Raised when a library is not installed that belongs to an extra of affuse.

    Parameters
    ----------
    what : str
        The library that failed to import.
    extra : str
        The extra that installs it.

    Examples
    --------
    >>> raise MissingExtraError("librosa", "features")
    Traceback (most recent call last):
    ...
    affuse.errors.MissingExtraError: librosa is not installed; run: pip install 'affuse[features]'
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} is not installed; run: pip install 'affuse[{extra}]'")


class LeakWarning(UserWarning):
    """Given when outputs or features are so good on the rows to learn from that they must have learned from them."""
