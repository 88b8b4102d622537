"""The list of licences that goes with what is exported."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FILE", "licences"]

FILE = "LICENCES.md"

_HINTS = ("non-commercial", "noncommercial", "research", "-nc", "not stated")


def licences(weights: Mapping[str, str]) -> str:
    """Markdown of the licence of the code and of each file of ``weights``; non-commercial ones are said to be so."""
    bound = [name for name, licence in weights.items() if _is_bound(licence)]
    lines = [
        "# Licences",
        "",
        "| part | licence | commercial use |",
        "|---|---|---|",
        "| affuse, the code that runs the weights | Apache-2.0 | yes |",
        *(f"| {name} | {licence} | {'**no**' if name in bound else 'yes'} |" for name, licence in weights.items()),
        "",
    ]
    if bound:
        lines += [
            f"**Non-commercial: {', '.join(bound)}.** Weights follow the licence of the data that they were learned "
            "from. Whoever wants to use this folder commercially must replace them, for instance by experts trained "
            "on data of their own (`affuse train`, then `affuse export --experts`).",
            "",
        ]
    return "\n".join(lines)


def _is_bound(licence: str) -> bool:
    return any(hint in licence.lower() for hint in _HINTS)
