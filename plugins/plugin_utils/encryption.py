# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What hosts get of the secret of encrypted overlays: a key for each epoch they need, never the secret itself.  Pure.

With those keys a host works out its own with each of its peers (``module_utils/esp.py``): nobody has to be asked, and
hosts that are converged at different times agree.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache

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


def epoch_keys(secret: str, project: str, epoch: int) -> dict[str, str]:
    """The keys a host needs in an epoch, for the argument of that name of M(cnm.fabric.converge): epoch to hex.

    Those of the epochs before and after are for what arrives from hosts that are not yet, or already, in another.
    """
    key = _project_key(secret, project)
    return {
        str(number): hkdf_expand(key, f"epoch {number}".encode(), _KEY_OCTETS).hex()
        for number in (epoch - 1, epoch, epoch + 1)
    }


def fingerprint(secret: str, project: str) -> str:
    """What of the secret is in a plan, so that with another secret it is another plan."""
    return hkdf_expand(_project_key(secret, project), b"fingerprint", _FINGERPRINT_OCTETS).hex()
