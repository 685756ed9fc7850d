# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What ``verify`` proves on a host, derived from its plan's model.  Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

ICC = "com.docker.network.bridge.enable_icc"

Check = dict[str, Any]
"""``{"sandbox": "c1", "reach": [address …], "refuse": [address …], "names": {name: [address …]},
"way_out": true}``"""


def checks_of(model: Mapping[str, Any], limit: int) -> list[Check]:
    """For each sandbox of a host: whom it must reach, whom it must not, and what must resolve to what.

    ``limit`` bounds the pairs tried each way; beyond it a fixed sample is taken, the same from run to run.
    """
    addresses = _addresses(model["sandboxes"])
    unconnected = {document["Name"] for document in model["networks"] if document["Options"].get(ICC) == "false"}
    internal = {document["Name"] for document in model["networks"] if document["Internal"]}
    pairs = [(one, other) for one in sorted(addresses) for other in sorted(addresses) if one != other]
    chosen = set(_sample([p for p in pairs if _shared(addresses, *p)], limit))
    chosen |= set(_sample([p for p in pairs if not _shared(addresses, *p)], limit))
    result = []
    for sandbox, entry in sorted(model["sandboxes"].items()):
        if not entry["endpoints"]:
            continue
        reach: set[str] = set()
        refuse: set[str] = set()
        names: dict[str, list[str]] = {}
        for endpoint in entry["endpoints"]:
            if endpoint["network"] not in internal:
                reach.add(endpoint["gateway"])
        for _one, other in sorted(pair for pair in chosen if pair[0] == sandbox):
            shared = _shared(addresses, sandbox, other)
            reach.update(addresses[other][network] for network in shared if network not in unconnected)
            refuse.update(addresses[other][network] for network in shared if network in unconnected)
            if not shared:
                refuse.update(addresses[other].values())
            for name in _names(model, other):
                if shared:
                    names[name] = _expected(model, entry, name)
        way_out = any(endpoint["network"] not in internal for endpoint in entry["endpoints"])
        check = {"reach": sorted(reach), "refuse": sorted(refuse), "names": names, "way_out": way_out}
        result.append({"sandbox": sandbox, **check})
    return result


def _addresses(sandboxes: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    return {
        name: {item["network"]: item["address"].partition("/")[0] for item in entry["endpoints"]}
        for name, entry in sandboxes.items()
        if entry["endpoints"]
    }


def _shared(addresses: Mapping[str, Mapping[str, str]], one: str, other: str) -> list[str]:
    return sorted(set(addresses[one]) & set(addresses[other]))


def _sample(pairs: Sequence[tuple[str, str]], limit: int) -> Sequence[tuple[str, str]]:
    if len(pairs) <= limit:
        return pairs
    return sorted(pairs, key=lambda pair: hashlib.sha256("\0".join(pair).encode()).digest())[:limit]


def _names(model: Mapping[str, Any], sandbox: str) -> list[str]:
    return sorted({name for item in model["sandboxes"][sandbox]["endpoints"] for name in item["names"]})


def _expected(model: Mapping[str, Any], asker: Mapping[str, Any], name: str) -> list[str]:
    """Everyone the name stands for on the networks the asker is on."""
    networks = {item["network"] for item in asker["endpoints"]}
    return sorted(
        item["address"].partition("/")[0]
        for entry in model["sandboxes"].values()
        for item in entry["endpoints"]
        if item["network"] in networks and name in item["names"]
    )
