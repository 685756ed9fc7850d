# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What `parts` needs of a program that keeps values by key: the interface of the files beside this one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Optional, Protocol


class Backend(Protocol):
    """Values by key, of which one is changed by compare-and-swap.

    Keys are printable ASCII with slashes in them.  Every method tries all addresses of the store before it raises
    LeaseError, which says what each of them answered.  It may send a request twice: `swap` alone is not idempotent.
    """

    def get(self, key: str) -> Optional[tuple[int, bytes]]:
        """The value and its version, which differs from that of every former value; None if there is no such key.

        It is the newest value, also if another address of the store was asked to change it.
        """

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Those of the values that are there, no older than what `get` returned before."""

    def put_many(self, values: Mapping[str, bytes]) -> None:
        """Keep values under keys that nobody else uses."""

    def swap(self, key: str, version: Optional[int], value: bytes) -> bool:
        """Replace the value of that version, or create it if that is None; whether it was the one found.

        False also if the answer to a first attempt was lost and that attempt was carried out.
        """

    def delete_many(self, keys: Sequence[str]) -> None:
        """Delete what is there of these."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin with a prefix, which ends with a slash, and have no other slash behind it."""

    def close(self) -> None:
        """End what connections there are."""


def batches(items: Iterable[tuple[str, int]], most: int, octets: int) -> Iterator[list[str]]:
    """``(key, size)`` pairs in requests of at most so many keys and, if a single value is not larger, octets."""
    batch: list[str] = []
    left = octets
    for key, size in items:
        if batch and (len(batch) == most or size > left):
            yield batch
            batch, left = [], octets
        batch.append(key)
        left -= size
    if batch:
        yield batch
