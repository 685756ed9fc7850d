# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Forms of reports that are shown to users: the model of a kept plan, operations, failed checks of verify.  Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...module_utils.plan.constants import MAC
from ...module_utils.plan.marks import identifier
from ..declaration.schema import PEERS
from ..forms import (
    LONGEST,
    Form,
    ReportErrors,
    Unfit,
    address,
    address_with_length,
    choice,
    flag,
    lined,
    listing,
    mapping,
    matching,
    number,
    optional,
    plain,
    prefix,
    record,
    text,
    words,
    written,
)

_WORD, _LINE = text(255), text(1024)
_ID = matching("[0-9a-f]{64}", 64, "id")
_ADDRESS = matching(r"[0-9a-fA-F.:/]{0,50}", 50, "address")
_MAC = matching(rf"(?:{MAC})?", 17, "MAC address")
_CONTAINER = record(
    {"Name": _WORD, "EndpointID": _ID, "MacAddress": _MAC, "IPv4Address": _ADDRESS, "IPv6Address": _ADDRESS},
    ("Name", "EndpointID", "MacAddress", "IPv4Address", "IPv6Address"),
)
_CONFIG = record(
    {"Subnet": prefix, "IPRange": prefix, "Gateway": address, "AuxiliaryAddresses": mapping(_WORD, address)},
    ("Subnet",),
)
_IPAM = record(
    {"Driver": _WORD, "Options": mapping(_WORD, _LINE), "Config": listing(_CONFIG, 64)}, ("Driver", "Options", "Config")
)
_TEXTS = mapping(_LINE, written(), 4096)
_DOCUMENT: dict[str, Form] = {
    "Name": _WORD,
    "Id": _ID,
    "Created": _WORD,
    "Scope": choice("local", "swarm"),
    "Driver": _WORD,
    "EnableIPv4": flag,
    "EnableIPv6": flag,
    "IPAM": _IPAM,
    "Internal": flag,
    "Attachable": flag,
    "Ingress": flag,
    "ConfigFrom": record({"Network": _WORD}),
    "ConfigOnly": flag,
    "Containers": mapping(_ID, _CONTAINER),
    "Options": _TEXTS,
    "Labels": _TEXTS,
}
_PEER = record({"Name": _WORD, "IP": address}, ("Name", "IP"))
_ENDPOINT: dict[str, Form] = {
    "network": _WORD,
    "link": _WORD,
    "addresses": listing(address_with_length, 64),
    "gateways": listing(address, 64),
    "names": listing(_WORD, 4096),
}
_SANDBOX: dict[str, Form] = {
    "network_mode": optional(_WORD),
    "ports": listing(_LINE),
    "endpoints": listing(record(_ENDPOINT, tuple(_ENDPOINT)), 4096),
}


def _target(value: Any, errors: ReportErrors) -> list[Any]:
    """An address and a port."""
    if not isinstance(value, list) or len(value) != 2:
        raise Unfit("it is not an address and a port")
    return [address(value[0], errors), number(1, 65535)(value[1], errors)]


_POLICY: dict[str, Form] = {
    "policies": listing(_WORD, 4096),
    "networks": listing(_WORD, 4096),
    "open": listing(address, 4096),
    "closed": listing(address, 4096),
    "connects": listing(_target, 4096),
}
_NUMBERS = listing(number(0, 65535), 2)


def _range(value: Any, errors: ReportErrors) -> list[int]:
    """The first and the last port of a range."""
    found: list[int] = _NUMBERS(value, errors)
    if len(found) != 2:
        raise Unfit("it is not a range of ports")
    return found


_PORT: dict[str, Form] = {
    "published": _range,
    "target": _range,
    "protocol": choice("tcp", "udp", "sctp"),
    "host_ip": optional(_ADDRESS),
    "note": _LINE,
}
_ON_NETWORK = record({"vips": listing(address, 64), "names": listing(_WORD, 4096), "answers": flag}, ("vips", "names"))
_SERVICE: dict[str, Form] = {
    "mode": _WORD,
    "wanted": number(0, 2**31),
    "answers": flag,
    "networks": mapping(_WORD, _ON_NETWORK),
    "ports": listing(record(_PORT, ("published", "target", "protocol", "host_ip"))),
    "tasks": mapping(
        matching(r".{1,254}\.[1-9][0-9]{0,6}", 255, "task"), record({"weight": number(0, 65535)}, ("weight",))
    ),
}


def _peer(value: Any, errors: ReportErrors) -> list[Any]:
    """The kind and the name of a rule's peer."""
    if not isinstance(value, list) or len(value) != 2:
        raise Unfit("it is not a kind and a name")
    return [choice(*PEERS)(value[0], errors), _WORD(value[1], errors)]


