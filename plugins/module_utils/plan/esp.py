# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""ESP between two hosts, for both halves: the keys a host needs, and the SPIs of its states.  Pure.

The controller derives the keys (``plugin_utils/networks/encryption.py``) and sends each host its own.
"""

from __future__ import annotations

import hashlib
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

KEY_OCTETS = 20
"""An AES-128 key and the four octets of salt of RFC 4106."""

_ADDRESS_BITS = 29
_OURS = 0x80000000
"""Top bit of our SPIs; those below 256 are reserved (RFC 4303 §2.1)."""


_HEARD, _SENT = (-1, 0, 1), (-1, 0)
"""Epochs relative to the present one for which there are inbound and outbound keys."""


class Way(NamedTuple):
    """What a key is for: traffic from ``source`` to ``destination`` in an epoch."""

    epoch: int
    source: str
    destination: str

    @property
    def text(self) -> str:
        """Its text form: ``7 192.0.2.1 192.0.2.2``."""
        return f"{self.epoch} {self.source} {self.destination}"

    @classmethod
    def from_text(cls, text: str) -> Way:
        """Read `text`.  Raises ValueError for another form."""
        epoch, source, destination = text.split(" ")
        return cls(int(epoch), source, destination)


def ways(local: str, peer: str, epoch: int) -> list[Way]:
    """All keys that ``local`` needs with one peer: inbound in three epochs, outbound in two."""
    hear = [Way(epoch + offset, peer, local) for offset in _HEARD]
    return hear + [Way(epoch + offset, local, peer) for offset in _SENT]


def security_index(project: str, source: str, epoch: int) -> int:
    """The SPI of the packets that ``source`` sends in an epoch, the same for all receivers.

    A receiver holds three epochs of every peer at the same time.  For IPv4 the SPI contains the address without its
    highest three bits, so that no two peers of a network share one; for IPv6 it contains a hash of the address.
    """
    number = _low_bits(project) ^ _low_bits(source)
    return _OURS | number << 2 | epoch & 3


def epoch_of(index: int, near: int) -> int:
    """The epoch of an SPI.  An SPI contains its two lowest bits; of all that match, the one nearest to ``near``."""
    return near - 1 + (index - near + 1) % 4


@cache
def _low_bits(text: str) -> int:
    try:
        address = ip_address(text)
    except ValueError:
        return _digest_bits(text)
    return int(address) & ((1 << _ADDRESS_BITS) - 1) if address.version == 4 else _digest_bits(str(address))


def _digest_bits(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> (32 - _ADDRESS_BITS)
