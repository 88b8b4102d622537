"""What a process may reach, laid down in the kernel before it reads anything of a stranger's.

Three means, each where the system has it: a network of its own that leads nowhere (user namespaces, see
`affuse.service.worker.without_network`), Landlock for files and TCP, and seccomp for sockets and for looking into other
processes. None of them needs root, and none can be taken off again.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["Confinement", "landlock_version", "seccomp_is_known", "system_paths"]

_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER = 38, 22, 2  # prctl(2)

# include/uapi/linux/landlock.h; the numbers of the calls are the same on all machines.
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_EXECUTE, _WRITE, _READ, _READ_DIR = 1, 2, 4, 8
_FILES_BY_VERSION = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14}  # REFER with 2, TRUNCATE with 3
_OF_FILES = _EXECUTE | _WRITE | _READ | 1 << 14  # rights that a rule about a file may have
_TCP = 0b11  # bind and connect, since version 4
_SCOPES = 0b11  # abstract Unix sockets and signals of processes outside, since version 6

# include/uapi/linux/{seccomp,filter,audit}.h
_LOAD, _EQUAL, _ABOVE, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _MACHINE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data
_ALLOW, _DENY = 0x7FFF0000, 0x00050000
_MACHINES = {
    "x86_64": (0xC000003E, 41, (101, 310, 311, 425, 438)),
    "aarch64": (0xC00000B7, 198, (117, 270, 271, 425, 438)),
}
"""By machine: its number for audit, socket, and what looks into processes or opens sockets in other ways: ptrace,
process_vm_readv, process_vm_writev, io_uring_setup and pidfd_getfd."""

# Of /proc nothing about other processes, whose environment may hold secrets.
_OF_PROC = tuple(f"/proc/{name}" for name in ("self", "cpuinfo", "meminfo", "stat", "sys", "filesystems", "driver"))

_X32 = 0x40000000  # calls of another kind on the same machine
_EACCES = 13


def landlock_version() -> int:
    """The version of Landlock that this kernel has; 0 where it has none.

    Returns
    -------
    int

    Examples
    --------
    >>> landlock_version() >= 0
    True
    """
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(_libc().syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION_FLAG)))


@cache
def seccomp_is_known() -> bool:
    """Whether system calls can be filtered on this machine.

    Returns
    -------
    bool

    Examples
    --------
    >>> seccomp_is_known() in (True, False)
    True
    """
    if not sys.platform.startswith("linux") or platform.machine() not in _MACHINES or sys.maxsize < 2**32:
        return False
    return "\nSeccomp:" in _text("/proc/self/status")


@dataclass(frozen=True)
class Confinement:
    """The files and the network that a process may reach.

    Parameters
    ----------
    write : tuple of str
        Folders in which it may do everything.
    read : tuple of str
        Files and folders that it may read and run.
    devices : tuple of str
        Files and folders that it may read and write, but not add to.
    network : bool
        Whether it may open connections.
    local : bool
        Whether it may open local sockets, by which services of the machine can be spoken to; always with ``network``.

    Examples
    --------
    >>> Confinement(write=("staging",), read=("/usr",)).network
    False
    """

    write: tuple[str, ...] = ()
    read: tuple[str, ...] = ()
    devices: tuple[str, ...] = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
    network: bool = False
    local: bool = True

    def enter(self) -> None:
        """Confine this thread, and the threads and processes that it starts from now on, for good.

        Means that this kernel lacks are left out.

        Raises
        ------
        OSError
            If the kernel has Landlock or seccomp, and refuses.
        """
        if landlock_version() or seccomp_is_known():
            _call(_libc().prctl(_NO_NEW_PRIVS, 1, 0, 0, 0))
        if landlock_version():
            self._restrict_files(landlock_version())
        if not self.network and seccomp_is_known():
            _filter_calls(self.local)

    def _restrict_files(self, version: int) -> None:
        rights = sum(own for since, own in _FILES_BY_VERSION.items() if since <= version)
        tcp = _TCP if version >= 4 and not self.network else 0
        attributes = struct.pack("<QQQ", rights, tcp, _SCOPES if version >= 6 else 0)
        size = 8 if version < 4 else 16 if version < 6 else 24
        ruleset = _call(_libc().syscall(_CREATE, attributes, ctypes.c_size_t(size), 0))
        try:
            for paths, allowed in (
                (self.write, rights),
                (self.read, _READ | _READ_DIR | _EXECUTE),
                (self.devices, _READ | _READ_DIR | _WRITE),
            ):
                for path in paths:
                    _allow(ruleset, path, allowed & rights)
            _call(_libc().syscall(_RESTRICT, ruleset, 0))
        finally:
            os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there cannot be read
    try:
        rights = rights if Path(path).is_dir() else rights & _OF_FILES
        rule = struct.pack("<Qi", rights, descriptor)
        _call(_libc().syscall(_ADD, ruleset, _PATH_BENEATH, rule, 0))
    finally:
        os.close(descriptor)


def _filter_calls(local: bool) -> None:
    """Refuse sockets, unless they are local and may be, other kinds of calls, and calls that look into processes."""
    machine, open_socket, others = _MACHINES[platform.machine()]
    program = [
        (_LOAD, 0, 0, _MACHINE),
        (_EQUAL, 1, 0, machine),
        (_RETURN, 0, 0, _DENY | _EACCES),
        (_LOAD, 0, 0, _NUMBER),
        (_ABOVE, 0, 1, _X32),
        (_RETURN, 0, 0, _DENY | _EACCES),
    ]
    for number in others if local else (*others, open_socket):
        program += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _DENY | _EACCES)]
    program += [
        (_EQUAL, 0, 3, open_socket),
        (_LOAD, 0, 0, _FIRST),
        (_EQUAL, 1, 0, int(socket.AF_UNIX)),
        (_RETURN, 0, 0, _DENY | _EACCES),
        (_RETURN, 0, 0, _ALLOW),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *line) for line in program))
    head = struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(code))  # struct sock_fprog
    _call(_libc().prctl(_SET_SECCOMP, _FILTER, head, 0, 0))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


def system_paths(more: Iterable[str | Path], without: Path) -> tuple[str, ...]:
    """Files and folders that Python, its libraries and the drivers of devices lie in.

    Parameters
    ----------
    more : iterable of str or Path
        Others that a process needs.
    without : Path
        A folder that must not be among them, though one of them may hold it.

    Returns
    -------
    tuple of str

    Examples
    --------
    >>> "/usr" in system_paths([], Path("/srv/jobs"))
    True
    >>> "/usr" in system_paths([], Path("/usr/jobs"))
    False
    """
    python = [sys.prefix, sys.base_prefix, sys.executable, *_python_paths(), str(Path(__file__).parent.parent)]
    system = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix", "/sys", *_OF_PROC]
    wanted = [Path(p).absolute() for p in [*python, *system, *more] if p]
    refused = without.absolute()
    found = [str(each) for path in wanted for each in _around(path, refused)]
    return tuple(dict.fromkeys(found))


@cache
def _python_paths() -> tuple[str, ...]:
    """Where an interpreter like that of a job looks for modules.

    Not where this process does: it may also look in the folder that it was started in, which can hold anything.
    """
    command = [sys.executable, "-P", "-c", "import json, sys; print(json.dumps(sys.path))"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return tuple(json.loads(told.stdout.splitlines()[-1]))


def _around(path: Path, refused: Path) -> Iterator[Path]:
    """A path, or what it holds beside one that is refused."""
    if path == refused or refused in path.parents:
        return
    if path not in refused.parents:
        yield path
        return
    with suppress(OSError):
        for inside in path.iterdir():
            yield from _around(inside, refused)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
