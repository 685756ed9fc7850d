# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: the encryption of overlays."""

from __future__ import annotations

from dataclasses import field
from typing import ClassVar

from .base import Key, Resource
from .marks import DATA_PATH_PORT, encrypted_data_path_port
from .records import dataclass


@dataclass(frozen=True)
class Xfrm(Resource):
    """ESP (RFC 4303, RFC 4106) between this host and its peers, for VXLAN packets of encrypted overlays only.

    VXLAN packets from `ENCRYPTED_PORT` are encrypted with the epoch's key if they go to a peer, and dropped if they go
    to any other address.  Received packets are accepted from peers with the key of this, the previous or the next
    epoch; packets in clear text or from other addresses are dropped.  The keys are not in the plan.
    """

    kind: ClassVar[str] = "xfrm"
    local: str
    """This host's VTEP."""
    port: int = encrypted_data_path_port(DATA_PATH_PORT)
    """The UDP destination port of VXLAN."""
    epoch: int = 1
    fingerprint: str = ""
    """A digest of the secret, so that a new secret makes a new plan.  Never compared: the kernel does not have it."""
    peers: tuple[str, ...] = ()
    """The other hosts' VTEPs, sorted."""
    tables: tuple[str, ...] = ()
    """Digests of the peer tables whose remote VTEPs are the peers, if `peers` is empty."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: for each peer, a text that says what is wrong."""

    @property
    def key(self) -> Key:
        return (self.kind, "overlays")
