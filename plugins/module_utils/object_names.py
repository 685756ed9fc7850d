# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names of kernel objects for people: ``default route of db (missing)``.  Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .plan.base import Resource
from .plan.forms import printable
from .plan.shaping import quantity
from .resources.base import Difference, Operation

_MOST = 3
"""How many objects or attributes are named."""

_WHOLE = ("namespace", "link")
"""Objects that take all others of their part with them."""


def what_differs(part: str, operations: Sequence[Operation[Any]], left_over: bool = True) -> str:
    """The operations on one part of a plan (`hostd.restore.PartNames`) as one line.

    With ``left_over`` an object that is to be removed is told as one that nothing wants.
    """
    first = next(
        (item for item in operations if item.action == "create" and item.resource.kind in _WHOLE and _is_whole(item)),
        None,
    )
    if first is not None and left_over:
        return f"{part} (missing)"
    texts = list(dict.fromkeys(_text(item, part, left_over) for item in operations))
    more = f" and {len(texts) - _MOST} more" if len(texts) > _MOST else ""
    return ", ".join(texts[:_MOST]) + more


def _is_whole(operation: Operation[Any]) -> bool:
    resource = operation.resource
    return resource.kind == "namespace" or str(getattr(resource, "role", "")).startswith(("endpoint/", "network/"))


def _text(operation: Operation[Any], part: str, left_over: bool) -> str:
    name = name_of(operation.resource, part)
    if operation.action == "create":
        state = "missing" if left_over else ""
    elif operation.action == "delete":
        state = "left over" if left_over else ""
    else:
        of_shaping = operation.resource.kind == "shaping"
        shown = [_shape(item) if of_shaping else _difference(item) for item in operation.differences[:_MOST]]
        more = len(operation.differences) - _MOST
        state = ", ".join(shown) + (f" and {more} more" if more > 0 else "")
    return f"{name} ({state})" if state else name


_STATES = {("running", False): "not running", ("up", False): "down", ("outdated", True): "outdated"}
_AS_WANTED = ("as planned", "as this version has it")


def _difference(item: Difference) -> str:
    if isinstance(item.found, bool) and (item.attribute, item.found) in _STATES:
        return _STATES[item.attribute, item.found]
    if item.wanted in _AS_WANTED:
        return f"{item.attribute}: {printable(str(item.found))}"
    simple = all(value is None or isinstance(value, (str, int)) for value in (item.found, item.wanted))
    if not simple or len(f"{item.found}{item.wanted}") > 80:
        return item.attribute
    return f"{item.attribute} {_value(item.found)} → {_value(item.wanted)}"


def _shape(item: Difference) -> str:
    """In the words that it is declared in."""
    name = item.attribute.partition("_")[0]
    return f"{name} {quantity(item.attribute, item.found)} → {quantity(item.attribute, item.wanted)}"


def _value(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(str(value))


_NAMES = {
    "address": "address {resource.address}{of}",
    "boot": "what the host keeps to restore its networks",
    "docker_user": "rule in Docker's chain DOCKER-USER (IPv{resource.family})",
    "fdb": "forwarding entries{of}",
    "frr": "BGP EVPN by FRR",
    "ipvs": "IPVS service {resource.label}",
    "ipvs_timeouts": "IPVS timeouts{of}",
    "link": "link {resource.name}{of}",
    "link_manager": "settings of {resource.manager}",
    "names": "names that resolvers have loaded",
    "namespace": "namespace {resource.name}",
    "neighbour": "neighbour entries{of}",
    "nftables": "table {resource.family} {resource.name}{of}",
    "resolved": "names of {resource.domain} in systemd-resolved",
    "resolver": "resolver{of}",
    "rule": "routing rule {resource.label}",
    "shaping": "limits and emulated link{of}",
    "sysctl": "setting {resource.name}{of}",
    "target": "units of applications{of}",
    "xfrm": "IPsec of encrypted networks",
}


def name_of(resource: Resource, part: str = "") -> str:
    """The object's name: what it is, and the sandbox or network it is of."""
    of = _of_owner(resource, part)
    if resource.kind == "route":
        destination = str(getattr(resource, "destination", ""))
        return f"default route{of}" if destination == "default" else f"route to {destination}{of}"
    if resource.kind == "file":
        directory = resource.key[1]
        sandbox = directory.rpartition("/")[2] if directory.startswith("/etc/netns/") else ""
        return f"name files of {sandbox}" if sandbox else f"files in {directory}"
    form = _NAMES.get(resource.kind)
    return form.format(resource=resource, of=of) if form else f"{resource.kind} {resource.label}"


def owner_of(part: str) -> tuple[str, str]:
    """Kind and name of what a part of a plan belongs to: a sandbox, a network, or the host with the name ""."""
    words = part.split(" ")
    if words[-2:-1] == ["sandbox"]:
        return "sandbox", words[-1]
    return ("network", words[1]) if words[0] == "network" else ("host", "")


def _of_owner(resource: Resource, part: str) -> str:
    """`` of db`` for an object in a sandbox, `` of network front`` for one of a network."""
    kind, name = owner_of(part)
    if kind == "sandbox":
        network = part.split(" ")[1]
        on = f" on {network}" if part.startswith("network ") and resource.kind in ("link", "shaping") else ""
        return f" of {name}{on}"
    if kind == "network":
        return f" of {part}"
    namespace = str(getattr(resource, "namespace", ""))
    return f" of {namespace}" if namespace else ""
