"""Where the parts of an exported system come from: the shipped weights, or a system that was exported before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from affuse import weights
from affuse.analyzer.loading import load_experts, shipped_for, shipped_fuser
from affuse.experts import DEFAULT_EXPERTS
from affuse.exporting.licences import allows, own_part
from affuse.exporting.spec import SHIPPED
from affuse.fusion.named import NamedFuser
from affuse.packages import System, read_package
from affuse.packages.system import NAMES, Part
from affuse.weight_sets import chosen_set

__all__ = ["ExportedSource", "ShippedSource", "Source"]

_FUSER = "fuser"


class ShippedSource:
    """A set of the shipped weights as the source of a system, with packages in the place of some experts."""

    name = SHIPPED

    def __init__(self, chosen: Mapping[str, str] | None, fuser: Path | None, weight_set: str | None = None) -> None:
        self._set = own = chosen_set(weight_set)
        self.fuser = weights.shipped(_FUSER, of_set=own).parent if fuser is None else fuser
        self.learned = shipped_fuser(own) if fuser is None else NamedFuser.read(fuser)
        chosen = shipped_for(self.learned, own) if chosen is None else chosen
        self.experts = load_experts(chosen, weight_set=own)
        self.packages = {m: read_package(name) for m, name in chosen.items() if name != DEFAULT_EXPERTS.get(m)}
        self.own = {m: sorted(NAMES[own][m]) for m in chosen if m not in self.packages}

    def path(self, modality: str, name: str) -> Path:
        return weights.shipped(name, of_set=self._set)

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        entry = weights.manifest()[name]
        return entry.version, entry.licence

    def card(self, modality: str, name: str) -> Path:
        return self.path(modality, name).with_suffix(".md")

    def parts(self) -> list[Part]:
        """Licences of its networks, of what these share with others, of its packages and its fuser."""
        networks = [name for names in self.own.values() for name in names]
        shared = [other for name in networks for other in weights.manifest()[name].beside]
        listed = [_shipped_part(name) for name in dict.fromkeys([*networks, *shared])]
        return [*listed, *(own_part(package, m) for m, package in self.packages.items()), _fuser_part(self.learned)]


class ExportedSource:
    """A system that was exported before as the source of another."""

    def __init__(self, system: System, fuser: Path | None) -> None:
        self.name = str(system.folder)
        self.experts = system.experts()
        described = system.description
        self.packages = {m: read_package(system.folder / folder) for m, folder in described.packages.items()}
        self.own = {m: sorted(names) for m, names in described.weights.items()}
        self.fuser = system.fuser if fuser is None else fuser
        self.learned = NamedFuser.read(self.fuser)
        self._system = system
        self._replaced = fuser is not None

    def path(self, modality: str, name: str) -> Path:
        return self._system.folder / self._system.description.weights[modality][name].file

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        own = self._system.description.weights[modality][name]
        return own.version, own.licence

    def card(self, modality: str, name: str) -> Path:
        return self.path(modality, name).with_suffix(".md")

    def parts(self) -> list[Part]:
        """As it lists them itself; one of an earlier version lists none."""
        told = self._system.description.parts
        if told:
            fuser = [_fuser_part(self.learned)] if self._replaced else [told[-1]]
            return [*told[:-1], *fuser]
        own = self._system.description.weights.values()
        networks = [(name, facts) for names in own for name, facts in sorted(names.items())]
        listed = [Part(name, each.licence, each.version, allows(each.licence)) for name, each in networks]
        return [*listed, *(own_part(package, m) for m, package in self.packages.items()), _fuser_part(self.learned)]


Source = ShippedSource | ExportedSource
"""Either of them."""


def _shipped_part(name: str) -> Part:
    entry = weights.manifest()[name]
    return Part(name, entry.licence, entry.version, entry.commercial, entry.data)


def _fuser_part(learned: NamedFuser) -> Part:
    """A fuser that comes with affuse is known by its checksum; nothing tells the licence of another."""
    known = [name for name, entry in weights.manifest().items() if entry.sha256 == learned.sha256]
    return _shipped_part(known[0]) if known else Part(_FUSER, "not stated")
