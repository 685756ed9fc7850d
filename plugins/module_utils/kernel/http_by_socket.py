# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""HTTP over a UNIX socket.  A file of its own, as what it imports is a third of all that a call imports."""

from __future__ import annotations

import contextlib
import http.client
import socket


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, patience: float) -> None:
        super().__init__("localhost", timeout=patience)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(socket_path: str, path: str, patience: float, longest: int) -> str:
    """Status and text of the answer to a GET: ``200 {}``.

    Raises OSError and ValueError, the latter also if the answer is none or has more than ``longest`` octets.
    """
    connection = _Connection(socket_path, patience)
    with contextlib.closing(connection):
        try:
            connection.request("GET", path, headers={"Host": "docker"})
            response = connection.getresponse()
            data = response.read(longest + 1)
        except http.client.HTTPException as error:
            raise ValueError(str(error) or type(error).__name__) from error
    if len(data) > longest:
        raise ValueError(f"its answer is larger than {longest >> 20} MB")
    return f"{response.status} {data.decode(errors='backslashreplace')}"
