# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Keys and numbers of ESP between two hosts, which both work out for themselves.  Pure.

What a host gets of the secret is a key for each epoch (see ``plugin_utils/encryption.py``).  From that follow the keys
of each pair of VTEPs, one a direction.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from ipaddress import ip_address

KEY_OCTETS = 20
"""An AES-128 key and the four octets of salt that RFC 4106 wants with it."""

_ADDRESS_BITS = 29
_OURS = 0x80000000
"""Top bit of our SPIs: none is below 256, which are reserved (RFC 4303 §2.1)."""


def pair_key(epoch_key: bytes, source: str, destination: str) -> bytes:
    """The key, with its salt, of what ``source`` sends to ``destination``: HKDF-Expand of RFC 5869, its first block."""
    info = b"cnm.fabric esp " + _packed(source) + _packed(destination)
    return hmac.digest(epoch_key, info + b"\1", "sha256")[:KEY_OCTETS]


def security_index(project: str, source: str, epoch: int) -> int:
    """The SPI of what ``source`` sends in an epoch, whoever receives it.

    A receiver has three epochs of every peer at the same time.  IPv4 addresses go in as they are (but for the highest
    three bits), so that no two peers of a network have the same; of IPv6 it is a hash.
    """
    number = _low_bits(project) ^ _low_bits(source)
    return _OURS | number << 2 | epoch & 3


def epoch_of(index: int, near: int) -> int:
    """The epoch of an SPI, which has only its two lowest bits: the nearest to ``near`` that has them."""
    return near - 1 + (index - near + 1) % 4


@cache
def _packed(address: str) -> bytes:
    return ip_address(address).packed


@cache
def _low_bits(text: str) -> int:
    try:
        address = ip_address(text)
    except ValueError:
        return _digest_bits(text)
    return int(address) & ((1 << _ADDRESS_BITS) - 1) if address.version == 4 else _digest_bits(str(address))


def _digest_bits(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> (32 - _ADDRESS_BITS)
