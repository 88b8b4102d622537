"""Where the parts of an exported system come from: the shipped weights, or a system that was exported before."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from affuse import weights
from affuse.analyzer.loading import load_experts, shipped_for
from affuse.errors import ConfigError
from affuse.experts import DEFAULT_EXPERTS
from affuse.exporting.spec import SHIPPED
from affuse.fusion.named import NamedFuser
from affuse.packages import System, read_package
from affuse.packages.system import NAMES
from affuse.weight_sets import COMMERCIAL, in_use

__all__ = ["ExportedSource", "ShippedSource", "Source"]


class ShippedSource:
    """The shipped weights as the source of a system, with packages in the place of some experts."""

    name = SHIPPED

    def __init__(self, chosen: Mapping[str, str] | None, fuser: Path | None) -> None:
        if in_use() == COMMERCIAL:
            raise ConfigError(
                "a system is exported from the research set of weights, and the commercial set is in use; choose the "
                "other one: affuse models use research, or AFFUSE_WEIGHTS=research"
            )
        self.fuser = weights.shipped("fuser").parent if fuser is None else fuser
        self.learned = NamedFuser.read(self.fuser)
        chosen = shipped_for(self.learned) if chosen is None else chosen
        self.experts = load_experts(chosen)
        self.packages = {m: read_package(name) for m, name in chosen.items() if name != DEFAULT_EXPERTS.get(m)}
        self.own = {m: sorted(NAMES[m]) for m in chosen if m not in self.packages}

    def path(self, modality: str, name: str) -> Path:
        return weights.shipped(name)

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        entry = weights.manifest()[name]
        return entry.version, entry.licence

    def card(self, modality: str, name: str) -> Path:
        return weights.shipped(name).with_suffix(".md")


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

    def path(self, modality: str, name: str) -> Path:
        return self._system.folder / self._system.description.weights[modality][name].file

    def facts(self, modality: str, name: str) -> tuple[str, str]:
        own = self._system.description.weights[modality][name]
        return own.version, own.licence

    def card(self, modality: str, name: str) -> Path:
        return self.path(modality, name).with_suffix(".md")


Source = ShippedSource | ExportedSource
"""Either of them."""
