# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Whoever should know a namespace and says something odd, says it for ever, or says nothing."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import netns_owners, programs
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netns_owners import OwnerError, Silent, find

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def never(*_arguments: Any, **_named: Any) -> tuple[int, str, str]:
    raise AssertionError("a program was started")


@contextmanager
def an_engine(answer: Callable[[socket.socket], None], at: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What listens where a Docker Engine should."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{at}")
    monkeypatch.setattr(netns_owners, "_PATIENCE_S", 1)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(at))
        bound.listen()

        def serve() -> None:
            try:
                connection, _address = bound.accept()
                with connection:
                    connection.recv(4096)
                    answer(connection)
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        thread.join(5)


def silence(connection: socket.socket) -> None:
    connection.recv(1)


def drip(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    for _octet in range(100):
        time.sleep(0.2)
        connection.sendall(b" ")


def flood(connection: socket.socket) -> None:
    connection.sendall(HEAD + b"\r\n")
    while True:
        connection.sendall(b" " * 65536)


@pytest.mark.parametrize("answer", [silence, drip, flood], ids=["nothing", "drops", "flood"])
def test_an_engine_with_an_endless_answer(
    answer: Callable[[socket.socket], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = time.monotonic()
    with an_engine(answer, tmp_path / "docker.sock", monkeypatch), pytest.raises(Silent, match="no Docker Engine"):
        find("docker", "web", never)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "said",
    [
        b"\xff\xfe",
        b"{",
        b"[]",
        b'{"State": []}',
        b'{"State": {"Running": true, "Pid": "x"}, "HostConfig": {"NetworkMode": "none"}}',
        b'{"State": {"Running": true, "Pid": 1e999}, "HostConfig": {"NetworkMode": "none"}}',
        b'{"State": {"Running": true, "Pid": 4194303}, "HostConfig": {"NetworkMode": "none"}, "Mounts": [7]}',
        b'{"State": {"Running": true, "Pid": 4194303}, "HostConfig": 7}',
    ],
)
def test_an_engine_with_an_invalid_answer(said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + b"Content-Length: %d\r\n\r\n" % len(said) + said
    with an_engine(lambda opened: opened.sendall(text), tmp_path / "s", monkeypatch), pytest.raises(OwnerError):
        find("docker", "web", never)


def test_a_program_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "podman"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(programs, "SEARCH_PATH", f"{tmp_path}:/usr/bin:/bin")
    asked: list[list[str]] = []

    def run(arguments: list[str], **_named: Any) -> tuple[int, str, str]:
        asked.append(arguments)
        return 124, "", ""

    with pytest.raises(Silent, match="podman did not answer in 10 seconds"):
        find("podman", "web", run)
    assert os.path.basename(asked[0][0]) == "timeout"
    with pytest.raises(OwnerError, match="not a description"):
        find("podman", "web", lambda *_a, **_n: (0, json.dumps([{"HostConfig": 7}]), ""))
