# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The peer table of a network that spans hosts."""

from __future__ import annotations

from typing import NamedTuple

from .base import PlanError
from .codec import parsed, to_text
from .fields import PEER_TABLE, checked
from .forms import FormError
from .records import dataclass


class PeerEndpoint(NamedTuple):
    """A sandbox on the network, with its MAC address, addresses and names."""

    host: str
    sandbox: str
    mac: str
    addresses: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class PeerTable:
    """The hosts and endpoints of a network that spans hosts; computed once and sent beside the plans.

    A plan names it by the digest of its text; each host leaves out its own endpoints when it uses the table.
    """

    network: str
    vni: int
    vteps: dict[str, str]
    """VTEP address by host."""
    endpoints: tuple[PeerEndpoint, ...]
    """Sorted by sandbox."""

    def others(self, host: str) -> dict[str, str]:
        """VTEPs of the other hosts."""
        return {name: address for name, address in self.vteps.items() if name != host}

    def to_json(self) -> str:
        """The text whose digest plans name."""
        return to_text(vars(self))

    @classmethod
    def from_json(cls, text: str) -> PeerTable:
        """Read what `to_json` wrote; PlanError says what is wrong with the text."""
        try:
            values = checked(PEER_TABLE, parsed(text, "peer table"))
            if "endpoints" in values:
                values["endpoints"] = tuple(map(PeerEndpoint._make, values["endpoints"]))
            return cls(**values)
        except (FormError, TypeError) as error:
            raise PlanError(f"a peer table cannot be read: {error}") from error
