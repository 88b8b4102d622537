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
from affuse.weight_sets import RESEARCH, chosen_set

__all__ = ["load_experts", "load_named", "load_parts", "load_system", "read_fuser", "shipped_for", "shipped_fuser"]


def shipped_fuser(weight_set: str | None = None) -> NamedFuser:
    """The fuser that was learned from the held-out answers of the shipped experts (recipe: ``recipes.fuser``).

    Parameters
    ----------
    weight_set : str, optional
        Of which set the experts are (`affuse.weight_sets`); the one in use where None.

    Returns
    -------
    NamedFuser

    Examples
    --------
    >>> shipped_fuser("research").modalities
    ('face', 'voice', 'text')
    """
    return _fuser_of(chosen_set(weight_set))


@cache
def _fuser_of(weight_set: str) -> NamedFuser:
    return NamedFuser.read(weights.shipped("fuser", of_set=weight_set).parent)


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
    weight_set: str | None = None,
) -> tuple[dict[str, Expert], NamedFuser | None]:
    """The experts of a package, or those that were chosen, or the shipped ones that the fuser knows; and the fuser.

    ``fuser`` is used instead of that of the package; where there is neither, None is returned for it. Raises
    ConfigError where a set of shipped weights is asked for, and a package brings its own.
    """
    given = read_fuser(fuser)
    if package is not None:
        if weight_set is not None:
            raise ConfigError("a package brings its own weights; leave out --weights, or --package")
        experts, own = load_system(package, language, features)
        return experts, given or own
    chosen = shipped_for(given, weight_set) if chosen is None else chosen
    return load_experts(chosen, language, features, weight_set), given


def read_fuser(fuser: NamedFuser | str | Path | None) -> NamedFuser | None:
    """A fuser that may also be given as the folder that it was saved in."""
    return fuser if fuser is None or isinstance(fuser, NamedFuser) else NamedFuser.read(fuser)


def load_experts(
    chosen: Mapping[str, str] | None = None,
    language: str | None = None,
    features: Path | None = None,
    weight_set: str | None = None,
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
    weight_set : str, optional
        Of which set the shipped ones are (`affuse.weight_sets`); the one in use where None.

    Returns
    -------
    dict of str to Expert
        By modality.

    Raises
    ------
    ConfigError
        If a name or language is not known, an expert reads another modality than it is asked for, the set has no
        weights for one, or no expert reads the table.
    DataError
        If the table cannot be read.

    Examples
    --------
    >>> load_experts({"text": "text"}, language="en")["text"].language
    'en'
    """
    own_set = chosen_set(weight_set)
    named = _shipped_experts(own_set) if chosen is None else chosen
    if features is not None and "joint" not in named:
        raise ConfigError(f"none of the experts {', '.join(named)} reads a table of features; a joint one may")
    experts: dict[str, Expert] = {}
    for modality, name in named.items():
        options: dict[str, Any] = {}
        if modality == "joint" and features is not None:
            options["features"] = _features(features)
        expert = load_named(name, own_set, **options)
        expert.check_modality(modality)
        experts[modality] = expert.in_language(language) if "words" in expert.abilities.reads else expert
    return experts


def load_named(name: str, weight_set: str | None = None, **options: Any) -> Expert:
    """An expert by its name or the folder of its package; a shipped one with the weights of a set.

    Raises ConfigError where that has none for it, and as `affuse.packages.load_expert`.
    """
    if name in DEFAULT_EXPERTS.values():
        options["weight_set"] = own = chosen_set(weight_set)
        known = _shipped_experts(own)
        if name not in known.values():
            raise ConfigError(f"the {own} set of weights has none for {name}; it has {', '.join(known)}")
    return load_expert(name, **options)


def shipped_for(fuser: NamedFuser | None, weight_set: str | None = None) -> dict[str, str]:
    """Names of the shipped experts, by modality, that a fuser knows; the shipped fuser where None.

    Raises ConfigError where it knows none.
    """
    fuser = fuser or shipped_fuser(weight_set)
    shipped = _shipped_experts(chosen_set(weight_set))
    known = {modality: name for modality, name in shipped.items() if modality in fuser.modalities}
    if not known:
        raise ConfigError(
            f"the fuser knows {', '.join(fuser.modalities)}; there are shipped experts for "
            f"{', '.join(shipped)}: choose experts for its modalities"
        )
    return known


def _shipped_experts(weight_set: str) -> dict[str, str]:
    """Names of the experts that a set has weights for, by modality."""
    if weight_set == RESEARCH:
        return dict(DEFAULT_EXPERTS)
    own = weights.parts(weight_set)
    return {modality: name for modality, name in DEFAULT_EXPERTS.items() if name in own}


def _features(path: Path) -> FeatureTable:
    from affuse.tables import read_table

    return FeatureTable(read_table(path, KEYS), path.name)
