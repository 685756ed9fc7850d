# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is compared: networks and boxes, declared once, and said to Docker's SDK and in our variables.

A box is a container there and a sandbox here.  All scenarios stand side by side on one host, so names, subnets and
published ports are unique among them.  Every box answers on port 80; ``{second}`` is the host's second address.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any, Optional

from docker.types import IPAMConfig, IPAMPool

BRIDGE = "com.docker.network.bridge."
OPEN, CLOSED = 80, 81


@dataclass(frozen=True)
class Net:
    """A network, usually of the driver bridge."""

    subnets: tuple[str, ...]
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    gateway: Optional[str] = None
    ip_range: Optional[str] = None
    driver: str = "bridge"

    def gateways(self) -> dict[int, str]:
        """The bridge's address in each family."""
        found: dict[int, str] = {ip_network(item).version: str(ip_network(item)[1]) for item in self.subnets}
        if self.gateway:
            found[4] = self.gateway
        return found

    def docker(self) -> dict[str, Any]:
        """The arguments of the SDK's ``networks.create``."""
        first, *others = self.subnets
        pools = [IPAMPool(first, self.ip_range, self.gateway), *map(IPAMPool, others)]
        return {
            "driver": self.driver,
            "ipam": {**IPAMConfig(pool_configs=pools), "Options": {}},  # as docker network create has it
            "enable_ipv6": any(":" in item for item in self.subnets),
            "internal": self.internal,
            "options": dict(self.options),
            "labels": {},
        }

    def ours(self) -> dict[str, Any]:
        """The entry of ``cnm_networks``."""
        first = {"subnet": self.subnets[0], "gateway": self.gateway, "ip_range": self.ip_range}
        config = [{key: value for key, value in first.items() if value}, *({"subnet": s} for s in self.subnets[1:])]
        entry: dict[str, Any] = {"ipam": {"config": config}, "driver_opts": dict(self.options)}
        entry["internal"], entry["driver"] = self.internal, self.driver
        entry["enable_ipv6"] = any(":" in item for item in self.subnets)
        return {**entry, "attachable": False}  # as docker network create has it


@dataclass(frozen=True)
class Box:
    """A container or sandbox: its networks in order with what its endpoints say, none for the default bridge."""

    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    ports: tuple[str, ...] = ()

    @property
    def static(self) -> bool:
        """Whether it asks for addresses; such boxes come first."""
        return any("ipv4_address" in options for options in self.networks.values())

    def ours(self) -> dict[str, Any]:
        """The entry of ``cnm_sandboxes``."""
        networks = {"networks": {key: dict(value) for key, value in self.networks.items()}} if self.networks else {}
        return {**networks, "ports": list(self.ports)} if self.ports else networks


@dataclass(frozen=True)
class Published:
    """A port of the host: at which addresses (empty: all), its number, protocol, and the box's port it leads to."""

    box: str
    address: str
    port: int
    protocol: str
    target: int


@dataclass(frozen=True)
class Scenario:
    """Networks and boxes; ``expected`` stands for Docker where its 20.10 does not know the option: see `known`."""

    about: str
    nets: Mapping[str, Net] = field(default_factory=dict)
    boxes: Mapping[str, Box] = field(default_factory=dict)
    docker: bool = True

    def published(self, second: str) -> list[Published]:
        """Every published port, ranges taken apart."""
        return [item for name, box in self.boxes.items() for port in box.ports for item in _parse(name, port, second)]

    def started(self) -> list[tuple[str, Box]]:
        """The boxes in the order in which they get addresses here, so that Docker gives the same ones."""
        return sorted(self.boxes.items(), key=lambda item: (not item[1].static, item[0]))


def _parse(box: str, port: str, second: str) -> Iterator[Published]:
    match = re.fullmatch(r"(?:(.*):)?([\d-]+):([\d-]+)(?:/(\w+))?", port.replace("{second}", second))
    assert match, port
    address, published, target, protocol = match.groups()
    numbers, targets = (
        range(int(low), int(high or low) + 1)
        for low, _dash, high in (item.partition("-") for item in (published, target))
    )
    for number, inner in zip(numbers, targets):
        yield Published(box, address or "", number, protocol or "tcp", inner)


def _on(*names: str) -> dict[str, dict[str, Any]]:
    return {name: {} for name in names}


def _both(words: str) -> tuple[str, str]:
    """The port over TCP and over UDP."""
    return (words, f"{words}/udp")


def _pair(net: str, **options: Any) -> dict[str, Box]:
    """Two boxes on a network; the first publishes ``ports``."""
    return {f"{net}1": Box(_on(net), options.get("ports", ())), f"{net}2": Box(_on(net))}


STRANGER = Scenario(
    "a box on a network of its own, whom all the others are tried from",
    {"far": Net(("10.60.0.0/24", "fd60::/64"))},
    {"stranger": Box(_on("far"))},
)

