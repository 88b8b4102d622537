"""What an analysis is for, as its user declares it, and what the law forbids without an exemption."""

from __future__ import annotations

from dataclasses import dataclass

from affuse.errors import ConfigError

__all__ = ["EXEMPTIONS", "FORBIDDEN", "PURPOSES", "Purpose"]

FORBIDDEN = ("work", "education")
"""Purposes that Art. 5(1)(f) of Regulation (EU) 2024/1689 forbids, but for the exemptions."""

PURPOSES = ("research", "customer-insight", "medical", "safety", "accessibility", "personal", "media", *FORBIDDEN)
"""Purposes that can be declared."""

EXEMPTIONS = ("medical", "safety")
"""Reasons for which inferring emotions at work and in education is not forbidden there."""


@dataclass(frozen=True)
class Purpose:
    """What recordings are analysed for.

    Parameters
    ----------
    name : str, optional
        One of `PURPOSES`; None where nobody declares any.
    exemption : str, optional
        One of `EXEMPTIONS`, for a purpose in `FORBIDDEN` alone.

    Raises
    ------
    ConfigError
        If a name is unknown, a forbidden purpose comes without an exemption, or an exemption without such a purpose.

    References
    ----------
    Regulation (EU) 2024/1689 (AI Act), Art. 5(1)(f), which applies since 2 February 2025.

    Examples
    --------
    >>> Purpose("research").to_dict()
    {'purpose': 'research', 'exemption': None}
    >>> Purpose("work", "safety").exemption
    'safety'
    >>> Purpose("work")
    Traceback (most recent call last):
    ...
    affuse.errors.ConfigError: inferring the emotions of people at work is forbidden in the European Union, except for \
medical or safety reasons (Regulation (EU) 2024/1689, Art. 5(1)(f)); where one of them holds, state it: --exemption \
medical or --exemption safety
    """

    name: str | None = None
    exemption: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None and self.name not in PURPOSES:
            raise ConfigError(f"unknown purpose {self.name!r}; known: {', '.join(PURPOSES)}")
        if self.exemption is not None and self.exemption not in EXEMPTIONS:
            raise ConfigError(f"unknown exemption {self.exemption!r}; known: {', '.join(EXEMPTIONS)}")
        if self.exemption is not None and self.name not in FORBIDDEN:
            raise ConfigError(
                f"--exemption is about the purposes {' and '.join(FORBIDDEN)}; got the purpose {self.name or 'none'}"
            )
        if self.name in FORBIDDEN and self.exemption is None:
            where = "at work" if self.name == "work" else "in education"
            raise ConfigError(
                f"inferring the emotions of people {where} is forbidden in the European Union, except for medical or "
                "safety reasons (Regulation (EU) 2024/1689, Art. 5(1)(f)); where one of them holds, state it: "
                "--exemption medical or --exemption safety"
            )

    def to_dict(self) -> dict[str, str | None]:
        """The purpose as it stands in the settings of an analysis.

        Returns
        -------
        dict
            "purpose" and "exemption"; None where nothing is declared.
        """
        return {"purpose": self.name, "exemption": self.exemption}
