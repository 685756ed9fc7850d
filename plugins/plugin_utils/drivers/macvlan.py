# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver macvlan: each sandbox has a link with a MAC address of its own on the host's parent, and no bridge between."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Union

from ...module_utils.plan.links import Parent
from ..declaration.driver import Option, Traits
from ..declaration.errors import ValidationError, VarPath
from ..declaration.options import word
from ..declaration.topology import Endpoint, Network, Sandbox
from ..facts import Facts
from .base import Attachment
from .parents import PARENT, PARENT_OPTIONS, ParentDriver, carrying, names_parent, refuse_mac_address

MODE = "macvlan_mode"
PASSTHRU = "passthru"


class MacvlanDriver(ParentDriver):
    """Networks of macvlan links."""

    name = "macvlan"
    options = {
        **PARENT_OPTIONS,
        MODE: Option(
            word("macvlan mode", ("bridge", "private", "vepa", PASSTHRU)), "As `ip link` has it.", default="bridge"
        ),
    }

    def traits(self, network: Network) -> Traits:
        passthru = network.option(MODE) == PASSTHRU
        return self.traits_on_parent(
            network,
            exclusive="the mode passthru takes the whole link" if passthru else "",
            shares_mac=passthru,
        )

    def check(self, network: Network, path: VarPath) -> None:
        super().check(network, path)
        if not names_parent(network, path) and network.option(MODE) == PASSTHRU:
            problem, remedy = "There is no link to take over.", "Name one as `parent`."
            (path / "driver_opts" / MODE).wrong(problem, remedy, PASSTHRU)

    def check_members(
        self, network: Network, members: Sequence[tuple[Sandbox, Endpoint]], errors: list[ValidationError]
    ) -> None:
        if network.option(MODE) != PASSTHRU:
            return
        for sandbox, endpoint in members[1:]:
            VarPath(endpoint.path, errors).wrong(
                f"The network `{network.name}` has the mode passthru, in which one sandbox of a host takes the whole "
                f"link; `{members[0][0].name}` ({members[0][0].path}) has it.",
                "Put this one on another network, or choose the mode bridge.",
                sandbox.name,
            )
        refuse_mac_address("A macvlan network in mode passthru", members, errors)

    def attach(self, network: Network, network_id: str, facts: Facts) -> Union[Attachment, list[str], None]:
        parent = network.traits.parent
        if network.option(MODE) == PASSTHRU and parent in carrying(facts):
            problem = f"Ansible reaches this host by {parent}, and the mode passthru would take it from the host."
            return [f"{network.path}.driver_opts.{PARENT}: {problem} Choose another link, or the mode bridge."]
        return super().attach(network, network_id, facts)

    def forwarding(self, network: Network) -> str:
        return network.option(MODE)

    def parent(self, network: Network, attachment: Attachment) -> Parent:
        return Parent(attachment.link, network.option(MODE) or "bridge")
