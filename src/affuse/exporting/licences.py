"""The list of licences that goes with what is exported."""

from __future__ import annotations

import re
from collections.abc import Sequence

from affuse.packages import Package
from affuse.packages.system import Part
from affuse.weight_sets import SETS

__all__ = ["FILE", "allows", "licences", "own_part"]

FILE = "LICENCES.md"

_EXCLUDES = re.compile(r"non-?commercial|research|academic|-nc\b", re.IGNORECASE)
_ALLOWS = re.compile(r"\b(MIT|Apache|BSD|ISC|CC0|CC[ -]BY|ODbL|GPL|LGPL|MPL|public domain)", re.IGNORECASE)
_CODE = Part("affuse, the code that runs the weights", "Apache-2.0", "", "yes")


def allows(licence: str) -> str:
    """Whether a licence in a few words allows commercial use: "yes", "no", or "" where it does not say."""
    if _EXCLUDES.search(licence):
        return "no"
    return "yes" if _ALLOWS.search(licence) else ""


def own_part(package: Package, modality: str = "") -> Part:
    """Terms of an expert's own package, as its description states them."""
    described = package.description
    name = f"{modality} ({described.name})" if modality else described.name
    return Part(name, described.licence, "", allows(described.licence))


def licences(parts: Sequence[Part], weight_set: str | None = None) -> str:
    """Markdown of the licence of the code and of each part, and whether the whole may be used commercially."""
    lines = ["# Licences", "", *_verdict(parts)]
    if weight_set in SETS:
        lines += [f"Weights of affuse in this folder: the {weight_set} set.", ""]
    lines += ["| part | version | licence | commercial use | learned from |", "|---|---|---|---|---|"]
    for part in (_CODE, *parts):
        commercial = f"**{part.commercial}**" if part.commercial == "no" else part.commercial or "not stated"
        told = ["" if part is _CODE else "; ".join(part.data) or "not stated"]
        lines.append(f"| {' | '.join([part.name, part.version, part.licence, commercial, *told])} |")
    lines += [
        "",
        "Commercial use is yes where the licence of the weights allows it, and no where that licence, or the licence "
        "of what they learned from, excludes it. What finds faces and speech and tells who speaks comes with affuse "
        "and not in this folder: `affuse models licences` lists it.",
        "",
    ]
    if any("CC BY" in text for part in parts for text in (part.licence, *part.data)):
        lines += ["CC BY asks that its sources are named: pass this page on with the folder.", ""]
    return "\n".join(lines)


def _verdict(parts: Sequence[Part]) -> list[str]:
    excluded = [part.name for part in parts if part.commercial == "no"]
    unknown = [part.name for part in parts if not part.commercial]
    if excluded:
        return [
            f"**Commercial use of this folder: no.** These exclude it: {', '.join(excluded)}. Export the commercial "
            "set instead (`affuse export --weights commercial`), or experts trained on data of your own (`affuse "
            "train`, then `affuse export --experts`).",
            "",
        ]
    if unknown:
        return [
            f"**Commercial use of this folder: not stated.** Ask whoever made them: {', '.join(unknown)}.",
            "",
        ]
    return ["**Commercial use of this folder: yes.** The licences of all its parts allow it.", ""]
