# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is promised but not there yet: the one place that refuses it.

Each row of `ROWS` says where to look in an entry of the variables, what of it is refused, and in which words.  When a
feature arrives, its row goes; nothing else in the declaration has to change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .mistakes import Place
from .networks import BRIDGE_OPTIONS_LATER, OF_A_COLLECTION
from .sandboxes import split_host
from .values import flag


@dataclass(frozen=True)
class Spot:
    """A value in an entry: the last key (or index) on the way to it, the value itself, and the whole entry."""

    key: Any
    value: Any
    entry: Mapping[str, Any]
    stated: frozenset[str]
    """Keys the user gave a value, right or wrong."""


@dataclass(frozen=True)
class Row:
    """``where``: the way to the value within an entry of ``kind``, ``*`` for any key or index."""

    kind: str
    where: tuple[str, ...]
    refused: Callable[[Spot], bool]
    problem: str
    remedy: str


def _given(spot: Spot) -> bool:
    return spot.value not in ([], {}, "")


def _is(*words: str) -> Callable[[Spot], bool]:
    return lambda spot: spot.value in words


def _key_is(*words: str) -> Callable[[Spot], bool]:
    return lambda spot: spot.key in words


def _true(spot: Spot) -> bool:
    return flag(spot.value, False)


def _false(spot: Spot) -> bool:
    return not flag(spot.value, True)


def _ipv6(spot: Spot) -> bool:
    return isinstance(spot.value, str) and ":" in spot.value


def _ipv6_host(spot: Spot) -> bool:
    """An IPv6 address of ``extra_hosts``, in a mapping or in a list of ``name=address``."""
    if isinstance(spot.key, int) and isinstance(spot.entry.get("extra_hosts"), list):
        return ":" in (split_host(spot.value)[1] or "")
    return _ipv6(spot)


def _host_gateway(spot: Spot) -> bool:
    in_list = isinstance(spot.key, int) and isinstance(spot.entry.get("extra_hosts"), list)
    return (split_host(spot.value)[1] if in_list else spot.value) == "host-gateway"


def _third_party(spot: Spot) -> bool:
    return OF_A_COLLECTION.fullmatch(spot.value) is not None


def _overlay_only(spot: Spot) -> bool:
    return _true(spot) and spot.entry.get("driver") == "overlay"


def _later_option(spot: Spot) -> bool:
    return spot.entry.get("driver") in (None, "bridge") and spot.key in BRIDGE_OPTIONS_LATER


def _on_no_network(spot: Spot) -> bool:
    return not {"networks", "network_mode"} & spot.stated


def _empty_networks(spot: Spot) -> bool:
    return not spot.value and "network_mode" not in spot.stated


def _later_store(spot: Spot) -> bool:
    return str(spot.value).startswith(("etcd://", "zookeeper://", "consul://"))


_NET, _BOX, _SVC, _SET = "cnm_networks", "cnm_sandboxes", "cnm_services", "settings"
_IPV6 = "IPv6 is not there yet."
_NO_IPV6 = "Leave it out, and use IPv4 meanwhile."
_BRIDGE = "The predefined network `bridge` is not there yet."
_OWN_BRIDGE = "Declare a network of the driver bridge and name it in `networks`, or write `network_mode: none`."

