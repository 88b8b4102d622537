"""Certificates and keys for a trial: an authority, a server's certificate, and a key for every client."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from affuse.errors import ConfigError, OutputError
from affuse.lazy import needs_extra

__all__ = ["ClientKey", "make_certificates", "read_trusted", "verified"]

_CONTEXT = b"affuse federate: "  # so that a signature is good for nothing else
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ClientKey:
    """The private key by which a client proves its name.

    Parameters
    ----------
    path : Path
        As `make_certificates` writes it: an Ed25519 key in PEM.

    Raises
    ------
    ConfigError
        If the file holds no such key.

    Examples
    --------
    >>> made = make_certificates(Path("trial"), ["localhost"], ["one"])
    >>> signed = ClientKey(Path("trial/clients/one.key")).sign(b"nonce", "one")
    >>> trusted = read_trusted(Path("trial/trusted"))
    >>> verified(trusted, "one", b"nonce", signed), verified(trusted, "one", b"another", signed)
    (True, False)
    """

    def __init__(self, path: Path) -> None:
        with needs_extra("federated"):
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        try:
            key = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{path} holds no private key that can be read: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{path} holds another kind of key; affuse federate certificates makes Ed25519 keys")
        self._key = key

    def sign(self, nonce: bytes, name: str) -> bytes:
        """Prove the name to a server that drew a nonce.

        Parameters
        ----------
        nonce : bytes
        name : str

        Returns
        -------
        bytes
        """
        return bytes(self._key.sign(_CONTEXT + nonce + name.encode()))


def make_certificates(folder: Path, hosts: Sequence[str], clients: Sequence[str], days: int = 30) -> list[Path]:
    """Make all that a trial over TLS needs.

    Parameters
    ----------
    folder : Path
        New or empty.
    hosts : sequence of str
        Names and addresses by which clients reach the server.
    clients : sequence of str
        Names of the clients.
    days : int
        How long the certificates are good for.

    Returns
    -------
    list of Path
        ``ca.pem`` for everybody, ``server.pem`` and ``server.key`` for the server, ``clients/NAME.key`` for each
        client, and ``trusted/NAME.pub``, by which the server knows them. The authority's own key is not kept.

    Raises
    ------
    ConfigError
        If a name is not one for a file.
    OutputError
        If the folder is not empty, or cannot be written.

    Examples
    --------
    >>> [path.name for path in make_certificates(Path("new"), ["localhost", "127.0.0.1"], ["one"])]
    ['ca.pem', 'server.pem', 'server.key', 'one.key', 'one.pub']
    """
    with needs_extra("federated"):
        from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    wrong = [name for name in clients if not _NAME.fullmatch(name)]
    if wrong or len(set(clients)) < len(clients) or not clients or not hosts or days < 1:
        what = f"; got {wrong[0]!r}" if wrong else ""
        raise ConfigError(f"a trial needs hosts, days and different client names of letters, digits, . _ and -{what}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} is there and not empty; name another folder by --out")
    authority, own = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    root = _certificate("affuse trial authority", authority.public_key(), authority, None, [], days)
    leaf = _certificate(hosts[0], own.public_key(), authority, root.subject, hosts, days)
    files = {
        folder / "ca.pem": (_pem(root), 0o644),
        folder / "server.pem": (_pem(leaf), 0o644),
        folder / "server.key": (_private(own), 0o600),
    }
    for name in clients:
        key = Ed25519PrivateKey.generate()
        files[folder / "clients" / f"{name}.key"] = (_private(key), 0o600)
        files[folder / "trusted" / f"{name}.pub"] = (_public(key.public_key()), 0o644)
    for path, (content, mode) in files.items():
        _write(path, content, mode)
    return list(files)


def read_trusted(folder: Path) -> dict[str, Any]:
    """Public keys of clients by name.

    Parameters
    ----------
    folder : Path
        Files NAME.pub.

    Returns
    -------
    dict

    Raises
    ------
    ConfigError
        If there are none, or one is broken.
    """
    with needs_extra("federated"):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    found = {}
    for path in sorted(folder.glob("*.pub")):
        try:
            key = load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} holds no public key that can be read: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise ConfigError(f"{path} holds another kind of key; affuse federate certificates makes Ed25519 keys")
        found[path.stem] = key
    if not found:
        raise ConfigError(f"{folder} holds no public key of a client (NAME.pub)")
    return found


def verified(trusted: dict[str, Any], name: str, nonce: bytes, signature: bytes) -> bool:
    """Whether a client proved its name.

    Parameters
    ----------
    trusted : dict
        Of `read_trusted`.
    name : str
    nonce : bytes
        That the server drew.
    signature : bytes

    Returns
    -------
    bool
    """
    from cryptography.exceptions import InvalidSignature

    if name not in trusted:
        return False
    try:
        trusted[name].verify(signature, _CONTEXT + nonce + name.encode())
    except InvalidSignature:
        return False
    return True


def _certificate(name: str, key: Any, signer: Any, issuer: Any, hosts: Sequence[str], days: int) -> Any:
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.x509.oid import NameOID

    own = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(own)
        .issuer_name(issuer or own)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return builder.sign(signer, SHA256())


def _host(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.PEM))


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _public(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({(error.strerror or str(error)).lower()})") from error
