# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Fails in the method that its option names, or returns from it what it must not."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.api import (
    Driver,
    Link,
    Namespace,
    Option,
    Traits,
    Tunnel,
    VarPath,
    word,
)

METHODS = (
    "traits",
    "check",
    "check_members",
    "check_hosts",
    "attach",
    "bridge",
    "segment",
    "gateway",
    "host_addresses",
    "network_resources",
    "endpoint_resources",
)


FAULTS = ("bridge-name", "bridge-alone", "same-name", "no-plan", "ways-out", "tunnel")


def _fault(text: str, path: VarPath) -> str:
    if text == "reader":
        raise RuntimeError("cannot read")
    return word("fault", FAULTS)(text, path)


class Failing(Driver):
    interface = 1
    options = {
        "fault": Option(_fault, "Returns what no plan can hold."),
        "raise": Option(word("method", METHODS), "Raises in this method."),
        "return": Option(word("method", METHODS), "Returns an object() from this method."),
    }


def _method(name: str, usual: Any) -> Any:
    def method(self: Failing, *given: Any) -> Any:
        owner = getattr(given[0], "network", given[0])
        network = getattr(owner, "network", owner)
        if network.option("raise") == name:
            raise KeyError(f"no {name}\x1b[2J")
        found = _FAULTS.get((network.option("fault"), name), usual)
        return object() if network.option("return") == name else found

    return method


_TRAITS = Traits(spans_hosts=True, ways_out=(4,), bridged=False)
_FAULTS = {
    ("bridge-name", "bridge"): "b" * 40,
    ("bridge-alone", "bridge"): "br-alone",
    ("same-name", "network_resources"): [Namespace("c1", role="wire/n")],
    ("no-plan", "network_resources"): [Link("", "a link", "bridge")],
    ("ways-out", "traits"): Traits(ways_out=None),  # type: ignore[arg-type]
    ("tunnel", "traits"): Traits(tunnel=Tunnel()),
}
_USUAL = {"traits": _TRAITS, "host_addresses": [], "network_resources": [], "endpoint_resources": []}

for _name in METHODS:
    setattr(Failing, _name, _method(_name, _USUAL.get(_name)))

DRIVER = Failing()
