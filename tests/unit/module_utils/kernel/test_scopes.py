# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Handing processes to systemd, where what answers is not as it should be; tests/systemd has systemd itself."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import scopes
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.scopes import Handover, Scope, ScopeError

SCOPE = Scope("a.scope", 7, (("Description", "s", "A"), ("MemoryMax", "t", 1), ("OnSuccess", "as", ["b.service"])))
WELCOME = b"OK 0123\r\n"


@contextlib.contextmanager
def answering(path: Path, answer: bytes) -> Iterator[None]:
    """A socket that says this to whoever connects, and nothing more."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            connection, _address = listening.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(1 << 16):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


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
