# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Geneve links."""

from __future__ import annotations

import errno
import time
from collections.abc import Mapping
from typing import Any, Optional

from ...kernel import namespaces, netlink
from ...kernel.host import Host
from ...plan.links import Geneve, Link
from .common import new_link

_WAIT_S = 5.0
_PAUSE_S = 0.02


def create_geneve(host: Host, item: Link, geneve: Geneve) -> None:
    """Create it in its namespace; its packets travel in the namespace that the request is made in."""
    asking = "" if geneve.outside else item.namespace
    deadline = time.monotonic() + _WAIT_S
    with open(f"{namespaces.DIRECTORY}/{item.namespace}" if asking != item.namespace else "/dev/null", "rb") as place:
        message = new_link(item, place.fileno() if asking != item.namespace else None)
        while True:
            try:
                host.send(asking, [message])
                return
            except netlink.NetlinkError as error:
                # The kernel frees a removed namespace's VNIs some time after its name is gone.
                if error.errno not in (errno.EBUSY, errno.EEXIST) or item.name in host.links(item.namespace):
                    raise
                if time.monotonic() > deadline:
                    problem = f"another Geneve link of this host has VNI {geneve.id} on port {geneve.port} already"
                    raise netlink.NetlinkError(error.errno, problem, error.request) from error
            time.sleep(_PAUSE_S)


def geneve_of(link: Mapping[str, Any], outside: bool) -> Optional[Geneve]:
    if link["kind"] != "geneve":
        return None
    data = link["data"]
    return Geneve(data.get("id", 0), data.get("remote", ""), data.get("port", 0), outside)
