# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver ipvlan: each sandbox has a link with the MAC address of the host's parent, and no bridge between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from ...module_utils.plan.links import Parent
from ..declaration.driver import Option, Traits
from ..declaration.errors import ValidationError
from ..declaration.options import word
from ..declaration.topology import Endpoint, Network, Sandbox
from .base import Attachment, PlannedNetwork
from .endpoints import ON_LINK
from .parents import PARENT_OPTIONS, ParentDriver, refuse_mac_address

MODE, FLAG = "ipvlan_mode", "ipvlan_flag"


class IpvlanDriver(ParentDriver):
    """Networks of ipvlan links; in the modes l3 and l3s the host routes between them and the rest."""

    name = "ipvlan"
    options = {
        **PARENT_OPTIONS,
        MODE: Option(word("ipvlan mode", ("l2", "l3", "l3s")), "As `ip link` has it.", default="l2"),
        FLAG: Option(word("ipvlan flag", ("bridge", "private", "vepa")), "As `ip link` has it.", default="bridge"),
    }

    def traits(self, network: Network) -> Traits:
        return self.traits_on_parent(
            network,
            exclusive="a network of the driver ipvlan shares its parent with no other",
            shares_mac=True,
            routed=_routed(network),
        )

    def check_members(
        self, network: Network, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]
    ) -> None:
        del network
        refuse_mac_address("An ipvlan network", members, errors)

    def gateway(self, network: PlannedNetwork, family: int) -> Optional[str]:
        """Where the host routes, the link itself leads out."""
        if _routed(network.network) and network.of(family) and not network.network.internal:
            return ON_LINK[family]
        return super().gateway(network, family)

    def forwarding(self, network: Network) -> str:
        return network.option(FLAG)

    def parent(self, network: Network, attachment: Attachment) -> Parent:
        return Parent(attachment.link, network.option(MODE) or "l2", network.option(FLAG) or "bridge")


def _routed(network: Network) -> bool:
    return network.option(MODE).startswith("l3")
