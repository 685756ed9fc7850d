# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Hands running processes to systemd, each in a unit of its own: a scope, systemd.scope(5).

A service would start the process too.  Measured with 500 resolvers that takes 12 ms of the processors for each with
systemd 252, and 20 ms with 257; starting it here takes 4.5 ms and handing it over 3.3 ms
(tests/benchmarks/test_supervised_resolvers.py).  No program of systemd's hands over a process that runs already, so
systemd is asked over the socket that systemctl uses too, by messages of D-Bus
(dbus.freedesktop.org/doc/dbus-specification.html).  Root alone reaches it there.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Optional, Union

from ..plan.records import dataclass
from .systemd import is_running

_SOCKET = "/run/systemd/private"
_MANAGER = "org.freedesktop.systemd1.Manager"
_UNKNOWN_PROPERTY = "org.freedesktop.DBus.Error.PropertyReadOnly"
"""What systemd answers to a property that it does not know, too."""
_SINCE_249 = ("OnSuccess", "OnFailure")
"""What a scope starts when it ends: before systemd 249 one has no such property, and is taken over without."""
_PATIENCE_S = 30.0
"""How long it may say nothing at all."""
_LARGEST = 1 << 20
_ERROR, _SIGNAL = 3, 4
_OVER = "JobRemoved"
_INTERFACE, _MEMBER, _ERROR_NAME, _ANSWERED = 2, 3, 4, 5
_DONE = "done"
_OF_SYSTEMD = re.compile(r"^(?:0:|[0-9]+:name=systemd):(?P<path>.*)$", re.MULTILINE)

Value = Union[str, int, Sequence[str], Sequence[int]]


class ScopeError(Exception):
    """systemd did not take a process over; the message says which unit, and why."""

    def __init__(self, message: str, name: str = "") -> None:
        """``name`` is that of the error on the bus, if systemd has answered with one."""
        super().__init__(message)
        self.name = name


@dataclass(frozen=True)
class Scope:
    """A unit for a process that runs."""

    name: str
    """``something.scope``."""
    pid: int
    properties: Sequence[tuple[str, str, Value]]
    """Name, D-Bus signature (``s``, ``t``, ``as``) and value of each."""


def unit_of(pid: int) -> str:
    """The unit of systemd's that a process is in, by its cgroup; "" if it has ended or is in none."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
        paths = [match["path"] for match in _OF_SYSTEMD.finditer(stream.read())]
        return next((name for path in paths if (name := os.path.basename(path))), "")
    return ""


class Handover:
    """Puts processes into scopes.  A context manager; what systemd is asked for, it does while others are started."""

    def __init__(self) -> None:
        self._asked: list[Scope] = []
        self._connection: Optional[_Connection] = None

    def __enter__(self) -> Handover:
        return self

    def __exit__(self, *_error: Any) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, scopes: Sequence[Scope]) -> None:
        """Ask for scopes.  Raises ScopeError."""
        with _in_words():
            for scope in scopes:
                self._connection = self._connection or _Connection()
                self._asked.append(scope)
                self._connection.send(_call(len(self._asked), "StartTransientUnit", "ssa(sv)a(sa(sv))", _body(scope)))

    def finish(self) -> None:
        """Wait until each process is in its scope.  Raises ScopeError."""
        try:
            self._await()
        except ScopeError as error:
            if error.name != _UNKNOWN_PROPERTY:
                raise
            with Handover() as again:
                again.ask([_as_before_249(scope) for scope in self._asked])
                again._await()

    def _await(self) -> None:
        if self._connection is None:
            return
        waiting = {scope.name for scope in self._asked}
        with _in_words():
            for fields, kind, body in self._connection.messages():
                if kind == _ERROR and 0 < fields.get(_ANSWERED, 0) <= len(self._asked):
                    reason = _Reader(body).text() if body else str(fields.get(_ERROR_NAME))
                    unit = self._asked[fields[_ANSWERED] - 1].name
                    raise ScopeError(f"systemd did not take over {unit}: {reason}", str(fields.get(_ERROR_NAME, "")))
                if kind == _SIGNAL and (fields.get(_INTERFACE), fields.get(_MEMBER)) == (_MANAGER, _OVER):
                    reader = _Reader(body)
                    _job, _path, name, result = reader.number(), reader.text(), reader.text(), reader.text()
                    if name in waiting and result != _DONE:
                        raise ScopeError(f"systemd did not take over {name}: {result}")
                    waiting.discard(name)
                if not waiting:
                    return


def guarded(
    name: str, pid: int, description: str, memory: int, then: str, more: Sequence[tuple[str, str, Value]] = ()
) -> Scope:
    """A scope for a process that is to run all the time.

    ``name`` is the beginning of the scope's, ``memory`` the limit in octets, ``then`` the unit that is started when the
    process has ended.
    """
    return Scope(
        f"cnm-{name}-{pid}.scope",
        pid,
        (
            ("Description", "s", description),
            ("CollectMode", "s", "inactive-or-failed"),
            ("MemoryMax", "t", memory),
            *more,
            ("OnSuccess", "as", [then]),
            ("OnFailure", "as", [then]),
        ),
    )


def hand_over(scope: Scope) -> None:
    """Have systemd, where it runs, look after one process, whatever ends the session or unit that started it.

    Raises ScopeError.
    """
    if not is_running():
        return
    with Handover() as handover:
        handover.ask([scope])
        handover.finish()


def _as_before_249(scope: Scope) -> Scope:
    return replace(scope, properties=[item for item in scope.properties if item[0] not in _SINCE_249])


@contextlib.contextmanager
def _in_words() -> Iterator[None]:
    try:
        yield
    except (struct.error, ValueError, IndexError) as error:
        raise ScopeError("what systemd answers is not understood: set cnm_boot: false") from error
    except OSError as error:
        raise ScopeError(f"systemd does not answer at {_SOCKET} ({error}): set cnm_boot: false") from error


class _Connection:
    """A connection to systemd, which tells every such connection of every job."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._read = b""
        try:
            self._socket.settimeout(_PATIENCE_S)
            self._socket.connect(_SOCKET)
            self.send(b"\0AUTH EXTERNAL 30\r\nBEGIN\r\n")  # 30: the user 0, in hex
            if not self._until(b"\r\n").startswith(b"OK "):
                raise OSError("it does not let this process in")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def messages(self) -> Iterator[tuple[dict[int, Any], int, bytes]]:
        """Header fields by code, type and body of errors and of messages about jobs that are over."""
        while True:
            head = self._take(16)
            length, _serial, header = struct.unpack("<III", head[4:])
            if head[:1] != b"l" or length + header > _LARGEST:
                raise ValueError("not little endian, or too large")
            rest = self._take(_padded(header, 8) + length)
            if head[1] == _ERROR or _OVER.encode() in rest:
                yield _Reader(rest).fields(header), head[1], rest[_padded(header, 8) :]

    def _take(self, count: int) -> bytes:
        while len(self._read) < count:
            self._receive()
        result, self._read = self._read[:count], self._read[count:]
        return result

    def _until(self, end: bytes) -> bytes:
        while end not in self._read:
            self._receive()
        result, _end, self._read = self._read.partition(end)
        return result

    def _receive(self) -> None:
        more = self._socket.recv(1 << 16)
        if not more:
            raise OSError("it has closed the connection")
        self._read += more


