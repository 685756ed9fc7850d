# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Handing processes to systemd, where what answers is not as it should be; tests/systemd has systemd itself."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import scopes
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.scopes import Handover, Scope, ScopeError

SCOPE = Scope("a.scope", 7, (("Description", "s", "A"), ("MemoryMax", "t", 1), ("OnSuccess", "as", ["b.service"])))
WELCOME = b"OK 0123\r\n"


@contextlib.contextmanager
def answering(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """A socket that answers one connection after the other, and says nothing more; the list has what each has said."""
    said = [b"" for _answer in answers]
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen()

        def serve(at: int) -> None:
            connection, _address = listening.accept()
            with connection:
                said[at] = connection.recv(1 << 16)
                connection.sendall(answers[at])
                connection.shutdown(socket.SHUT_WR)
                if at + 1 < len(answers):
                    serve(at + 1)
                while more := connection.recv(1 << 16):
                    said[at] += more

        thread = threading.Thread(target=serve, args=(0,), daemon=True)
        thread.start()
        stack.callback(thread.join, 5)
        yield said


def message(kind: int, body: bytes, *fields: tuple[int, str, object]) -> bytes:
    """One of systemd's, with these header fields."""
    writer = scopes._Writer()
    writer.data = struct.pack("<cBBBII", b"l", kind, 0, 1, len(body), 1)
    with writer.array(8):
        for code, form, value in fields:
            writer.align(8)
            writer.data += bytes([code])
            writer.variant(form, value)
    writer.align(8)
    return writer.data + body


def job_over(unit: str) -> bytes:
    """The body of a signal: its number, path, unit and result."""
    writer = scopes._Writer()
    writer.number(1)
    for text in ("/job/1", unit, "done"):
        writer.text(text)
    return writer.data


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "has closed the connection"),
        (b"REJECTED\r\n", "does not let this process in"),
        (WELCOME, "has closed the connection"),
        (WELCOME + b"B" + bytes(15), "not understood"),
        (WELCOME + b"l\x03\0\x01" + b"\xff" * 12, "not understood"),
        (WELCOME + b"l\x03\0\x01" + bytes(4) + b"\x01\0\0\0" + b"\x08\0\0\0" + b"\x05\x01u\0\x01\0\0\0", "a.scope"),
        (WELCOME + b"l\x03\0\x01" + bytes(8) + b"\x03\0\0\0" + b"\x05\xff\xff" + bytes(5), "not understood"),
    ],
)
def test_an_answer_that_is_none_is_an_error_in_words(
    answer: bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "_SOCKET", str(tmp_path / "private"))
    with answering(tmp_path / "private", answer), pytest.raises(ScopeError, match=said), Handover() as handover:
        handover.ask([SCOPE])
        handover.finish()


def test_a_systemd_before_249_takes_a_process_over_without_what_it_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scopes, "_SOCKET", str(tmp_path / "private"))
    unknown = message(3, b"", (4, "s", "org.freedesktop.DBus.Error.PropertyReadOnly"), (5, "u", 1))
    done = message(4, job_over("a.scope"), (2, "s", "org.freedesktop.systemd1.Manager"), (3, "s", "JobRemoved"))
    with answering(tmp_path / "private", WELCOME + unknown, WELCOME + done) as said, Handover() as handover:
        handover.ask([SCOPE])
        handover.finish()
    assert [b"MemoryMax" in text for text in said] == [True, True]
    assert [b"OnSuccess" in text for text in said] == [True, False]


def test_where_no_systemd_runs_that_is_an_error_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "_SOCKET", str(tmp_path / "none"))
    with Handover() as handover:
        handover.finish()  # nothing to hand over
        with pytest.raises(ScopeError, match="cnm_boot: false"):
            handover.ask([SCOPE])


def test_a_process_that_has_ended_is_in_no_unit() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    assert scopes.unit_of(child) == ""
