# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The keys of encrypted overlays, all derived from one secret.  Pure.

secret → project → epoch → pair of VTEPs and direction, each step by HKDF, so no key reveals an earlier or another one.
A host gets only the keys of the last step, and of these only those of pairs it belongs to.  Hosts that are converged at
different times agree, for the same secret has the same keys.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address

from ...module_utils.plan.esp import KEY_OCTETS, ways

_KEY_OCTETS = 32
_FINGERPRINT_OCTETS = 4


def hkdf_extract(salt: bytes, material: bytes) -> bytes:
    """HKDF-Extract of RFC 5869 with SHA-256."""
    return hmac.digest(salt or bytes(hashlib.sha256().digest_size), material, "sha256")


def hkdf_expand(key: bytes, info: bytes, octets: int) -> bytes:
    """HKDF-Expand of RFC 5869 with SHA-256."""
    result = block = b""
    for number in range(1, -(-octets // hashlib.sha256().digest_size) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        result += block
    return result[:octets]


@cache
def _project_key(secret: str, project: str) -> bytes:
    """Kept, for a plan of many hosts asks for it for each of them."""
    key = hkdf_extract(b"cnm.fabric overlay", secret.encode())
    return hkdf_expand(key, b"project " + project.encode(), _KEY_OCTETS)


@cache
def _packed(address: str) -> bytes:
    return ip_address(address).packed


def epoch_key(secret: str, project: str, epoch: int) -> bytes:
    """What the keys of an epoch are derived from.  No host gets it, as all keys of all pairs derive from it."""
    return hkdf_expand(_project_key(secret, project), f"epoch {epoch}".encode(), _KEY_OCTETS)


def pair_key(key: bytes, source: str, destination: str) -> bytes:
    """The key, with its salt, of what ``source`` sends to ``destination`` in the epoch whose ``key`` is given.

    HKDF-Expand, its first block, written out: a fleet has millions of them.
    """
    info = b"cnm.fabric esp " + _packed(source) + _packed(destination)
    return hmac.digest(key, info + b"\1", "sha256")[:KEY_OCTETS]


def pair_keys(secret: str, project: str, local: str, peers: Iterable[str], epoch: int) -> dict[str, str]:
    """The keys of one host, for the argument of that name of M(cnm.fabric.converge): `Way.text` to hex.

    Those of the epochs before and after are for what arrives from hosts that are not yet, or already, in another.
    """
    keys = {number: epoch_key(secret, project, number) for number in (epoch - 1, epoch, epoch + 1)}
    return {
        way.text: pair_key(keys[way.epoch], way.source, way.destination).hex()
        for peer in peers
        for way in ways(local, peer, epoch)
    }


def fingerprint(secret: str, project: str, of: str = "") -> str:
    """What of the secret is in a plan, so that with another secret it is another plan.

    ``of`` says what the secret is for, so that nobody sees that two are the same.
    """
    return hkdf_expand(_project_key(secret, project), f"{of} fingerprint".lstrip().encode(), _FINGERPRINT_OCTETS).hex()