SCENARIOS: dict[str, Scenario] = {
    "default": Scenario(
        "the network that boxes are on that say none",
        {},
        {"default1": Box(ports=_both("8001:80")), "default2": Box()},
    ),
    "plain": Scenario(
        "two boxes on a network, an alias, no port",
        {"plain": Net(("10.60.1.0/24",))},
        {"plain1": Box({"plain": {"aliases": ["store", "shop"]}}), "plain2": Box({"plain": {"aliases": ["shop"]}})},
    ),
    "noicc": Scenario(
        "no communication among the network's boxes",
        {"noicc": Net(("10.60.2.0/24",), options={BRIDGE + "enable_icc": "false"})},
        {**_pair("noicc", ports=_both("8002:80")), "noicc3": Box(_on("noicc"))},
    ),
    "noicc6": Scenario(
        "the same in both families",
        {"noicc6": Net(("10.60.18.0/24", "fd60:0:0:12::/64"), options={BRIDGE + "enable_icc": "false"})},
        _pair("noicc6", ports=_both("8018:80")),
    ),
    "internal": Scenario(
        "a network with no way out",
        {"internal": Net(("10.60.3.0/24",), internal=True)},
        _pair("internal"),
    ),
    "lan": Scenario(
        "a macvlan network on the host's own link",
        {"lan": Net(("10.60.40.0/24",), options={"parent": "eth0"}, gateway="10.60.40.1", driver="macvlan")},
        _pair("lan"),
    ),
    "two": Scenario(
        "one box on two networks, one of them internal",
        {"front": Net(("10.60.4.0/24",)), "back": Net(("10.60.5.0/24",), internal=True)},
        {
            "two-back": Box(_on("back")),
            "two-both": Box({"back": {"aliases": ["api"]}, "front": {"aliases": ["web"]}}, _both("8004:80")),
            "two-front": Box(_on("front")),
        },
    ),
    "ports": Scenario(
        "published TCP and UDP ports, and the way back to oneself through them",
        {"ports": Net(("10.60.6.0/24",))},
        _pair("ports", ports=_both("8006:80")),
    ),
    "loopback": Scenario(
        "ports published at 127.0.0.1",
        {"lonely": Net(("10.60.7.0/24",))},
        _pair("lonely", ports=_both("127.0.0.1:8007:80")),
    ),
    "second": Scenario(
        "ports published at one address of the host",
        {"bound": Net(("10.60.8.0/24",))},
        _pair("bound", ports=_both("{second}:8008:80")),
    ),
    "binding": Scenario(
        "a network whose ports are published at 127.0.0.1 unless they say otherwise",
        {"binding": Net(("10.60.9.0/24",), options={BRIDGE + "host_binding_ipv4": "127.0.0.1"})},
        _pair("binding", ports=_both("8009:80")),
    ),
    "range": Scenario(
        "a range of ports, to other numbers",
        {"range": Net(("10.60.10.0/24",))},
        _pair("range", ports=_both("8110-8112:9110-9112")),
    ),
    "nomasq": Scenario(
        "a network that keeps its addresses on its way out",
        {"nomasq": Net(("10.60.11.0/24",), options={BRIDGE + "enable_ip_masquerade": "false"})},
        _pair("nomasq", ports=_both("8011:80")),
    ),
    "named": Scenario(
        "a bridge with a name and an MTU",
        {
            "named": Net(
                ("10.60.12.0/24",), options={BRIDGE + "name": "br-named", "com.docker.network.driver.mtu": "1400"}
            )
        },
        _pair("named"),
    ),
    "static": Scenario(
        "addresses that are asked for, a gateway, and a range for the others",
        {"static": Net(("10.60.13.0/24",), gateway="10.60.13.254", ip_range="10.60.13.64/26")},
        {
            "static1": Box({"static": {"ipv4_address": "10.60.13.77"}}, _both("8013:80")),
            "static2": Box(_on("static")),
            "static3": Box({"static": {"ipv4_address": "10.60.13.64"}}),
        },
    ),
    "dual": Scenario(
        "both families",
        {"dual": Net(("10.60.14.0/24", "fd60:0:0:e::/64"))},
        _pair("dual", ports=_both("8014:80")),
    ),
    "dual-internal": Scenario(
        "both families with no way out",
        {"shut": Net(("10.60.15.0/24", "fd60:0:0:f::/64"), internal=True)},
        _pair("shut"),
    ),
    "apart": Scenario(
        "two boxes that share no network; each publishes a port",
        {"apart-a": Net(("10.60.16.0/24", "fd60:0:0:10::/64")), "apart-b": Net(("10.60.17.0/24", "fd60:0:0:11::/64"))},
        {"apart1": Box(_on("apart-a"), _both("8016:80")), "apart2": Box(_on("apart-b"), _both("8017:80"))},
    ),
    "nobody": Scenario(
        "two boxes that share no network and publish nothing",
        {"nobody-a": Net(("10.60.19.0/24",)), "nobody-b": Net(("10.60.20.0/24",))},
        {"nobody1": Box(_on("nobody-a")), "nobody2": Box(_on("nobody-b"))},
    ),
    "routed": Scenario(
        "gateway mode routed (since 27.0)",
        {
            "routed": Net(
                ("10.60.21.0/24", "fd60:0:0:15::/64"),
                options={BRIDGE + "gateway_mode_ipv4": "routed", BRIDGE + "gateway_mode_ipv6": "routed"},
            )
        },
        _pair("routed", ports=_both("8021:80")),
        docker=False,
    ),
    "unprotected": Scenario(
        "gateway mode nat-unprotected (since 28.0)",
        {"unprot": Net(("10.60.22.0/24",), options={BRIDGE + "gateway_mode_ipv4": "nat-unprotected"})},
        _pair("unprot", ports=_both("8022:80")),
        docker=False,
    ),
    "isolated": Scenario(
        "gateway mode isolated (since 28.0)",
        {"isolated": Net(("10.60.23.0/24",), internal=True, options={BRIDGE + "gateway_mode_ipv4": "isolated"})},
        _pair("isolated"),
        docker=False,
    ),
}
