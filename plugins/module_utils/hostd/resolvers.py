# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Start resolvers that have ended again, as planned; systemd asks for it."""

from __future__ import annotations

from ..kernel.host import Host
from ..kernel.nft import RunCommand
from ..plan.settings import Resolver
from ..resources.resolver import start_again
from ..state.kept import State
from ..state.lock import locked
from .restore import LOCK_PATIENCE, Restored, kept_resources


def restart_resolver(project: str, sandbox: str, run_command: RunCommand) -> Restored:
    """Start a sandbox's resolver if it has ended, and with it all others that have; see `start_again`.

    Raises Locked, PlanError, Unsafe and ResolverError.
    """
    # A teardown may be under way, and is then the last to have left something.
    with locked(f"cnm restore --resolver {sandbox}", LOCK_PATIENCE, last_out=True):
        kept = State(project).kept
        planned = kept_resources(project, kept) if kept else []
        wanted = [item for item in planned if isinstance(item, Resolver) and item.supervised]
        with Host(project, run_command) as host:
            started = start_again(host, wanted, sandbox)
    return Restored({f"the resolver of sandbox {name}": 1 for name in started})
