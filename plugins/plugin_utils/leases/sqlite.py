# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The embedded lease store: one SQLite file beside the inventory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from .base import LeaseError

_BUSY_SECONDS = 30.0
_TABLE = "CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, version INTEGER NOT NULL, value BLOB NOT NULL)"


class SqliteBackend:
    """Values in a file (see `backend.Backend`); several controllers on one machine may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Optional[tuple[int, bytes]]:
        if not self._path.exists():
            return None  # who only reads makes no file
        with self._open() as connection:
            row = connection.execute("SELECT version, value FROM entries WHERE key = ?", (key,)).fetchone()
        return (int(row[0]), bytes(row[1])) if row is not None else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        if not keys or not self._path.exists():
            return {}
        found: dict[str, bytes] = {}
        with self._open() as connection:
            for key in keys:
                for row in connection.execute("SELECT value FROM entries WHERE key = ?", (key,)):
                    found[key] = bytes(row[0])
        return found

    def put_many(self, values: Mapping[str, bytes]) -> None:
        self._change("INSERT OR REPLACE INTO entries VALUES (?, 1, ?)", list(values.items()))

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        if version is None:
            return self._change("INSERT OR IGNORE INTO entries VALUES (?, 1, ?)", [(key, value)]) == 1
        replace = "UPDATE entries SET value = ?, version = version + 1 WHERE key = ? AND version = ?"
        return self._change(replace, [(value, key, version)]) == 1

    def delete_many(self, keys: Sequence[str]) -> None:
        self._change("DELETE FROM entries WHERE key = ?", [(key,) for key in keys])

    def keys(self, prefix: str) -> list[str]:
        if not self._path.exists():
            return []
        with self._open() as connection:
            rows = connection.execute("SELECT key FROM entries WHERE substr(key, 1, ?) = ?", (len(prefix), prefix))
            return [str(row[0]) for row in rows]

    def close(self) -> None:
        """Nothing is open between two calls."""

    def _change(self, statement: str, rows: Sequence[Sequence[Any]]) -> int:
        """Run a statement for each row, in one transaction; the number of rows that it changed."""
        self._keep_private()
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            changed = connection.executemany(statement, rows).rowcount
            connection.execute("COMMIT")
        return changed

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                connection.execute(_TABLE)
                yield connection
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise LeaseError(
                f"the lease store {self._path} cannot be used: {error}. Set cnm_leases to a file that can be written, "
                "such as sqlite:////var/lib/cnm/leases.sqlite3"
            ) from error

    def _keep_private(self) -> None:
        """Make the file unreadable for others, as it contains a key."""
        with contextlib.suppress(OSError):  # opening the file then reports the problem
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            mode = stat.S_IMODE(self._path.stat().st_mode)
            if mode & stat.S_IRWXO:
                self._path.chmod(mode & ~stat.S_IRWXO)
