"""The server and the clients as processes of their own, over TLS."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affuse.errors import AffuseError, ConfigError
from affuse.federated.certificates import ClientKey, read_trusted
from affuse.federated.coordinator import Outcome, claim, coordinate
from affuse.federated.flower import FlowerClient, FlowerFederation, Needs, Pool
from affuse.federated.participant import Participant
from affuse.federated.plan import Plan

import flwr.compat.client.app as flower_client  # isort: skip - after affuse.federated.flower, which silences it
import grpc  # isort: skip
from flwr.proto.transport_pb2_grpc import add_FlowerServiceServicer_to_server  # isort: skip
from flwr.server.superlink.fleet.grpc_bidi.flower_service_servicer import FlowerServiceServicer  # isort: skip
from flwr.supercore.grpc import generic_create_grpc_server  # isort: skip

__all__ = ["Tls", "join", "serve"]

_PAUSE = 1.0  # seconds between two tries to reach the server


class Tls:
    """The server's certificate and key, and the authority that vouches for it.

    Parameters
    ----------
    certificate, key, authority : Path
        PEM files.

    Raises
    ------
    ConfigError
        If certificate and key do not belong together, or a file cannot be read.
    """

    def __init__(self, certificate: Path, key: Path, authority: Path) -> None:
        for path in (certificate, key, authority):
            if not path.is_file():
                raise ConfigError(f"{path} does not exist; affuse federate certificates makes all for a trial")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            ssl.create_default_context(cafile=str(authority))
        except ssl.SSLError as error:
            raise ConfigError(f"{certificate}, {key} and {authority} do not fit together: {error.reason}") from error
        self.files = (authority.read_bytes(), certificate.read_bytes(), key.read_bytes())


def serve(
    plan: Plan,
    out: Path,
    needs: Needs,
    address: str,
    tls: Tls | None,
    trusted: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Wait for clients, learn together with them, and write what came out.

    Parameters
    ----------
    plan : Plan
    out : Path
        Folder of the run, new or empty.
    needs : Needs
    address : str
        HOST:PORT to listen at; port 0 takes a free one, which the first line says.
    tls : Tls or None
        None only at addresses of this machine itself.
    trusted : Path, optional
        Folder of the clients' public keys; None lets everybody in who can reach the server.
    tell : callable
        Takes a line about how far it is.

    Returns
    -------
    Outcome

    Raises
    ------
    ConfigError
        If an option does not fit.
    AffuseError
        If too few clients are left, or their data do not go together.
    """
    host, port = split_address(address)
    if tls is None and not _is_own(host):
        raise ConfigError(
            f"without TLS the server listens at 127.0.0.1 only; got {host}: give --tls-cert and --tls-key"
        )
    claim(out)
    pool = Pool(None if trusted is None else read_trusted(trusted), tell)
    server = _server(pool, host, port, tls)
    try:
        return coordinate(plan, FlowerFederation(pool, needs), out, tell)
    finally:
        pool.close()
        server.stop(grace=1).wait()


def join(
    participant: Participant,
    address: str,
    authority: Path | None,
    key: ClientKey | None = None,
    wait: float = 60.0,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Plan, Any, float]:
    """Take part in a run until it ends.

    Parameters
    ----------
    participant : Participant
    address : str
        HOST:PORT of the server.
    authority : Path or None
        Certificate of the authority that vouches for the server; None only at addresses of this machine itself.
    key : ClientKey, optional
        Proves the participant's name.
    wait : float
        Seconds for which it tries to reach the server, also where the connection was lost.
    tell : callable
        Takes a line about how far it is.

    Returns
    -------
    tuple of Plan, Common and float
        What was learned, with its temperature.

    Raises
    ------
    ConfigError
        If there is no such authority, or no TLS to another machine.
    AffuseError
        If the server cannot be reached, is not the right one, or refuses.
    """
    host, port = split_address(address)
    if authority is None and not _is_own(host):
        raise ConfigError(f"{host} is another machine: give --tls-ca, the certificate of the authority that you trust")
    if authority is not None and not authority.is_file():
        raise ConfigError(f"{authority} does not exist; --tls-ca is the certificate of the authority that you trust")
    own = FlowerClient(participant, key)
    end = time.monotonic() + wait
    while participant.result is None:
        _reach(host, port, authority, end)
        tell(f"connected to {address}")
        try:
            flower_client.start_client_internal(
                server_address=address,
                node_config={},
                client=own,
                root_certificates=None if authority is None else authority.read_bytes(),
                insecure=authority is None,
            )
        except (grpc.RpcError, StopIteration):
            end = time.monotonic() + wait
        if participant.result is None:
            tell("the connection was lost; trying again")
            time.sleep(_PAUSE)
            if time.monotonic() > end:
                raise AffuseError(f"the server at {address} let go before the run was over")
    return participant.result


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT.

    Parameters
    ----------
    address : str

    Returns
    -------
    tuple of str and int

    Raises
    ------
    ConfigError
        If it is not of this form.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"a server's address is HOST:PORT, such as 127.0.0.1:8443; got {address!r}")
    return host.strip("[]"), int(port)


def _server(pool: Pool, host: str, port: int, tls: Tls | None) -> Any:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:  # Flower would end the process
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError(f"the server cannot listen at {where}: {why}; choose another --host or --port") from error
    server = generic_create_grpc_server(
        servicer_and_add_fn=(FlowerServiceServicer(pool), add_FlowerServiceServicer_to_server),
        server_address=where,
        certificates=None if tls is None else tls.files,
    )
    server.start()
    pool.tell(f"listening at {getattr(server, 'bound_address', where)}" + ("" if tls else ", without TLS"))
    return server


def _is_own(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reach(host: str, port: int, authority: Path | None, end: float) -> None:
    """Wait until a server answers that the authority vouches for. gRPC would only say that it is not available."""
    while True:
        try:
            with socket.create_connection((host, port), timeout=10) as plain:
                if authority is not None:
                    _shake_hands(plain, host, authority)
                return
        except ssl.SSLCertVerificationError as error:
            raise AffuseError(
                f"{host}:{port} shows a certificate that {authority} does not vouch for: {error.verify_message}"
            ) from error
        except ssl.SSLError as error:
            raise AffuseError(f"{host}:{port} does not speak TLS as this client does: {error.reason}") from error
        except OSError as error:
            if time.monotonic() > end:
                why = error.strerror or str(error)
                raise AffuseError(f"no server answers at {host}:{port} ({why.lower()})") from error
        time.sleep(min(_PAUSE, max(0.0, end - time.monotonic())))


def _shake_hands(plain: socket.socket, host: str, authority: Path) -> None:
    try:
        context = ssl.create_default_context(cafile=str(authority))
    except ssl.SSLError as error:
        raise ConfigError(f"{authority} holds no certificate that can be read: {error.reason}") from error
    context.set_alpn_protocols(["h2"])
    with context.wrap_socket(plain, server_hostname=host):
        return
