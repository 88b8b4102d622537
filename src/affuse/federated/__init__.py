"""Learning together from recordings that stay with their owners (federated learning)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from affuse.lazy import lazy_names

if TYPE_CHECKING:
    from affuse.federated.certificates import ClientKey, make_certificates
    from affuse.federated.coordinator import Outcome
    from affuse.federated.data import Rows, read_rows
    from affuse.federated.flower import Needs
    from affuse.federated.network import Tls, join, serve
    from affuse.federated.participant import Participant
    from affuse.federated.plan import Plan
    from affuse.federated.simulation import simulate

__all__ = [
    "ClientKey",
    "Needs",
    "Outcome",
    "Participant",
    "Plan",
    "Rows",
    "Tls",
    "join",
    "make_certificates",
    "read_rows",
    "serve",
    "simulate",
]

# Flower and gRPC take a second to load, and are there only with the extra.
_HOMES = {
    "ClientKey": ".certificates",
    "Needs": ".flower",
    "Outcome": ".coordinator",
    "Participant": ".participant",
    "Plan": ".plan",
    "Rows": ".data",
    "Tls": ".network",
    "join": ".network",
    "make_certificates": ".certificates",
    "read_rows": ".data",
    "serve": ".network",
    "simulate": ".simulation",
}

__getattr__, __dir__ = lazy_names(__name__, _HOMES, "federated")
