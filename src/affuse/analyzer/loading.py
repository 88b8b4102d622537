"""Experts and fusers by name or folder: what an analyzer is made of."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from affuse import weights
from affuse.errors import ConfigError
from affuse.experts import DEFAULT_EXPERTS
from affuse.experts.base import Expert
from affuse.fusion.named import NamedFuser
from affuse.packages import load_expert
from affuse.packages.columns import KEYS, FeatureTable
from affuse.packages.system import read_system

__all__ = ["load_experts", "load_parts", "load_system", "read_fuser", "shipped_for", "shipped_fuser"]


@cache
def shipped_fuser() -> NamedFuser:
    """The fuser that was learned from the held-out answers of the shipped experts (recipe: ``recipes.fuser``).

    Returns
    -------
    NamedFuser

    Examples
    --------
    >>> shipped_fuser().modalities
    ('face', 'voice', 'text')
    """
    return NamedFuser.read(weights.shipped("fuser").parent)


def load_system(
    folder: str | Path, language: str | None = None, features: Path | None = None
) -> tuple[dict[str, Expert], NamedFuser]:
    """Experts and fuser of a whole system.

    Parameters
    ----------
    folder : str or Path
        What ``affuse export`` wrote.
    language, features
        As in `load_experts`.

    Returns
    -------
    experts : dict of str to Expert
        By modality.
    fuser : NamedFuser

    Raises
    ------
    AssetError
        If its files are not the ones that it names.
    ConfigError
        As of `load_experts`.

    Examples
    --------
    >>> from affuse.exporting import export
    >>> from affuse.testing import write_toy_package
    >>> facts = export("shipped", "system", experts={"voice": str(write_toy_package("mine"))}, times=1)
    >>> experts, fuser = load_system("system")
    >>> list(experts)
    ['voice']
    """
    system = read_system(folder)
    table = None if features is None else _features(features)
    return system.experts(language, table), NamedFuser.read(system.fuser)


def load_parts(
    package: str | Path | None = None,
    chosen: Mapping[str, str] | None = None,
    language: str | None = None,
    features: Path | None = None,
    fuser: NamedFuser | str | Path | None = None,
) -> tuple[dict[str, Expert], NamedFuser | None]:
    """The experts of a package, or those that were chosen, or the shipped ones that the fuser knows; and the fuser.

    ``fuser`` is used instead of that of the package; where there is neither, None is returned for it.
    """
    given = read_fuser(fuser)
    if package is not None:
        experts, own = load_system(package, language, features)
        return experts, given or own
    return load_experts(shipped_for(given) if chosen is None else chosen, language, features), given


def read_fuser(fuser: NamedFuser | str | Path | None) -> NamedFuser | None:
    """A fuser that may also be given as the folder that it was saved in."""
    return fuser if fuser is None or isinstance(fuser, NamedFuser) else NamedFuser.read(fuser)


def load_experts(
    chosen: Mapping[str, str] | None = None, language: str | None = None, features: Path | None = None
) -> dict[str, Expert]:
    """Make experts by name.

    Parameters
    ----------
    chosen : mapping of str to str, optional
        Name of an installed expert, or folder of a package, by modality; all shipped ones where None.
    language : str, optional
        Code of the language of the words; recognised where None.
    features : Path, optional
        Table of numbers that a joint expert reads.

    Returns
    -------
    dict of str to Expert
        By modality.

    Raises
    ------
    ConfigError
        If a name or language is not known, an expert reads another modality than it is asked for, or no expert reads
        the table.
    DataError
        If the table cannot be read.

    Examples
    --------
    >>> load_experts({"text": "text"}, language="en")["text"].language
    'en'
    """
    named = DEFAULT_EXPERTS if chosen is None else chosen
    if features is not None and "joint" not in named:
        raise ConfigError(f"none of the experts {', '.join(named)} reads a table of features; a joint one may")
    experts: dict[str, Expert] = {}
    for modality, name in named.items():
        options: dict[str, Any] = {}
        if modality == "joint" and features is not None:
            options["features"] = _features(features)
        expert = load_expert(name, **options)
        expert.check_modality(modality)
        experts[modality] = expert.in_language(language) if "words" in expert.abilities.reads else expert
    return experts


def shipped_for(fuser: NamedFuser | None) -> dict[str, str]:
    """Names of the shipped experts, by modality, that a fuser knows; the shipped fuser where None.

    Raises ConfigError where it knows none.
    """
    fuser = fuser or shipped_fuser()
    known = {modality: name for modality, name in DEFAULT_EXPERTS.items() if modality in fuser.modalities}
    if not known:
        raise ConfigError(
            f"the fuser knows {', '.join(fuser.modalities)}; there are shipped experts for "
            f"{', '.join(DEFAULT_EXPERTS)}: choose experts for its modalities"
        )
    return known


def _features(path: Path) -> FeatureTable:
    from affuse.tables import read_table

    return FeatureTable(read_table(path, KEYS), path.name)
