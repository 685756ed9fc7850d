# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""``deploy.placement`` of a service: which hosts may have its tasks, and how many each.

Constraints are Swarm's, on names and labels of hosts: ``node.hostname == node1``, ``node.labels.disk != hdd``.  As
there, all have to hold, case does not count, and a label that a host does not have is an empty one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Optional

from .errors import VarPath
from .keys import did_you_mean
from .topology import Constraint, Host, Placement, Service
from .values import at, texts

_HOSTNAME, _LABELS = "node.hostname", "node.labels."
_FORM = re.compile(r"(\S+?)\s*(==|!=)\s*([^\s=!](?:[ -~]{0,253}[!-~])?)")
_LABEL = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_EXAMPLE = f"Write it like `{_LABELS}disk == ssd` or `{_HOSTNAME} != node1`."


def read_placement(value: Mapping[str, Any], mode: str, path: VarPath) -> Placement:
    """Read what a service says; every error is noted at its place."""
    most = value.get("max_replicas_per_node")
    if most and mode == "global":
        (path / "max_replicas_per_node").wrong(
            "A global service has one task on every host of its placement.", "Leave it out.", most
        )
    hosts = value.get("hosts")
    return Placement(
        hosts=tuple(text for _index, text in texts(hosts)) if hosts is not None else None,
        constraints=tuple(_constraints(value.get("constraints"), path / "constraints")),
        max_per_host=int(most or 0),
    )


def _constraints(value: Any, path: VarPath) -> Iterator[Constraint]:
    for index, text in texts(value):
        spot, match = at(path, index), _FORM.fullmatch(text.strip())
        key = match[1] if match else ""
        if match is None:
            spot.wrong("A constraint has a key, `==` or `!=`, and a value.", _EXAMPLE, text)
        elif key != _HOSTNAME and not (key.startswith(_LABELS) and _LABEL.fullmatch(key.removeprefix(_LABELS))):
            remedy = did_you_mean(key, [_HOSTNAME], _EXAMPLE)
            spot.wrong("Hosts are told apart by their names in the inventory and by cnm_node_labels.", remedy, text)
        else:
            yield Constraint(key.removeprefix(_LABELS) if key != _HOSTNAME else "", match[2] == "==", match[3])


def check_hostnames(constraints: Any, known: Optional[Collection[str]], path: VarPath) -> None:
    """Note names of hosts that are not ``known``; None if no host is."""
    for index, text in texts(constraints):
        match = _FORM.fullmatch(text.strip())
        name = match[3] if match and match[1] == _HOSTNAME else None
        if name and known is not None and name.casefold() not in {host.casefold() for host in known}:
            remedy = did_you_mean(name, known, "Name a host of the topology (cnm_hosts).")
            at(path, index).wrong("There is no such host in the topology.", remedy, name)


def admits(service: Service, host: Host) -> bool:
    """Whether a host that declares a service may have its tasks."""
    labels = dict(host.settings.node_labels)
    return is_named(service, host) and all(
        ((labels.get(item.label, "") if item.label else host.name).casefold() == item.value.casefold()) is item.equal
        for item in service.placement.constraints
    )


def is_named(service: Service, host: Host) -> bool:
    """The same, whatever the constraints say."""
    return service.placement.hosts is None or host.name in service.placement.hosts
