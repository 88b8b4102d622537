"""How long a client may hold a connection without a whole request, and how many connections there may be.

A server has as many descriptors as the system grants it, and each connection takes one. uvicorn gives a request all the
time it wants, so a thousand clients that never finish the first line would silence it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
import socket
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from affuse.service.settings import Settings

__all__ = ["ConnectionLimits", "LimitedProtocol", "LimitedServer", "limited_protocol"]

_QUEUE = 1024  # connections that the system keeps until they are accepted; beyond them a client tries again after 1 s
_AT_ONCE = 16  # connections that the event loop accepts before it looks at them: they take descriptors uncounted
_OTHER_DESCRIPTORS = 64 + 2 * _AT_ONCE  # store, uploads, workers' pipes; what is being accepted and closed
_LEAST = 8
_SHARE_OF_ONE = 4  # one address may hold a quarter of the connections


@dataclass(frozen=True)
class ConnectionLimits:
    """What one server allows its clients.

    Parameters
    ----------
    head : float
        Seconds for the whole head of a request, from the connection or from the end of the answer before.
    pause : float
        Seconds without a byte of a body that has begun, or without room for more of an answer.
    total : int
        Connections at a time.
    each : int
        Connections at a time of one address that is not a trusted proxy's.
    proxies : tuple of str
        Addresses and networks of trusted proxies, which speak for many clients.

    Examples
    --------
    >>> ConnectionLimits(head=10.0, pause=20.0, total=100, each=25).is_proxy("127.0.0.1")
    False
    """

    head: float
    pause: float
    total: int
    each: int
    proxies: tuple[str, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> ConnectionLimits:
        """Limits of a service: half of the descriptors of this process at most, so that files can be opened still.

        Parameters
        ----------
        settings : Settings

        Returns
        -------
        ConnectionLimits
        """
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        total = settings.max_connections
        if descriptors != resource.RLIM_INFINITY:
            total = min(total, max(_LEAST, (descriptors - _OTHER_DESCRIPTORS) // 2))
        each = max(_LEAST, total // _SHARE_OF_ONE)
        return cls(settings.head_seconds, settings.upload_pause, total, each, settings.trusted_proxies)

    def is_proxy(self, address: str) -> bool:
        """Whether an address is that of a trusted proxy.

        Parameters
        ----------
        address : str

        Returns
        -------
        bool
        """
        try:
            place = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(place in ipaddress.ip_network(proxy) for proxy in self.proxies)


class _Register:
    """The open connections of a server, and which of them wait for their client, the longest waiting first."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self.open: set[LimitedProtocol] = set()
        self.by_address: Counter[str] = Counter()
        self.heads: dict[LimitedProtocol, None] = {}
        self.stalled: dict[LimitedProtocol, None] = {}  # with a body that is not whole, or an answer that is not read

    def admit(self, new: LimitedProtocol) -> None:
        """Count a new connection, and close another or itself where there are too many."""
        self.open.add(new)
        self.by_address[new.address] += 1
        crowded = self.by_address[new.address] > self.limits.each and not self.limits.is_proxy(new.address)
        if crowded or len(self.open) > self.limits.total:
            (self._longest_waiting(new.address if crowded else None) or new).drop()

    def _longest_waiting(self, address: str | None) -> LimitedProtocol | None:
        for waiting in (self.heads, self.stalled):
            for other in waiting:
                if address is None or other.address == address:
                    return other
        return None

    def wait(self, connection: LimitedProtocol, for_head: bool) -> None:
        self.settle(connection)
        (self.heads if for_head else self.stalled)[connection] = None

    def settle(self, connection: LimitedProtocol) -> None:
        self.heads.pop(connection, None)
        self.stalled.pop(connection, None)

    def release(self, connection: LimitedProtocol) -> None:
        self.settle(connection)
        if connection in self.open:
            self.open.discard(connection)
            self.by_address[connection.address] -= 1
            if not self.by_address[connection.address]:
                del self.by_address[connection.address]


class LimitedProtocol(H11Protocol):
    """A connection that is closed where its client neither finishes a request nor takes the answer in time.

    WebSockets leave it when their handshake has come; the service limits those by their number.
    """

    register: ClassVar[_Register]
    address = ""
    _deadline: asyncio.TimerHandle | None = None
    _waits_for_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the head of a request."""
        super().connection_made(transport)
        self.address = self.client[0] if self.client else ""
        self._wait(for_head=True)
        self.register.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes, and look what is still missing."""
        super().data_received(data)
        self._review()

    def on_response_complete(self) -> None:
        """Begin to wait for the head of the next request, unless that is there already."""
        super().on_response_complete()
        if not self.transport.is_closing():
            self._waits_for_head = False  # its time begins anew
            self._review()

    def handle_websocket_upgrade(self, event: Any) -> None:
        """Hand the connection over."""
        self._leave()
        super().handle_websocket_upgrade(event)

    def pause_writing(self) -> None:
        """Wait for a client that does not take its answer."""
        super().pause_writing()
        if self in self.register.open:
            self._wait(for_head=False)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._review()

    def drop(self) -> None:
        """Close the connection at once."""
        self._leave()
        self.transport.abort()

    def _review(self) -> None:
        if self not in self.register.open or self.flow.write_paused:  # whoever sends more must still take its answer
            return
        if self.cycle is None or self.cycle.response_complete:
            if not self._waits_for_head:  # bytes of a head that is not whole give no more time
                self._wait(for_head=True)
        elif self.cycle.more_body:
            self._wait(for_head=False)
        else:
            self._settle()

    def _wait(self, for_head: bool) -> None:
        self._settle()
        self._waits_for_head = for_head
        limits = self.register.limits
        self.register.wait(self, for_head)
        self._deadline = self.loop.call_later(limits.head if for_head else limits.pause, self._expire)

    def _settle(self) -> None:
        self._waits_for_head = False
        self.register.settle(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _leave(self) -> None:
        self._settle()
        self.register.release(self)

    def _expire(self) -> None:
        if self.flow.read_paused and not self.flow.write_paused:
            self._wait(for_head=False)  # it is the service that does not take the body yet
        else:
            self.drop()


def limited_protocol(limits: ConnectionLimits) -> type[LimitedProtocol]:
    """The protocol of one server, whose connections are counted together.

    Parameters
    ----------
    limits : ConnectionLimits
        What it allows.

    Returns
    -------
    type
        For ``uvicorn.Config(http=...)``.
    """
    return type("ServerProtocol", (LimitedProtocol,), {"register": _Register(limits)})


class LimitedServer(uvicorn.Server):
    """A server that accepts few connections before it looks at them, while the system keeps many waiting."""

    def __init__(self, config: uvicorn.Config) -> None:
        config.backlog = _AT_ONCE
        super().__init__(config)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        for listener in sockets or []:
            listener.listen(_QUEUE)  # the event loop has set it to the few
