# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Examples of several modules can be tried on one host, one after the other, in any order."""

from __future__ import annotations

import importlib
from ipaddress import ip_network
from itertools import combinations
from typing import Any

import yaml

MODEL = ("endpoint", "network", "sandbox", "service")


def made(what: str) -> list[tuple[str, dict[str, Any]]]:
    """(module, arguments) of each example that makes a network, or a sandbox."""
    found = []
    for module in MODEL:
        documented = importlib.import_module(f"ansible_collections.cnm.fabric.plugins.modules.{module}").EXAMPLES
        tasks = [task.get(f"cnm.fabric.{what}") for task in yaml.safe_load(documented)]
        found += [(module, arguments) for arguments in tasks if arguments and arguments.get("state") != "absent"]
    return found


def owners(what: str) -> dict[str, set[str]]:
    """The modules in whose examples each name is made."""
    result: dict[str, set[str]] = {}
    for module, arguments in made(what):
        result.setdefault(arguments["name"], set()).add(module)
    return result


def test_names_are_those_of_one_module() -> None:
    for what in ("network", "sandbox", "service"):
        assert owners(what)
        assert [name for name, modules in owners(what).items() if len(modules) > 1] == []


def test_subnets_are_those_of_one_network() -> None:
    subnets = {}
    for _module, arguments in made("network"):
        configs = (arguments.get("ipam") or {}).get("config") or [{"subnet": arguments.get("subnet")}]
        for config in configs:
            if config["subnet"]:
                subnets[ip_network(config["subnet"])] = arguments["name"]
    assert len(subnets) == len(owners("network"))
    overlapping = [pair for pair in combinations(subnets, 2) if pair[0].overlaps(pair[1])]
    assert overlapping == []
