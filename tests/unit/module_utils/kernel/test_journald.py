# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Entries of the journal as datagrams: whatever a value is, it stays one field."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import hostile
import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import journald


def decoded(datagram: bytes) -> dict[str, str]:
    """The fields of a datagram, as systemd-journald reads it."""
    fields: dict[str, str] = {}
    while datagram:
        name, _newline, rest = datagram.partition(b"\n")
        (size,) = struct.unpack_from("<Q", rest)
        assert rest[8 + size : 9 + size] == b"\n"
        assert name.decode() not in fields
        fields[name.decode()] = rest[8 : 8 + size].decode()
        datagram = rest[9 + size :]
    return fields


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_whatever_a_value_is_it_stays_one_printable_line_of_its_field(text: str) -> None:
    fields = decoded(journald.encode({"MESSAGE": text, "CNM_SANDBOX": f"c1\nPRIORITY=0\n{text}", "PRIORITY": 6}))
    assert list(fields) == ["MESSAGE", "CNM_SANDBOX", "PRIORITY"]
    assert fields["PRIORITY"] == "6"
    assert all(value.isprintable() for value in fields.values())


@pytest.mark.parametrize("name", ["", "message", "A=B", "A\nB", "_UID", "1A", "Ä"])
def test_a_name_that_no_field_may_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no name of a field"):
        journald.encode({name: "x"})


def test_an_entry_reaches_the_journal_and_without_one_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "socket"))
    assert not journald.write("nobody reads this")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(journald.SOCKET)
        assert journald.write("restored sandbox c1", CNM_SANDBOX="c1", CNM_NETWORK="")
        assert decoded(journal.recv(65536)) == {
            "MESSAGE": "restored sandbox c1",
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "cnm",
            "CNM_SANDBOX": "c1",
        }
