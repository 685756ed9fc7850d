# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The embedded lease store: one SQLite file beside the inventory."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

from .base import Conflict, LeaseError, Leases, empty
from .signing import KEY_SIZE

_BUSY_SECONDS = 30.0


class SqliteStore:
    """Leases in a file; several controllers on one machine may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS leases"
                    " (project TEXT PRIMARY KEY, revision INTEGER NOT NULL, document TEXT NOT NULL)"
                )
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS keys (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL)"
                )
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise LeaseError(
                f"the lease store {self._path} cannot be used: {error}. Set cnm_leases to a file that can be written, "
                "such as sqlite:////var/lib/cnm/leases.sqlite3"
            ) from error

    def read(self, project: str) -> tuple[int, Leases]:
        if not self._path.exists():
            return 0, empty()
        with self._open() as connection:
            row = connection.execute("SELECT revision, document FROM leases WHERE project = ?", (project,)).fetchone()
        if row is None:
            return 0, empty()
        return int(row[0]), {**empty(), **json.loads(row[1])}

    def write(self, project: str, expected: int, revision: int, leases: Leases) -> None:
        document = json.dumps(leases, sort_keys=True)
        self._keep_private()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT OR IGNORE INTO leases VALUES (?, 0, '{}')", (project,))
            done = connection.execute(
                "UPDATE leases SET revision = ?, document = ? WHERE project = ? AND revision = ?",
                (revision, document, project, expected),
            )
            if done.rowcount != 1:
                connection.execute("ROLLBACK")
                raise Conflict(f"the leases of project {project} were changed by another run meanwhile")
            connection.execute("INSERT OR IGNORE INTO keys VALUES (1, ?)", (secrets.token_bytes(KEY_SIZE),))
            connection.execute("COMMIT")

    def key(self) -> bytes:
        if not self._path.exists():
            return b""
        with self._open() as connection:
            row = connection.execute("SELECT key FROM keys").fetchone()
        return bytes(row[0]) if row is not None else b""

    def _keep_private(self) -> None:
        """Make the file unreadable for others, as it contains a key."""
        with contextlib.suppress(OSError):  # opening the file then reports the problem
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            mode = stat.S_IMODE(self._path.stat().st_mode)
            if mode & stat.S_IRWXO:
                self._path.chmod(mode & ~stat.S_IRWXO)
