# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A lease store's signature of a host's leases, by which the store recognizes them when the host reports them.  Pure.

A signature is ``<revision>:<hex>``: the store's revision, and an HMAC-SHA256 with the store's key over that revision,
the project, the host, its part of the leases and the objects that modules made there.  A host keeps it beside its plan.
It cannot create one, so it can only repeat what it was given itself.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Optional

KEY_SIZE = 32
"""Octets of a store's key."""


def sign(
    key: bytes, project: str, host: str, revision: int, leases: Mapping[str, Any], module_state: Mapping[str, Any]
) -> str:
    """The signature; "" for a store that has no key yet."""
    if not key:
        return ""
    text = json.dumps([project, host, revision, leases, module_state], sort_keys=True, separators=(",", ":"))
    return f"{revision}:{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()}"


def revision_given(
    key: bytes, project: str, host: str, signature: str, leases: Mapping[str, Any], module_state: Mapping[str, Any]
) -> Optional[int]:
    """The store's revision when it signed this; None if the signature is invalid."""
    revision = signature.partition(":")[0]
    if not key or not (revision.isascii() and revision.isdigit()):
        return None
    made = sign(key, project, host, int(revision), leases, module_state)
    return int(revision) if hmac.compare_digest(made.encode(), signature.encode()) else None
