# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Fails in the method that its option names, or returns from it what it must not."""

from __future__ import annotations

from typing import Any

from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.api import Driver, Option, Traits, word

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


class Failing(Driver):
    interface = 1
    options = {
        "raise": Option(word("method", METHODS), "Raises in this method."),
        "return": Option(word("method", METHODS), "Returns an object() from this method."),
    }


def _method(name: str, usual: Any) -> Any:
    def method(self: Failing, *given: Any) -> Any:
        owner = getattr(given[0], "network", given[0])
        network = getattr(owner, "network", owner)
        if network.option("raise") == name:
            raise KeyError(f"no {name}\x1b[2J")
        return object() if network.option("return") == name else usual

    return method


_TRAITS = Traits(spans_hosts=True, ways_out=(4,), bridged=False)
_USUAL = {"traits": _TRAITS, "host_addresses": [], "network_resources": [], "endpoint_resources": []}

for _name in METHODS:
    setattr(Failing, _name, _method(_name, _USUAL.get(_name)))

DRIVER = Failing()