def _padded(length: int, to: int) -> int:
    return length + -length % to


class _Writer:
    """A D-Bus message's values, in little endian."""

    def __init__(self) -> None:
        self.data = b""

    def align(self, to: int) -> None:
        self.data = self.data.ljust(_padded(len(self.data), to), b"\0")

    def number(self, value: int, form: str = "<I") -> None:
        self.align(struct.calcsize(form))
        self.data += struct.pack(form, value)

    def text(self, value: str) -> None:
        octets = value.encode()
        self.number(len(octets))
        self.data += octets + b"\0"

    def signature(self, value: str) -> None:
        self.data += bytes([len(value)]) + value.encode() + b"\0"

    @contextlib.contextmanager
    def array(self, alignment: int) -> Iterator[None]:
        """Around its elements, whose length stands before them."""
        self.number(0)
        at = len(self.data)
        self.align(alignment)
        first = len(self.data)
        yield
        length = struct.pack("<I", len(self.data) - first)
        self.data = self.data[: at - 4] + length + self.data[at:]

    def variant(self, signature: str, value: Any) -> None:
        self.signature(signature)
        if signature.startswith("a"):
            with self.array(4):
                for item in value:
                    self.text(item) if signature == "as" else self.number(item)
        elif signature in "so":
            self.text(value)
        elif signature == "g":
            self.signature(value)
        else:
            self.number(value, "<Q" if signature == "t" else "<I")


def _body(scope: Scope) -> bytes:
    """Name, mode, properties, and no other units."""
    writer = _Writer()
    writer.text(scope.name)
    writer.text("fail")
    with writer.array(8):
        for name, signature, value in (("PIDs", "au", [scope.pid]), *scope.properties):
            writer.align(8)
            writer.text(name)
            writer.variant(signature, value)
    with writer.array(8):
        pass
    return writer.data


def _call(serial: int, member: str, signature: str, body: bytes) -> bytes:
    """A method call of systemd's manager."""
    writer = _Writer()
    writer.data = struct.pack("<cBBBII", b"l", 1, 0, 1, len(body), serial)
    with writer.array(8):
        for code, form, value in (
            (1, "o", "/org/freedesktop/systemd1"),
            (_INTERFACE, "s", _MANAGER),
            (_MEMBER, "s", member),
            (6, "s", "org.freedesktop.systemd1"),
            (8, "g", signature),
        ):
            writer.align(8)
            writer.data += bytes([code])
            writer.variant(form, value)
    writer.align(8)
    return writer.data + body


class _Reader:
    """Reads values of a message.  Raises struct.error and IndexError if it is too short."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self) -> int:
        self._at = _padded(self._at, 4)
        (result,) = struct.unpack_from("<I", self._data, self._at)
        self._at += 4
        return int(result)

    def text(self) -> str:
        length = self.number()
        result = self._data[self._at : self._at + length].decode(errors="replace")
        self._at += length + 1
        return result

    def _signature(self) -> str:
        length = self._data[self._at]
        result = self._data[self._at + 1 : self._at + 1 + length].decode("ascii", errors="replace")
        self._at += length + 2
        return result

    def fields(self, length: int) -> dict[int, Any]:
        """The header's fields by code; texts and numbers alone."""
        result: dict[int, Any] = {}
        while self._at < length:
            self._at = _padded(self._at, 8)
            code = self._data[self._at]
            self._at += 1
            kind = self._signature()
            value: Optional[Any] = (
                self._signature() if kind == "g" else self.text() if kind in ("s", "o") else self.number()
            )
            result[code] = value
        return result
