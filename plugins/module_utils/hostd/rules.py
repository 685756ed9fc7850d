# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The host's tables as files that nft loads at boot, and whenever nftables.service flushes the ruleset."""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel.host import Host
from ..kernel.nft import RunCommand
from ..plan.base import Resource
from ..plan.marks import table_name
from ..plan.nftables import Nftables
from ..plan.settings import Boot
from ..resources import kept_rules, user_rules
from ..resources.nftables import FAMILY
from ..resources.nftables_reading import listed
from ..state.files import forget
from ..state.kept import State


def keep_rules(project: str, resources: Sequence[Resource]) -> None:
    """Keep the host's tables as a file for nft, if the plan is to be restored.  Loading it replaces the tables."""
    tables = [item for item in resources if isinstance(item, Nftables) and not item.namespace]
    if tables and any(isinstance(item, Boot) for item in resources):
        kept_rules.write(project, tables)
    else:
        forget(kept_rules.path(project))


def keep_user_rules(project: str, run_command: RunCommand) -> None:
    """Keep what the user's chains of the host's table have in them now.  Raises what `engine.EXPECTED` has."""
    state = State(project)
    table = Nftables("", FAMILY, table_name(project))
    with Host(project, run_command) as host:
        found = listed(host, [table], {})[table.key]
        if found is not None:
            user_rules.note(host, found)
        state.keep_user_rules(host.user_rules)