_RULE: dict[str, Form] = {
    "action": choice("allow", "drop", "reject"),
    "peers": listing(_peer, 4096),
    "about": listing(matching(r"[a-z0-9/-]{1,64}", 64, "port or protocol"), 4096),
}
_JUDGED: dict[str, Form] = {
    "default": choice("allow", "drop", "reject", ""),
    "rules": listing(record(_RULE, tuple(_RULE)), 4096),
}
_RULES = dict.fromkeys(("ingress", "egress"), record(_JUDGED, tuple(_JUDGED)))
_TRAITS: dict[str, Form] = {"isolates": optional(flag), "public": flag, "ways_out": listing(number(4, 6), 2)}
_MODEL = record(
    {
        "networks": listing(record({**_DOCUMENT, "Peers": listing(_PEER)}, tuple(_DOCUMENT)), 4096),
        "traits": mapping(_WORD, record({**_TRAITS, "policies": listing(_WORD, 4096)}, tuple(_TRAITS))),
        "sandboxes": mapping(_WORD, record({**_SANDBOX, "policy": record(_POLICY, tuple(_POLICY))}, tuple(_SANDBOX))),
        "services": mapping(_WORD, record({**_SERVICE, "judged": flag}, tuple(_SERVICE))),
        "load_balancer": choice("ipvs", "nftables", ""),
        "policies": mapping(_WORD, record(_RULES, tuple(_RULES))),
    },
)


def MODEL(value: Any, errors: ReportErrors) -> dict[str, Any]:
    """The section ``model`` of a plan; {} for none."""
    found: dict[str, Any] = _MODEL(value, errors)
    if not found:
        return {}
    sandboxes = found.setdefault("sandboxes", {})
    found.setdefault("networks", [])
    for name, service in found.get("services", {}).items():
        unknown = [task for task in service["tasks"] if task not in sandboxes]
        for task in unknown:
            del service["tasks"][task]
            errors.append((f".services.{name}.tasks.{task}", "it is not one of its sandboxes"))
    return found


def own_model(model: Mapping[str, Any], host: str, project: str) -> dict[str, Any]:
    """The model without entries that have the id of another host's network or sandbox."""
    documents = []
    for document in model.get("networks", ()):
        name = document["Name"]
        if document["Id"] not in (identifier("network", project, host, name), identifier("network", project, name)):
            continue
        own = {
            key: container
            for key, container in document["Containers"].items()
            if key == identifier("sandbox", project, host, container["Name"])
        }
        peers = [peer for peer in document.get("Peers", ()) if peer["Name"] == host]
        documents.append({**document, "Containers": own, **({"Peers": peers} if "Peers" in document else {})})
    return {**model, "networks": documents} if model else {}


_ACTION = choice("create", "change", "replace", "delete", "wait for")
_VALUE = plain(longest=2**20)
_DIFFERENCE: dict[str, Form] = {"attribute": _WORD, "found": _VALUE, "wanted": _VALUE}
_OPERATION = record(
    {
        "action": _ACTION,
        "kind": _WORD,
        "name": _LINE,
        "reason": written(),
        "differences": listing(record(_DIFFERENCE, tuple(_DIFFERENCE))),
    },
    ("action", "kind", "name"),
)
OPERATIONS = listing(_OPERATION, 1_000_000)
_CHANGE: dict[str, Form] = {
    "action": choice("add", "change", "remove", "repair", "wait"),
    "kind": choice("network", "sandbox", "service", "host"),
    "name": optional(_WORD),
    "text": words(2000),
    "about": listing(_WORD),
}
CHANGES = listing(record(_CHANGE, ("action", "kind", "name", "text")), 100_000)
_MISS: dict[str, Form] = {
    "sandbox": _WORD,
    "check": _WORD,
    "target": text(),
    # A miss that is dropped is none, and a sandbox's root can answer a query at length.
    "wanted": words(LONGEST),
    "found": words(LONGEST),
}
COUNTS = mapping(_WORD, number(0, 2**53), 64)
_OF_A_PART: dict[str, Form] = {"kinds": listing(_WORD, 64), "entries": listing(_WORD, 4096)}
MISSES = listing(record({**_MISS, **_OF_A_PART}, tuple(_MISS)), 1_000_000)
_DROP: dict[str, Form] = {
    "packet": matching(r"(?:udp|tcp) [1-9][0-9]{0,4}|esp|icmp|ipv6-icmp", 16, "packet"),
    "chain": words(200),
    "hook": _WORD,
    "rule": words(200),
    "sure": flag,
}
VERIFY: dict[str, Form] = {
    "misses": MISSES,
    "counts": COUNTS,
    "unproven": MISSES,
    "drops": listing(record(_DROP, tuple(_DROP)), 4096),
    "silent": listing(address, 4096),
    "neighbours": number(0, 2**32 - 1),
}
"""What verify's module returns."""
_SIDE = lined(2**24)
_HEADER = text(1024)
DIFF = record({"before": _SIDE, "after": _SIDE, "before_header": _HEADER, "after_header": _HEADER}, ("before", "after"))
