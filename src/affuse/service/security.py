"""Who may ask: tokens, hosts and origins; and the headers that every answer carries."""

from __future__ import annotations

import hmac
import logging
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from affuse.service.settings import Settings

__all__ = ["SUBPROTOCOL", "Guard"]

_LOG = logging.getLogger("affuse.service")

SUBPROTOCOL = "affuse.live.v1"
"""What a live client asks for; ``token.SECRET`` beside it brings the token, since browsers cannot set headers there."""

# A page and its parts hold nothing secret, and the page is where a person enters the token.
_OPEN = ("/", "/health")
_OPEN_FOLDER = "/static/"

_PORTS = {"http": 80, "https": 443}
_HTTP = {"http": "http", "https": "https", "ws": "http", "wss": "https"}  # what a page was loaded by

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
        "connect-src 'self'; worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """Middleware that refuses foreign hosts, foreign origins and wrong tokens before anything else sees a request.

    Pages of other sites cannot use a visitor's access (no CORS, and an Origin that is not ours is refused, also for
    WebSockets), and a foreign name that resolves to this machine is refused by its Host (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app, self.settings = app, settings
        self.hosts = {"localhost", "127.0.0.1", "::1", settings.host, *settings.allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal is None:
            await self._admit(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1]})
        else:
            headers = {"WWW-Authenticate": "Bearer"} if refusal[0] == 401 else {}
            answer = JSONResponse({"detail": refusal[1]}, refusal[0], headers)
            await answer(scope, receive, _with_headers(send))

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on; a defect of ours is told in an answer that carries the headers as well."""
        begun = False

        async def noting(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception as error:
            if begun or scope["type"] != "http":
                raise
            _LOG.exception("a request failed")
            sentence = f"an internal error ({type(error).__name__}); the log tells more"
            await JSONResponse({"detail": sentence}, 500)(scope, receive, send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # Listening everywhere means being asked by any name; the token is what protects then.
        if self.settings.host not in ("0.0.0.0", "::") and _name(host) not in self.hosts:
            return 400, "unknown host; name it with --allow-host"
        origin = headers.get("origin")
        if origin is not None and not _same_place(origin, f"{_HTTP.get(scope['scheme'])}://{host}"):
            return (
                403,
                "requests from other sites are refused; a proxy must pass on Host and X-Forwarded-Proto",
            )
        if not self._is_open(scope) and not self._has_token(headers):
            return 401, "a valid token is needed: Authorization: Bearer TOKEN"
        return None

    def _is_open(self, scope: Scope) -> bool:
        return scope["type"] == "http" and (scope["path"] in _OPEN or scope["path"].startswith(_OPEN_FOLDER))

    def _has_token(self, headers: Headers) -> bool:
        if self.settings.token is None:
            return True
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        offered = [secret.strip()] if scheme.lower() == "bearer" else []
        protocols = headers.get("sec-websocket-protocol", "").split(",")
        offered += [p.strip().removeprefix("token.") for p in protocols if p.strip().startswith("token.")]
        return any(hmac.compare_digest(o.encode(), self.settings.token.encode()) for o in offered)


def _same_place(one: str, other: str) -> bool:
    place = _place(one)
    return place is not None and place == _place(other)


def _place(origin: str) -> tuple[str, str, int] | None:
    """Scheme, name and port of an origin (RFC 6454); None for what is none."""
    try:
        parts = urlsplit(origin)
        port = parts.port or _PORTS[parts.scheme]
    except (ValueError, KeyError):
        return None
    bare = parts.hostname and not (parts.path or parts.query or parts.fragment or parts.username is not None)
    return (parts.scheme, parts.hostname, port) if bare and parts.hostname else None


def _name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending
