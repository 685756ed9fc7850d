# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What users have in their own chains and sets of the host's table: a flush and a reboot remove it, so it is kept."""

from __future__ import annotations

import contextlib
import re

from ..kernel.host import Host
from ..kernel.nft import Nft, NftError
from ..plan.forms import FormError, nft_block, nft_name
from ..plan.nftables import Nftables
from ..state.kept import State
from .nftables_reading import UNREADABLE

_EMPTY_CHAIN = re.compile(r"\tchain \S+ \{\n\t\}\n?")


def note(host: Host, found: Nftables) -> None:
    """Note what the user's chains and sets in the host's table have in them, "" for nothing."""
    if found.flags == UNREADABLE:
        return
    with contextlib.suppress(FormError):
        block = nft_block(found.users) if found.users else ""
        host.user_rules[f"{found.family} {nft_name(found.name)}"] = block if _EMPTY_CHAIN.sub("", block) else ""


def load(host: Host, nft: Nft) -> None:
    """Load what is kept into the table, which has just been made.  What nft refuses is set aside, with a warning."""
    state = State(host.project)
    try:
        if state.user_rules:
            nft.run(state.user_rules)
    except NftError as error:
        aside = state.set_user_rules_aside()
        host.warnings.append(f"the kept rules of the user's chains could not be loaded ({error}): they are in {aside}")
