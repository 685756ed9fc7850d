# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resources: the encryption of overlays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from .base import Key, Resource
from .marks import DATA_PATH_PORT, encrypted_data_path_port


@dataclass(frozen=True)
class Xfrm(Resource):
    """ESP (RFC 4303, RFC 4106) between this host and its peers, for VXLAN packets of encrypted overlays only.

    To each peer its VXLAN from `ENCRYPTED_PORT` goes encrypted with the key of the epoch; to anyone else it does not
    go.  From each peer the keys of the epochs before and after are understood too.  What comes to the port otherwise,
    in clear text or from anyone else, is not heard.  The keys are not in the plan.
    """

    kind: ClassVar[str] = "xfrm"
    local: str
    """This host's VTEP."""
    port: int = encrypted_data_path_port(DATA_PATH_PORT)
    """The UDP destination port of VXLAN."""
    epoch: int = 1
    fingerprint: str = ""
    """A digest of the secret, so that another secret makes another plan.  The kernel has none: never compared."""
    peers: tuple[str, ...] = ()
    """The other hosts' VTEPs, sorted."""
    tables: tuple[str, ...] = ()
    """Digests of the peer tables whose remote VTEPs are the peers, if `peers` is empty."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: what is wrong, by peer, in words."""

    @property
    def key(self) -> Key:
        return (self.kind, "overlays")
