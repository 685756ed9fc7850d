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
    """ESP (RFC 4303, RFC 4106) between this host and others, for the VXLAN of encrypted overlays and nothing else.

    To each peer its VXLAN from `ENCRYPTED_PORT` goes encrypted with the key of the epoch; to anyone else it does not
    go.  From each peer the keys of the epochs before and after are understood too.  What comes to the port otherwise,
    in clear text or from anyone else, is not heard.  The keys are not in the plan.
    """

    kind: ClassVar[str] = "xfrm"
    local: str
    """This host's VTEP."""
    port: int = encrypted_data_path_port(DATA_PATH_PORT)
    """The port VXLAN is sent to."""
    epoch: int = 1
    fingerprint: str = ""
    """Of the secret: so another secret makes another plan.  The kernel has none, so it is not compared."""
    peers: tuple[str, ...] = ()
    """The other hosts' VTEPs, sorted."""
    tables: tuple[str, ...] = ()
    """Digests of the meshes whose remote VTEPs are the peers, where they are not written out."""
    flaws: dict[str, str] = field(default_factory=dict)
    """As found: by peer what is not as it should be, in words."""

    @property
    def key(self) -> Key:
        return (self.kind, "overlays")
