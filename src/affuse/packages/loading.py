"""From the name of an expert, or the folder of a package, to the expert itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from affuse.errors import ConfigError
from affuse.experts import EXPERTS, make_expert
from affuse.experts.base import Expert
from affuse.packages.package import read_package

__all__ = ["load_expert", "load_package"]


def load_expert(name: str, **options: Any) -> Expert:
    """Make an installed expert, or that of a package.

    Parameters
    ----------
    name : str
        Name of an installed expert, which comes first, or the folder of a package.
    **options
        Arguments of its class.

    Returns
    -------
    Expert

    Raises
    ------
    ConfigError
        If there is neither, or no such option.
    AssetError
        If the package is not whole; see `load_package`.

    Examples
    --------
    >>> load_expert("face", rate=2.0).labels.name
    'ferplus'
    """
    if name not in EXPERTS:
        if Path(name).is_dir():
            return load_package(name, **options)
        raise ConfigError(
            f"unknown expert {name!r}; installed: {', '.join(EXPERTS)}, or give the folder of a trained one"
        )
    return make_expert(name, **options)


def load_package(path: str | Path, **options: Any) -> Expert:
    """The expert of a package, its files checked.

    Parameters
    ----------
    path : str or Path
        Folder that ``affuse train`` wrote.
    **options
        Arguments of its class: ``features`` for one that reads a table, ``detector`` and ``rate`` for faces.

    Returns
    -------
    Expert

    Raises
    ------
    AssetError
        If a file is missing, was changed or does not fit the others.
    ConfigError
        If affuse has no expert for what the network reads.

    Examples
    --------
    >>> from affuse.testing import synthetic, write_toy_package
    >>> expert = load_package(write_toy_package("mine"))
    >>> expert.classify(synthetic.speech(seconds=1.0, pitch=140)).shape
    (2,)
    """
    from affuse.packages import experts, windows  # bring OpenCV

    package = read_package(path)
    package.session  # noqa: B018 (a network that does not fit is told now, not in the middle of a recording)
    reads = package.description.reads
    unread = [block for block in reads if block not in windows.READ]
    if unread:
        raise ConfigError(
            f"{path} reads {' and '.join(unread)}, which affuse does not find in recordings by itself; "
            f"it finds {', '.join(windows.READ)}"
        )
    kinds: dict[tuple[str, ...], Any] = {
        ("waveform",): experts.PackagedVoice,
        ("images",): experts.PackagedFace,
        ("tokens",): experts.PackagedText,
    }
    single = package.description.kind == "expert"
    kind = kinds.get(reads, windows.PackagedWindows) if single else windows.PackagedWindows
    expert: Expert = kind(package, **options)
    return expert