# fmt: off
ROWS = (
    Row(_NET, ("driver",), _is("overlay"), "The driver overlay is not there yet.",
        "Use the driver bridge for the sandboxes of one host meanwhile."),
    Row(_NET, ("driver",), _is("macvlan", "ipvlan"), "The drivers macvlan and ipvlan are not there yet.",
        "Use the driver bridge meanwhile."),
    Row(_NET, ("driver",), _third_party, "Drivers of other collections are not there yet.",
        "Use the driver bridge meanwhile."),
    Row(_NET, ("enable_ipv4",), _false, "Networks without IPv4 are not there yet.", "Leave it out meanwhile."),
    Row(_NET, ("enable_ipv6",), _true, _IPV6, _NO_IPV6),
    Row(_NET, ("subnet",), _ipv6, _IPV6, _NO_IPV6),
    Row(_NET, ("subnet", "*"), _ipv6, _IPV6, _NO_IPV6),
    Row(_NET, ("ipam", "config", "*", "subnet"), _ipv6, _IPV6, _NO_IPV6),
    Row(_NET, ("ipam", "config", "*", "aux_addresses", "*"), _key_is("DefaultGatewayIPv4", "DefaultGatewayIPv6"),
        "An aux address that gives sandboxes another gateway is not there yet.",
        "Leave it out meanwhile: the gateway is the bridge's address."),
    Row(_NET, ("ipam", "driver"), lambda spot: spot.value != "default", "Other IPAM drivers are not there yet.",
        "Leave it out meanwhile; addresses come from the subnet."),
    Row(_NET, ("ipam", "options"), _given, "Options of an IPAM driver are not there yet.", "Leave them out meanwhile."),
    Row(_NET, ("encrypted",), _overlay_only, "Encryption of overlays is not there yet.", "Leave it out meanwhile."),
    Row(_NET, ("driver_opts", "*"), _later_option, "This option is not there yet.", "Leave it out meanwhile."),
    Row(_BOX, (), _on_no_network, _BRIDGE, _OWN_BRIDGE),
    Row(_BOX, ("networks",), _empty_networks, _BRIDGE, _OWN_BRIDGE),
    Row(_BOX, ("networks", "*"), lambda spot: "bridge" in (spot.key, spot.value), _BRIDGE, _OWN_BRIDGE),
    Row(_BOX, ("network_mode",), _is("bridge"), _BRIDGE, _OWN_BRIDGE),
    Row(_BOX, ("networks", "*", "ipv6_address"), _given, _IPV6, _NO_IPV6),
    Row(_BOX, ("networks", "*", "driver_opts"), _given, "Driver options of an endpoint are not there yet.",
        "Leave them out meanwhile; a link's name is set with `interface_name`."),
    Row(_BOX, ("ports",), _given, "Published ports are not there yet.",
        "Leave them out meanwhile; the host itself reaches a sandbox at its address."),
    Row(_BOX, ("sysctls",), _given, "Sysctls of a sandbox are not there yet.",
        "Leave them out meanwhile; whatever runs in the sandbox can set them."),
    Row(_BOX, ("namespace",), _given, "Sandboxes in somebody else's namespace are not there yet.",
        "Leave it out meanwhile: the sandbox gets a namespace of its own, /run/netns/<its name>."),
    Row(_BOX, ("dns",), _ipv6, _IPV6, _NO_IPV6),
    Row(_BOX, ("dns", "*"), _ipv6, _IPV6, _NO_IPV6),
    Row(_BOX, ("extra_hosts", "*"), _ipv6_host, _IPV6, _NO_IPV6),
    Row(_BOX, ("extra_hosts", "*", "*"), _ipv6, _IPV6, _NO_IPV6),
    Row(_BOX, ("extra_hosts", "*"), _host_gateway, "`host-gateway` is not there yet.",
        "Write the host's address meanwhile."),
    Row(_BOX, ("extra_hosts", "*", "*"), _is("host-gateway"), "`host-gateway` is not there yet.",
        "Write the host's address meanwhile."),
    Row(_SVC, (), lambda _spot: True, "Services are not there yet.",
        "Declare each task as a sandbox of its own in cnm_sandboxes meanwhile, with the service's name as an alias."),
    Row(_SET, ("cnm_leases",), _later_store, "Lease stores other than SQLite are not there yet.",
        "Write `sqlite:///` and a path meanwhile, or leave it out."),
    Row(_SET, ("cnm_default_address_pools", "*", "base"), _ipv6, _IPV6, _NO_IPV6),
)
# fmt: on


def refuse(kind: str, entry: Mapping[str, Any], stated: frozenset[str], place: Place) -> None:
    """Note what of an entry of that kind (a declaration's name, or ``settings``) is not there yet."""
    for row in ROWS:
        if row.kind != kind:
            continue
        for key, value, where in _walk(entry, row.where, place):
            if row.refused(Spot(key, value, entry, stated)):
                where.wrong(row.problem, row.remedy, value)


def _walk(value: Any, where: tuple[str, ...], place: Place, key: Any = "") -> Iterator[tuple[Any, Any, Place]]:
    """(last key, value, place) of whatever stands at the end of the way; what is not there or None is passed over.

    A null behind a key of the user's own counts: ``networks: {bridge: }``.
    """
    if not where:
        yield key, value, place
        return
    first, rest = where[0], where[1:]
    if isinstance(value, Mapping):
        for name in [name for name in value if first in ("*", name)]:
            if value[name] is not None or (first == "*" and not rest):
                yield from _walk(value[name], rest, place / name, name)
    elif isinstance(value, list) and first == "*":
        for index, item in enumerate(value):
            if item is not None:
                yield from _walk(item, rest, place / index, index)
