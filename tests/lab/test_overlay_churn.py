# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Overlays through a series of random changes and harms, each followed by a run and by a look at everything.

This is where Docker's overlays go wrong: an address that is used again elsewhere, a sandbox that moves, a host that
comes back (moby#52661, moby#35401).  ``CNM_CHURN_STEPS`` says how many steps (6, and 30 with --all),
``CNM_CHURN_SEED`` which (1).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Optional

import pytest
from fleet import Fleet
from lab import Lab
from overlaying import ended, matrix, overlay, reached_by, seen, unanswered, wrong
from sampling import WHOLE

STEPS = int(os.environ.get("CNM_CHURN_STEPS", "30" if WHOLE else "6"))
SEED = int(os.environ.get("CNM_CHURN_SEED", "1"))
SUBNETS = {"red": ["10.61.0.0/27"], "green": ["10.62.0.0/24", "fd62::/64"]}
NAMES = [f"c{number}" for number in range(1, 10)]

_HARM = {
    "an overlay's namespace": "ip netns delete {place}",
    "a VXLAN link": "ip -n {place} link delete {vxlan}",
    "a bridge": "ip -n {place} link delete {place}",
    "all forwarding entries": "ip -n {place} link set {vxlan} nomaster",
    "all neighbours": "ip -n {place} neighbour flush dev {place} nud permanent",
    "the bridge's rules": "ip netns exec {place} nft flush ruleset",
    "a sandbox's link": "ip -n {box} link delete eth0",
    "a sandbox's addresses": "ip -n {box} address flush dev eth0",
    "a sandbox's namespace": "ip netns delete {box}",
    "a resolver": "kill -9 $(head -n 1 /run/cnm/default/resolvers/{box}.pid)",
    "the host's rules": "nft delete table inet cnm",
    "the names": "rm -r /run/cnm/default/names",
    "the way out": "ip link delete cnm_gwbridge",
}


@dataclass
class Box:
    """A sandbox as it is declared."""

    host: str
    networks: list[str]
    mac: Optional[str] = None
    address: Optional[str] = None
    """Its MAC address on its first network, and its IPv4 address on ``red``, if they are."""

    def declared(self) -> dict[str, Any]:
        options: dict[str, dict[str, Any]] = {network: {} for network in self.networks}
        if self.mac:
            options[self.networks[0]]["mac_address"] = self.mac
        if self.address and "red" in options:
            options["red"]["ipv4_address"] = self.address
        return {"networks": options}


@dataclass
class Churn:
    """The inventory as it changes."""

    fleet: Fleet
    random: Random
    boxes: dict[str, Box] = field(default_factory=dict)
    gone: dict[str, dict[str, Box]] = field(default_factory=dict)
    """By host that is out of the inventory the sandboxes it will have when it is back."""
    history: list[str] = field(default_factory=list)
    kept: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    """By sandbox that was moved the addresses it has to keep, by network."""

    @property
    def hosts(self) -> list[str]:
        return [host for host in self.fleet.lab.hosts if host not in self.gone]

    def members(self) -> dict[str, dict[str, str]]:
        return {
            network: {name: box.host for name, box in sorted(self.boxes.items()) if network in box.networks}
            for network in SUBNETS
        }

    def step(self) -> None:
        """One random change and one random harm, and a run that has to put all in order."""
        chosen: list[Callable[[], Optional[str]]] = [self.add, self.add, self.remove, self.move, self.move]
        chosen += [self.change_mac, self.change_networks, self.drop_or_bring_back]
        harmed = self.harm()
        said = None
        self.kept = {}
        while said is None:
            said = self.random.choice(chosen)()
        for host, script in harmed:
            self.fleet.sh(host, script, check=False)
        self.history.append(f"{said}; {harmed}")
        self.converge()
        self.look()

    def converge(self) -> None:
        hosts: dict[str, Any] = {host: {"cnm_sandboxes": {}} for host in self.hosts}
        for name, box in self.boxes.items():
            hosts[box.host]["cnm_sandboxes"][name] = box.declared()
        self.fleet.hosts = self.hosts
        reached_by(self.fleet, without=list(self.gone))
        networks = {name: overlay(*subnets) for name, subnets in SUBNETS.items()}
        self.fleet.declare({"cnm_networks": networks}, **hosts)
        self.fleet.site()

    def look(self) -> None:
        members = self.members()
        assert wrong(self.fleet, SUBNETS, members) == []
        trials = matrix(members)
        for host, group in matrix({"green": members["green"]}, words=[["-6"]], whole=False).items():
            trials.setdefault(host, []).extend(group)
        if unanswered(self.fleet, trials):
            # A veth whose two ends have the same index gets its carrier up to a second later (linkwatch).
            time.sleep(1)
            assert unanswered(self.fleet, trials) == []
        for name, box in self.boxes.items():
            if box.mac or box.address:
                network = box.networks[0] if box.mac else "red"
                mac, addresses = seen(self.fleet, box.host).end(name, SUBNETS[network])
                assert box.mac in (None, mac), name
                assert network != "red" or box.address in (None, *addresses), name
        for name, places in self.kept.items():
            assert self.places_of(name) == places, f"{name} did not keep its addresses"

    def places_of(self, name: str) -> dict[str, list[str]]:
        box = self.boxes[name]
        found = seen(self.fleet, box.host)
        return {network: found.end(name, SUBNETS[network])[1] for network in box.networks}

    def add(self) -> Optional[str]:
        free = [name for name in NAMES if name not in self.boxes and not any(name in of for of in self.gone.values())]
        if not free:
            return None
        name, host = self.random.choice(free), self.random.choice(self.hosts)
        networks = self.random.choice([["red"], ["green"], ["red", "green"], ["green", "red"]])
        self.boxes[name] = Box(host, networks)
        return f"add {name} on {host} to {networks}"

    def remove(self) -> Optional[str]:
        if len(self.boxes) < 3:
            return None
        name = self.random.choice(sorted(self.boxes))
        del self.boxes[name]
        return f"remove {name}"

    def move(self) -> Optional[str]:
        if not self.boxes or len(self.hosts) < 2:
            return None
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        before, where = box.host, self.random.choice([host for host in self.hosts if host != box.host])
        self.kept = {name: self.places_of(name)}
        if "red" in box.networks and self.random.random() < 0.5:
            (box.address,) = self.kept[name]["red"]
        box.host = where
        return f"move {name} from {before} to {where} with {self.kept[name]}, {box.address or 'none'} declared"

    def change_mac(self) -> Optional[str]:
        if not self.boxes:
            return None
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        box.mac = None if box.mac else "02:" + ":".join(f"{self.random.randrange(256):02x}" for _octet in range(5))
        return f"change the MAC address of {name} to {box.mac or 'its own'}"

    def change_networks(self) -> Optional[str]:
        if not self.boxes:
            return None
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        box.networks = self.random.choice([["red"], ["green"], ["red", "green"], ["green", "red"]])
        return f"connect {name} to {box.networks}"

    def drop_or_bring_back(self) -> str:
        if self.gone:
            host, boxes = self.gone.popitem()
            self.boxes.update(boxes)
            return f"bring {host} back with {sorted(boxes)}"
        host = self.random.choice(self.hosts)
        self.gone[host] = {name: box for name, box in self.boxes.items() if box.host == host}
        for name in self.gone[host]:
            del self.boxes[name]
        return f"drop {host} with {sorted(self.gone[host])}"

    def harm(self) -> list[tuple[str, str]]:
        """A host and what to do there, once the change has been chosen: that looks at how things are."""
        if not self.boxes:
            return []
        name = self.random.choice(sorted(self.boxes))
        box = self.boxes[name]
        place = seen(self.fleet, box.host).place(self.random.choice(box.networks))
        _what, script = self.random.choice(sorted(_HARM.items()))
        return [(box.host, script.format(place=place, vxlan=f"vx-{place[3:]}", box=name))]


def test_after_every_change_all_hosts_have_what_the_inventory_says(trio: Lab, tmp_path: Path) -> None:
    with ended(Fleet(trio, tmp_path)) as fleet:
        churn = Churn(fleet, Random(SEED))
        for number, host in enumerate(fleet.hosts, 1):
            churn.boxes[f"c{number}"] = Box(host, ["red", "green"])
        churn.converge()
        churn.look()
        try:
            for _step in range(STEPS):
                churn.step()
        except BaseException as error:
            steps = "\n".join(f"{number}: {said}" for number, said in enumerate(churn.history, 1))
            pytest.fail(f"seed {SEED}, after these steps:\n{steps}\n{error}")
        finally:
            fleet.hosts = fleet.lab.hosts
