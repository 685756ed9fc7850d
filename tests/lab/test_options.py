# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Every option of bridge networks, endpoints, sandboxes and ports: set, spelled otherwise, changed, removed.

`OPTIONS` is the table.  Each row says what is declared at each step, what is then seen in the kernel, and which links,
addresses, namespaces and resolvers that makes, removes or makes anew; whatever it does not name has to stay as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

import pytest
from fleet import Fleet, snapshot
from lab import Lab
from stepping import Declared, History, Look, Option, Stepping, calls, says

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.sandboxes import (
    ENDPOINT_OPTIONS as OPTIONS_OF_ENDPOINT_DRIVERS,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.schema import ENDPOINT, NETWORK, SANDBOX
from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.registry import DRIVERS

Said = Mapping[str, Any]
Proof = tuple[Any, ...]
"""A look, and what it sees without the option, with it, and with it changed."""
Announced = tuple[str, str, str]
"""What is made, removed or made anew when the option is set, changed and removed."""

_N = "com.docker.network."
_B = _N + "bridge."
_E = _N + "endpoint."
DUAL = {"subnet": ["10.0.0.0/24", "fd00::/64"]}
ONE = {"subnet": "10.0.0.0/25"}
OTHER = {"subnet": "10.0.0.128/25"}


def _row(
    name: str,
    *steps: Declared,
    proofs: tuple[Proof, ...],
    announced: Optional[Announced] = None,
    serves: str = "",
    kept: bool = False,
) -> Option:
    without, given, alike, changed = steps
    servers = {"a": serves} if serves else {}
    return Option(name, without, given, alike, changed, proofs, announced or ("", "", ""), servers, kept)


def network(
    name: str,
    given: Said,
    alike: Said,
    changed: Said,
    *proofs: Proof,
    always: Optional[Said] = None,
    boxes: str = "a",
    announced: Optional[Announced] = None,
    serves: str = "",
    kept: bool = False,
    **of_a: Any,
) -> Option:
    """An option of the network ``n``, which the sandboxes are on; ``of_a`` is what ``a`` says besides."""
    plain = [_with_options(DUAL if always is None else always, more) for more in ({}, given, alike, changed)]
    sandboxes: dict[str, Any] = {box: {"networks": ["n"]} for box in boxes.split()}
    sandboxes["a"].update(of_a)
    other = {box: {**said, "networks": {"n": None}} for box, said in sandboxes.items()}
    steps = [Declared({"n": said}, other if number == 2 else sandboxes) for number, said in enumerate(plain)]
    return _row(name, *steps, proofs=proofs, announced=announced, serves=serves, kept=kept)


def _with_options(always: Said, more: Said) -> dict[str, Any]:
    options = {**always.get("driver_opts", {}), **more.get("driver_opts", {})}
    return {**always, **more, **({"driver_opts": options} if options else {})}


def driver(key: str, given: Any, alike: Any, changed: Any, *proofs: Proof, name: str = "", **rest: Any) -> Option:
    """A driver option of the network ``n``; an empty one beside it is one that is not set."""
    empty = {_N + "driver.mtu": "", _N + "container_iface_prefix": None}
    said = [{"driver_opts": {**more, key: value}} for more, value in (({}, given), (empty, alike), ({}, changed))]
    return network(name or key.removeprefix(_N).removeprefix("bridge."), *said, *proofs, **rest)


def endpoint(
    name: str,
    given: Said,
    alike: Said,
    changed: Said,
    *proofs: Proof,
    announced: Optional[Announced] = None,
    kept: bool = False,
) -> Option:
    """Options of the endpoint of ``a`` on ``n``; ``b`` is there too."""
    said = ({}, given, alike, changed)
    steps = [Declared({"n": DUAL}, {"a": {"networks": {"n": more}}, "b": {"networks": ["n"]}}) for more in said]
    return _row(name, *steps, proofs=proofs, announced=announced, kept=kept)


def sandbox(
    name: str,
    given: Said,
    alike: Said,
    changed: Said,
    *proofs: Proof,
    announced: Optional[Announced] = None,
    serves: str = "",
) -> Option:
    """Options of the sandbox ``a`` on ``n``; ``b`` is there too."""
    said = ({}, given, alike, changed)
    steps = [Declared({"n": DUAL}, {"a": {"networks": ["n"], **more}, "b": {"networks": ["n"]}}) for more in said]
    return _row(name, *steps, proofs=proofs, announced=announced, serves=serves)


def ports(name: str, given: list[Any], alike: list[Any], changed: list[Any], *proofs: Proof, serves: str) -> Option:
    """Ports of the sandbox ``a``."""
    return sandbox(name, {"ports": given}, {"ports": alike}, {"ports": changed}, *proofs, serves=serves)


def whole(
    name: str, networks: Said, *of_a: Said, proofs: tuple[Proof, ...], announced: Optional[Announced] = None
) -> Option:
    """All that the sandbox ``a`` says at each step; ``b`` is on the predefined network."""
    steps = [Declared(networks, {"a": said, "b": {}}) for said in of_a]
    return _row(name, *steps, proofs=proofs, announced=announced)


def members(name: str, *steps: tuple[Said, str], proofs: tuple[Proof, ...], announced: Announced) -> Option:
    """What only newcomers show: the network ``n`` at each step, and who is on it."""
    said = [Declared({"n": says_}, {box: {"networks": ["n"]} for box in boxes.split()}) for says_, boxes in steps]
    return _row(name, *said, proofs=proofs, announced=announced)


def names(box: str, *wanted: str) -> Look:
    """The addresses that names lead to."""
    return says(
        box, "; ".join(f"echo {name} $(getent ahosts {name} | grep STREAM | cut -d' ' -f1 | sort)" for name in wanted)
    )


def addresses(place: str, link: str) -> Look:
    """Addresses of a link, but link-local ones."""
    return says(place, f"ip -o address show dev {link} scope global | awk '{{print $4}}' | xargs")


def _whole_link(name: str) -> str:
    """The link of ``a`` on a network of both families, which comes."""
    return f"link a/{name}, address a/{name}/10.0.0.2/24, address a/{name}/fd00::2/64"


def _whole_network(bridge: str) -> str:
    """The bridge of a network of both families, which comes."""
    return f"link {bridge}, address {bridge}/10.0.0.1/24, address {bridge}/fd00::1/64"


def _moved(was: str, becomes: str) -> str:
    """The link of ``a``, made anew with its addresses under another name."""
    return f"link a/{was}, {_whole_link(becomes)}"


def _new_bridge(was: str, becomes: str) -> str:
    return f"link {was}, {_whole_network(becomes)}"


def _changed(place: str, *found: str) -> str:
    """Addresses that go or come."""
    return ", ".join(f"address {place}/{address}" for address in found)


def _renumbered(was: tuple[str, str], becomes: tuple[str, str]) -> str:
    """Other addresses of the bridge and of ``a``; the resolver is told on its command line whom it may ask."""
    return f"{_changed('n', was[0], becomes[0])}, {_changed('a/eth0', was[1], becomes[1])}, resolver a"


def _gone(box: str) -> str:
    """A sandbox that goes."""
    return f"namespace {box}, link {box}/eth0, resolver {box}"


def _all_of(box: str, *found: str) -> str:
    """A sandbox that comes."""
    return ", ".join([_gone(box), *(f"address {box}/eth0/{address}" for address in found)])


LINKS = says("a", "ls /sys/class/net | grep -v lo | xargs")
WAY4 = says("a", "ip route show default | awk '{print $3, $5}'")
WAY6 = says("a", "ip -6 route show default | awk '{print $3, $5}'")
OUT = calls("a", "tcp node2 6000", "tcp node2v6 6000")
OUT_BY_UDP = calls("a", "udp node2 6000", "udp node2v6 6000")
OF_A = addresses("a", "eth0")
OF_N = addresses("host", "{n}")
MAC = says("a", "cat /sys/class/net/eth0/address")
LAST_OF_MAC = says("a", "cut -d: -f6 /sys/class/net/eth0/address")
RESOLV = says("a", "grep -v '^#' /etc/resolv.conf")


def _mode(family: int) -> Iterator[Option]:
    key, port = f"{_B}gateway_mode_ipv{family}", f"81{family}0"
    own, host, caller = ("10.0.0.2", "node1", "node2") if family == 4 else ("fd00::2", "node1v6", "node2v6")
    other = 10 - family
    yield driver(
        key,
        "routed",
        "routed",
        "nat-unprotected",
        (
            calls("node2", f"tcp {own} 80", f"tcp {own} 81", f"tcp {host} {port}"),
            [None, None, caller],
            [caller, None, None],
            [caller, caller, caller],
        ),
        (calls("a", f"tcp {caller} 6000"), [host], [own], [host]),
        ports=[f"{port}:80"],
        serves="tcp/80 tcp/81",
    )
    gateways = {4: "10.0.0.1/24", 6: "fd00::1/64"}
    yield driver(
        key,
        "isolated",
        "isolated",
        "nat",
        (OF_N, f"{gateways[4]} {gateways[6]}", gateways[other], f"{gateways[4]} {gateways[6]}"),
        (calls("b", "tcp 10.0.0.2 80", "tcp fd00::2 80"), *[["10.0.0.3", "fd00::3"]] * 3),
        (
            calls("host", f"tcp {own} 80"),
            [gateways[family].partition("/")[0]],
            [None],
            [gateways[family].partition("/")[0]],
        ),
        name=f"gateway_mode_ipv{family} isolated",
        always={**DUAL, "internal": True},
        boxes="a b",
        serves="tcp/80",
        announced=(_changed("n", gateways[family]), _changed("n", gateways[family]), ""),
    )


OPTIONS_OF_NETWORKS = [
    driver(
        _B + "name",
        "lan0",
        "lan0",
        "lan1",
        (says("host", "ip -o address show to 10.0.0.1 | awk '{print $2}'"), "n", "lan0", "lan1"),
        (OUT, *[["node1", "node1v6"]] * 3),
        announced=(_new_bridge("n", "lan0"), _new_bridge("lan0", "lan1"), _new_bridge("lan1", "n")),
    ),
    driver(
        _B + "enable_ip_masquerade",
        False,
        "No",
        True,
        (OUT, ["node1", "node1v6"], ["10.0.0.2", "fd00::2"], ["node1", "node1v6"]),
        (OUT_BY_UDP, ["node1", "node1v6"], ["10.0.0.2", "fd00::2"], ["node1", "node1v6"]),
    ),
    driver(
        _B + "enable_icc",
        "false",
        False,
        "yes",
        (calls("b", "tcp 10.0.0.2 80", "tcp fd00::2 80"), ["10.0.0.3", "fd00::3"], [None] * 2, ["10.0.0.3", "fd00::3"]),
        (OUT, *[["node1", "node1v6"]] * 3),
        boxes="a b",
        serves="tcp/80",
    ),
    driver(
        _B + "host_binding_ipv4",
        "127.0.0.1",
        "[127.0.0.1]",
        "node1",
        (calls("node2", "tcp node1 8101", "tcp node1v6 8101"), ["node2", "node2v6"], [None] * 2, ["node2", None]),
        (calls("host", "tcp 127.0.0.1 8101"), ["10.0.0.1"], ["10.0.0.1"], [None]),
        ports=["8101:80"],
        serves="tcp/80",
    ),
    driver(
        _N + "driver.mtu",
        1400,
        "1400",
        1300,
        (says("a", "cat /sys/class/net/eth0/mtu"), "1500", "1400", "1300"),
        (
            says("host", "cat /sys/class/net/{n}/mtu /sys/class/net/{n}/lower_*/mtu | xargs"),
            *(f"{n} {n}" for n in (1500, 1400, 1300)),
        ),
        (says("a", "ping -q -M do -s 1350 -c 1 -W 1 10.0.0.1 >/dev/null 2>&1 && echo fits"), "fits", "fits", ""),
    ),
    *_mode(4),
    *_mode(6),
    network(
        "internal",
        {"internal": True},
        {"internal": "Yes"},
        {"internal": False},
        (OUT, ["node1", "node1v6"], [None, None], ["node1", "node1v6"]),
        (WAY4, "10.0.0.1 eth0", "", "10.0.0.1 eth0"),
        (WAY6, "fd00::1 eth0", "", "fd00::1 eth0"),
        announced=("resolver a", "resolver a", ""),
    ),
    driver(
        _B + "inhibit_ipv4",
        True,
        "true",
        "false",
        (OF_N, "10.0.0.1/24 fd00::1/64", "fd00::1/64", "10.0.0.1/24 fd00::1/64"),
        announced=(_changed("n", "10.0.0.1/24"), _changed("n", "10.0.0.1/24"), ""),
    ),
    driver(
        _N + "host_ipv4",
        "198.51.100.201",
        "198.51.100.201",
        "198.51.100.202",
        (OUT, ["node1", "node1v6"], ["198.51.100.201", "node1v6"], ["198.51.100.202", "node1v6"]),
    ),
    driver(
        _N + "host_ipv6",
        "fdc6:3364::201",
        "FDC6:3364:0::0201",
        "fdc6:3364::202",
        (OUT, ["node1", "node1v6"], ["node1", "fdc6:3364::201"], ["node1", "fdc6:3364::202"]),
    ),
    driver(
        _N + "container_iface_prefix",
        "lan",
        "lan",
        "net",
        (LINKS, "eth0", "lan0", "net0"),
        (OUT, *[["node1", "node1v6"]] * 3),
        announced=(_moved("eth0", "lan0"), _moved("lan0", "net0"), _moved("net0", "eth0")),
    ),
    driver(
        _B + "trusted_host_interfaces",
        "eth0",
        "eth0:eth0",
        "other0",
        (calls("node2", "tcp 10.0.0.2 80", "tcp fd00::2 80"), [None] * 2, ["node2", "node2v6"], [None] * 2),
        ports=["8102:80"],
        serves="tcp/80",
    ),
    network(
        "enable_ipv6",
        {"enable_ipv6": True},
        {"driver_opts": {_N + "enable_ipv6": "yes"}},
        {"enable_ipv6": "no"},
        (OF_A, "10.0.0.2/24", "10.0.0.2/24 chosen:2/64", "10.0.0.2/24"),
        (OUT, ["node1", None], ["node1", "node1v6"], ["node1", None]),
        always={"subnet": "10.0.0.0/24"},
        announced=(
            "address n/chosen:1/64, address a/eth0/chosen:2/64, resolver a",
            "address n/chosen:1/64, address a/eth0/chosen:2/64, resolver a",
            "",
        ),
    ),
    driver(
        _N + "enable_ipv4",
        False,
        "no",
        "true",
        (OF_A, "chosen.2/24 fd00::2/64", "fd00::2/64", "chosen.2/24 fd00::2/64"),
        (OUT, ["node1", "node1v6"], [None, "node1v6"], ["node1", "node1v6"]),
        always={"subnet": "fd00::/64"},
        announced=(
            "address n/chosen.1/24, address a/eth0/chosen.2/24, resolver a",
            "address n/chosen.1/24, address a/eth0/chosen.2/24, resolver a",
            "",
        ),
    ),
    network(
        "the key enable_ipv4",
        {"enable_ipv4": "False"},
        {"enable_ipv4": False},
        {"enable_ipv4": "yes"},
        (OF_A, "chosen.2/24 fd00::2/64", "fd00::2/64", "chosen.2/24 fd00::2/64"),
        always={"subnet": "fd00::/64"},
        announced=(
            "address n/chosen.1/24, address a/eth0/chosen.2/24, resolver a",
            "address n/chosen.1/24, address a/eth0/chosen.2/24, resolver a",
            "",
        ),
    ),
    driver(
        _N + "enable_ipv6",
        1,
        "t",
        0,
        (OF_A, "10.0.0.2/24", "10.0.0.2/24 chosen:2/64", "10.0.0.2/24"),
        name="the option enable_ipv6",
        always={"subnet": "10.0.0.0/24"},
        announced=(
            "address n/chosen:1/64, address a/eth0/chosen:2/64, resolver a",
            "address n/chosen:1/64, address a/eth0/chosen:2/64, resolver a",
            "",
        ),
    ),
    network(
        "subnet",
        ONE,
        {"ipam": {"driver": "default", "config": [ONE]}},
        OTHER,
        (OF_A, "chosen.2/24", "10.0.0.2/25", "10.0.0.130/25"),
        (OF_N, "chosen.1/24", "10.0.0.1/25", "10.0.0.129/25"),
        (OUT, *[["node1", None]] * 3),
        always={},
        announced=(
            _renumbered(("chosen.1/24", "chosen.2/24"), ("10.0.0.1/25", "10.0.0.2/25")),
            _renumbered(("10.0.0.1/25", "10.0.0.2/25"), ("10.0.0.129/25", "10.0.0.130/25")),
            "",
        ),
        kept=True,
    ),
    network(
        "a second subnet",
        {"subnet": ["10.0.0.0/24", "fd00::/64"]},
        {"subnet": None, "ipam": {"config": [{"subnet": "fd00::/64"}, {"subnet": "10.0.0.0/24"}]}},
        {"subnet": ["10.0.0.0/24", "fd00:0:1::/64"]},
        (OF_A, "10.0.0.2/24", "10.0.0.2/24 fd00::2/64", "10.0.0.2/24 fd00:0:1::2/64"),
        (WAY6, "", "fd00::1 eth0", "fd00:0:1::1 eth0"),
        (OUT, ["node1", None], ["node1", "node1v6"], ["node1", "node1v6"]),
        always={"subnet": "10.0.0.0/24"},
        announced=(
            "address n/fd00::1/64, address a/eth0/fd00::2/64, resolver a",
            _renumbered(("fd00::1/64", "fd00::2/64"), ("fd00:0:1::1/64", "fd00:0:1::2/64")),
            "address n/fd00:0:1::1/64, address a/eth0/fd00:0:1::2/64, resolver a",
        ),
    ),
    members(
        "ip_range",
        ({"subnet": "10.0.0.0/24"}, "a"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.64/26"}]}}, "a b"),
        ({"ipam": {"config": [{"ip_range": "10.0.0.64/26", "gateway": None, "subnet": "10.0.0.0/24"}]}}, "b a"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "ip_range": "10.0.0.128/26"}]}}, "a c"),
        proofs=(
            (OF_N, "10.0.0.1/24", "10.0.0.64/24", "10.0.0.128/24"),
            (addresses("b", "eth0"), "", "10.0.0.65/24", ""),
            (addresses("c", "eth0"), "", "", "10.0.0.129/24"),
            (OF_A, *["10.0.0.2/24"] * 3),
        ),
        announced=(
            f"{_changed('n', '10.0.0.1/24', '10.0.0.64/24')}, {_all_of('b', '10.0.0.65/24')}",
            f"{_changed('n', '10.0.0.64/24', '10.0.0.128/24')}, {_gone('b')}, {_all_of('c', '10.0.0.129/24')}",
            f"{_changed('n', '10.0.0.128/24', '10.0.0.1/24')}, {_gone('c')}",
        ),
    ),
    members(
        "aux_addresses",
        ({"subnet": "10.0.0.0/24"}, "a"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "aux_addresses": {"printer": "10.0.0.3"}}]}}, "a b"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "aux_addresses": {"printer": "10.0.0.3", "x": None}}]}}, "a b"),
        ({"ipam": {"config": [{"subnet": "10.0.0.0/24", "aux_addresses": {"printer": "10.0.0.4"}}]}}, "a b"),
        proofs=((addresses("b", "eth0"), "", "10.0.0.4/24", "10.0.0.3/24"), (OF_A, *["10.0.0.2/24"] * 3)),
        announced=(
            _all_of("b", "10.0.0.4/24"),
            _changed("b/eth0", "10.0.0.4/24", "10.0.0.3/24"),
            _gone("b"),
        ),
    ),
    *(
        network(
            f"aux_addresses DefaultGatewayIPv{family}",
            *(
                {"ipam": {"config": [{"subnet": subnet, "aux_addresses": {f"DefaultGatewayIPv{family}": address}}]}}
                for address in (first, alike, second)
            ),
            (way, f"{usual} eth0", f"{first} eth0", f"{second} eth0"),
            always={"ipam": {"config": [{"subnet": subnet}]}},
        )
        for family, way, subnet, usual, first, alike, second in (
            (4, WAY4, "10.0.0.0/24", "10.0.0.1", "10.0.0.254", "10.0.0.254", "10.0.0.253"),
            (6, WAY6, "fd00::/64", "fd00::1", "fd00::fe", "fd00:0::FE", "fd00::fd"),
        )
    ),
    network(
        "gateway",
        {
            "ipam": {
                "config": [
                    {"subnet": "10.0.0.0/24", "gateway": "10.0.0.254"},
                    {"subnet": "fd00::/64", "gateway": "fd00::fe"},
                ]
            }
        },
        {
            "ipam": {
                "config": [
                    {"subnet": "fd00::/64", "gateway": "fd00:0::FE"},
                    {"gateway": "10.0.0.254", "subnet": "10.0.0.0/24"},
                ]
            }
        },
        {
            "ipam": {
                "config": [
                    {"subnet": "10.0.0.0/24", "gateway": "10.0.0.253"},
                    {"subnet": "fd00::/64", "gateway": "fd00::fd"},
                ]
            }
        },
        (OF_N, "10.0.0.1/24 fd00::1/64", "10.0.0.254/24 fd00::fe/64", "10.0.0.253/24 fd00::fd/64"),
        (WAY4, "10.0.0.1 eth0", "10.0.0.254 eth0", "10.0.0.253 eth0"),
        (WAY6, "fd00::1 eth0", "fd00::fe eth0", "fd00::fd eth0"),
        (OUT, *[["node1", "node1v6"]] * 3),
        always={"ipam": {"config": [{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]}},
        announced=(
            _changed("n", "10.0.0.1/24", "fd00::1/64", "10.0.0.254/24", "fd00::fe/64"),
            _changed("n", "10.0.0.253/24", "fd00::fd/64", "10.0.0.254/24", "fd00::fe/64"),
            _changed("n", "10.0.0.253/24", "fd00::fd/64", "10.0.0.1/24", "fd00::1/64"),
        ),
    ),
    network(
        "routes",
        {
            "routes": [
                {"destination": "192.0.2.0/24", "gateway": "10.0.0.9"},
                {"destination": "2001:db8:9::/48", "gateway": "fd00::9"},
            ]
        },
        {
            "routes": [
                {"destination": "2001:DB8:9:0::/48", "gateway": "fd00:0::9"},
                {"gateway": "10.0.0.9", "destination": "192.0.2.0/24"},
            ]
        },
        {
            "routes": [
                {"destination": "192.0.2.0/24", "gateway": "10.0.0.8"},
                {"destination": "2001:db8:9::/48", "gateway": "fd00::8"},
            ]
        },
        (
            says("a", "ip route show 192.0.2.0/24 | cut -d' ' -f1-5"),
            "",
            *(f"192.0.2.0/24 via 10.0.0.{n} dev eth0" for n in (9, 8)),
        ),
        (
            says("a", "ip -6 route show 2001:db8:9::/48 | cut -d' ' -f1-5"),
            "",
            *(f"2001:db8:9::/48 via fd00::{n} dev eth0" for n in (9, 8)),
        ),
        announced=("resolver a", "", "resolver a"),
    ),
    network(
        "firewall",
        {"firewall": "none"},
        {"firewall": "none", "labels": {}},
        {"firewall": "default"},
        (calls("node2", "tcp 10.0.0.2 80", "tcp fd00::2 80"), [None] * 2, ["node2", "node2v6"], [None] * 2),
        (OUT, ["node1", "node1v6"], ["10.0.0.2", "fd00::2"], ["node1", "node1v6"]),
        serves="tcp/80",
    ),
    network(
        "labels and attachable",
        {"labels": {"tier": "front", "own": True}, "attachable": False},
        {"labels": ["own=true", "tier=front"], "attachable": "no"},
        {"labels": {"tier": "back"}, "attachable": "True"},
        (lambda view: view.document["Labels"], {}, {"tier": "front", "own": "true"}, {"tier": "back"}),
        (lambda view: view.document["Attachable"], True, False, True),
    ),
    driver(
        _N + "advertise_addr_nmsgs",
        1,
        "1",
        2,
        (lambda view: view.document["Options"].get(_N + "advertise_addr_nmsgs"), None, "1", "2"),
    ),
    driver(
        _N + "advertise_addr_ms",
        200,
        "0200",
        300,
        (lambda view: view.document["Options"].get(_N + "advertise_addr_ms"), None, "200", "300"),
    ),
]

OPTIONS_OF_ENDPOINTS = [
    endpoint(
        "ipv4_address",
        {"ipv4_address": "10.0.0.9"},
        {"ipv4_address": "10.0.0.9", "ipv6_address": None},
        {"ipv4_address": "10.0.0.10"},
        (OF_A, "10.0.0.2/24 fd00::2/64", "10.0.0.9/24 fd00::2/64", "10.0.0.10/24 fd00::2/64"),
        (names("b", "{a}"), "a 10.0.0.2 fd00::2", "a 10.0.0.9 fd00::2", "a 10.0.0.10 fd00::2"),
        (LAST_OF_MAC, "02", "09", "0a"),
        (OUT, *[["node1", "node1v6"]] * 3),
        announced=(
            _changed("a/eth0", "10.0.0.2/24", "10.0.0.9/24"),
            _changed("a/eth0", "10.0.0.9/24", "10.0.0.10/24"),
            "",
        ),
        kept=True,
    ),
    endpoint(
        "ipv6_address",
        {"ipv6_address": "fd00::9"},
        {"ipv6_address": "fd00:0::0009"},
        {"ipv6_address": "fd00::a"},
        (OF_A, "10.0.0.2/24 fd00::2/64", "10.0.0.2/24 fd00::9/64", "10.0.0.2/24 fd00::a/64"),
        (names("b", "{a}"), "a 10.0.0.2 fd00::2", "a 10.0.0.2 fd00::9", "a 10.0.0.2 fd00::a"),
        (OUT, *[["node1", "node1v6"]] * 3),
        announced=(
            _changed("a/eth0", "fd00::2/64", "fd00::9/64"),
            _changed("a/eth0", "fd00::9/64", "fd00::a/64"),
            "",
        ),
        kept=True,
    ),
    endpoint(
        "mac_address",
        {"mac_address": "02:00:00:00:00:0a"},
        {"mac_address": "02-00-00-00-00-0A"},
        {"mac_address": "02:00:00:00:00:0b"},
        (LAST_OF_MAC, "02", "0a", "0b"),
        (
            says(
                "b",
                "ping -c 1 -W 2 10.0.0.2 >/dev/null; ip neighbour show 10.0.0.2 | sed 's/.*lladdr .*:\\(..\\) .*/\\1/'",
            ),
            *("02", "0a", "0b"),
        ),
    ),
    endpoint(
        "link_local_ips",
        {"link_local_ips": ["169.254.8.8"]},
        {"link_local_ips": ["169.254.8.8"], "aliases": []},
        {"link_local_ips": ["169.254.8.9"]},
        (
            says("a", "ip -o -4 address show dev eth0 | grep -o '169[^ ]*' || :"),
            *("", "169.254.8.8/16", "169.254.8.9/16"),
        ),
        announced=(
            "address a/eth0/169.254.8.8/16",
            "address a/eth0/169.254.8.8/16, address a/eth0/169.254.8.9/16",
            "address a/eth0/169.254.8.9/16",
        ),
    ),
    endpoint(
        "aliases",
        {"aliases": ["web", "shop"]},
        {"aliases": ["web", "shop", "web"]},
        {"aliases": ["web", "store"]},
        (
            names("b", "web", "shop", "store"),
            "web\nshop\nstore",
            "web 10.0.0.2 fd00::2\nshop 10.0.0.2 fd00::2\nstore",
            "web 10.0.0.2 fd00::2\nshop\nstore 10.0.0.2 fd00::2",
        ),
    ),
    endpoint(
        "limits",
        {"limits": {"ingress": "100mbit"}},
        {"limits": {"ingress": "0.1 Gbit", "egress": None}},
        {"limits": {"ingress": "8mbit"}},
        (
            says("host", "tc qdisc show | sed -n 's/.* tbf .* rate \\([^ ]*\\) .*/\\1/p'"),
            "",
            "100Mbit",
            "8Mbit",
        ),
    ),
    endpoint(
        "interface_name",
        {"interface_name": "web0"},
        {"driver_opts": {_E + "ifname": "web0"}},
        {"interface_name": "web1"},
        (LINKS, "eth0", "web0", "web1"),
        (OUT, *[["node1", "node1v6"]] * 3),
        announced=(_moved("eth0", "web0"), _moved("web0", "web1"), _moved("web1", "eth0")),
    ),
    endpoint(
        "endpoint.sysctls",
        {
            "driver_opts": {
                _E + "sysctls": "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.retrans_time_ms=500"
            }
        },
        {
            "driver_opts": {
                _E + "sysctls": "net.ipv4.neigh.ifname.retrans_time_ms=500, net.ipv4.conf.ifname.log_martians=1"
            }
        },
        {"driver_opts": {_E + "sysctls": "net.ipv4.conf.IFNAME.log_martians=0,net.ipv4.conf.IFNAME.rp_filter=2"}},
        (
            says(
                "a",
                "cd /proc/sys/net/ipv4; cat conf/eth0/log_martians neigh/eth0/retrans_time_ms conf/eth0/rp_filter",
            ),
            "0\n1000\n0",
            "1\n500\n0",
            "0\n1000\n2",
        ),
    ),
    endpoint(
        "routes of an endpoint",
        {
            "routes": [
                {"destination": "192.0.2.0/24", "gateway": "10.0.0.9"},
                {"destination": "2001:db8:9::/48", "gateway": "fd00::9"},
            ]
        },
        {
            "routes": [
                {"gateway": "fd00:0::9", "destination": "2001:DB8:9:0::/48"},
                {"destination": "192.0.2.0/24", "gateway": "10.0.0.9"},
            ]
        },
        {
            "routes": [
                {"destination": "192.0.2.0/24", "gateway": "10.0.0.8"},
                {"destination": "192.0.3.0/24", "gateway": "10.0.0.8"},
            ]
        },
        (
            says("a", "ip route show | grep via | grep -v default | cut -d' ' -f1-3"),
            "",
            "192.0.2.0/24 via 10.0.0.9",
            "192.0.2.0/24 via 10.0.0.8\n192.0.3.0/24 via 10.0.0.8",
        ),
        (says("a", "ip -6 route show 2001:db8:9::/48 | cut -d' ' -f1-3"), "", "2001:db8:9::/48 via fd00::9", ""),
        announced=("resolver a", "resolver a", "resolver a"),
    ),
    _row(
        "an endpoint's route in place of the network's",
        *(
            Declared(
                {"n": {**DUAL, "routes": [{"destination": "192.0.2.0/24", "gateway": "10.0.0.7"}]}},
                {
                    "a": {
                        "networks": {
                            "n": {"routes": [{"destination": "192.0.2.0/24", "gateway": via}] if via else None}
                        }
                    }
                },
            )
            for via in ("", "10.0.0.9", "10.0.0.9", "10.0.0.8")
        ),
        proofs=(
            (says("a", "ip route show 192.0.2.0/24 | cut -d' ' -f3"), "10.0.0.7", "10.0.0.9", "10.0.0.8"),
            (says("host", "ip -o link show {n} | wc -l"), "1", "1", "1"),
        ),
    ),
    _row(
        "gw_priority",
        *(
            Declared(
                {"n": {"subnet": "10.0.0.0/25"}, "m": {"subnet": "10.0.0.128/25"}},
                {"a": {"networks": said, "ports": ["8170:80"]}},
            )
            for said in (
                {"n": None, "m": None},
                {"n": {"gw_priority": 1}, "m": None},
                {"n": {"gw_priority": 1}, "m": {"gw_priority": 0}},
                {"n": {"gw_priority": 1}, "m": {"gw_priority": 2}},
            )
        ),
        proofs=(
            (WAY4, "10.0.0.129 eth1", "10.0.0.1 eth0", "10.0.0.129 eth1"),
            (calls("node2", "tcp node1 8170"), *[["node2"]] * 3),
            (
                says("host", "nft list map inet cnm ports4_any | grep -o '8170 : [0-9.]*'"),
                "8170 : 10.0.0.130",
                "8170 : 10.0.0.2",
                "8170 : 10.0.0.130",
            ),
        ),
        serves="tcp/80",
    ),
]

OPTIONS_OF_SANDBOXES = [
    ports(
        "a port",
        ["8120:80"],
        [{"target": 80, "published": 8120}],
        ["8121:80"],
        (
            calls("node2", "tcp node1 8120", "tcp node1v6 8120", "tcp node1 8121"),
            [None] * 3,
            ["node2", "node2v6", None],
            [None, None, "node2"],
        ),
        (calls("b", "tcp node1 8120", "tcp node1 8121"), [None, None], ["10.0.0.1", None], [None, "10.0.0.1"]),
        serves="tcp/80",
    ),
    ports(
        "the target of a port",
        ["8122:80", "8123:81"],
        ["8123:81/TCP", {"target": "80", "published": "8122", "protocol": "tcp", "host_ip": None}],
        ["8122:81"],
        (calls("node2", "tcp node1 8122", "tcp node1 8123"), [None] * 2, ["node2"] * 2, ["node2", None]),
        (
            says("host", "nft list map inet cnm ports4_any | grep -o 'tcp . 812[23] : [0-9. ]*' | sort | xargs"),
            "",
            "tcp . 8122 : 10.0.0.2 . 80 tcp . 8123 : 10.0.0.2 . 81",
            "tcp . 8122 : 10.0.0.2 . 81",
        ),
        serves="tcp/80 tcp/81",
    ),
    ports(
        "a range of ports",
        ["8200-8204:8200-8204"],
        [{"target": "8200-8204", "published": "8200-8204"}],
        ["8202-8206:8202-8206"],
        (
            calls("node2", *(f"tcp node1 {port}" for port in (8200, 8203, 8206))),
            [None] * 3,
            ["node2", "node2", None],
            [None, "node2", "node2"],
        ),
        serves="tcp/8200 tcp/8203 tcp/8206",
    ),
    ports(
        "a range of ports to others",
        ["8210-8212:80-82"],
        [{"target": "80-82", "published": "8210-8212"}],
        ["8211-8213:80-82"],
        (
            calls("node2", *(f"tcp node1v6 {port}" for port in (8210, 8212, 8213))),
            [None] * 3,
            ["node2v6", "node2v6", None],
            [None, "node2v6", "node2v6"],
        ),
        serves="tcp/80 tcp/81 tcp/82",
    ),
    ports(
        "the address of a port",
        ["127.0.0.1:8130:80", "[node1v6]:8130:80"],
        [
            {"target": 80, "published": 8130, "host_ip": "node1v6"},
            {"host_ip": "127.0.0.1", "target": 80, "published": 8130},
        ],
        ["node1:8130:80"],
        (calls("node2", "tcp node1 8130", "tcp node1v6 8130"), [None] * 2, [None, "node2v6"], ["node2", None]),
        (calls("host", "tcp 127.0.0.1 8130"), [None], ["10.0.0.1"], [None]),
        serves="tcp/80",
    ),
    ports(
        "every address of a family",
        ["0.0.0.0:8131:80"],
        [{"target": 80, "published": 8131, "host_ip": "0.0.0.0"}],
        ["[::]:8131:80"],
        (calls("node2", "tcp node1 8131", "tcp node1v6 8131"), [None] * 2, ["node2", None], [None, "node2v6"]),
        serves="tcp/80",
    ),
    ports(
        "a port of udp",
        ["8132:5353/udp"],
        [{"target": 5353, "published": "8132", "protocol": "udp"}],
        ["8132:5353"],
        (calls("node2", "udp node1 8132", "tcp node1 8132"), [None] * 2, ["node2", None], [None, "node2"]),
        serves="tcp/5353 udp/5353",
    ),
    # This kernel may speak no SCTP, so the map has to be proof enough.
    ports(
        "a port of sctp",
        ["8133:80/sctp"],
        [{"target": 80, "published": 8133, "protocol": "sctp"}],
        ["8134:80/sctp"],
        (
            says("host", "nft list map inet cnm ports4_any | grep -o 'sctp . 813[34] : [0-9. ]*'"),
            "",
            *(f"sctp . {port} : 10.0.0.2 . 80" for port in (8133, 8134)),
        ),
        serves="tcp/80",
    ),
    sandbox(
        "mac_address of a sandbox",
        {"mac_address": "02:00:00:00:00:0a"},
        {"mac_address": "02-00-00-00-00-0A"},
        {"mac_address": "02:00:00:00:00:0b"},
        (LAST_OF_MAC, "02", "0a", "0b"),
    ),
    sandbox(
        "domainname",
        {"domainname": "example.com"},
        {"domainname": "example.com", "dns": []},
        {"domainname": "example.org"},
        (says("a", "grep 10.0.0.2 /etc/hosts"), "10.0.0.2 a", "10.0.0.2 a.example.com a", "10.0.0.2 a.example.org a"),
    ),
    sandbox(
        "hostname",
        {"hostname": "web1"},
        {"hostname": "web1", "dns": []},
        {"hostname": "web2"},
        (says("a", "cat /etc/hostname"), "a", "web1", "web2"),
        (names("b", "web1", "web2"), "web1\nweb2", "web1 10.0.0.2 fd00::2\nweb2", "web1\nweb2 10.0.0.2 fd00::2"),
        (says("a", "grep 10.0.0.2 /etc/hosts"), "10.0.0.2 a", "10.0.0.2 web1", "10.0.0.2 web2"),
    ),
    sandbox(
        "dns",
        {"dns": ["192.0.2.53"]},
        {"dns": "192.0.2.53"},
        {"dns": ["192.0.2.54", "192.0.2.53"]},
        (
            says(
                "host",
                "grep -h '^server=[^/]' $(sed -n s/servers-file=//p /run/cnm/default/resolvers/{a}.conf) | xargs",
            ),
            "server=198.51.100.1",
            "server=192.0.2.53",
            "server=192.0.2.54 server=192.0.2.53",
        ),
        announced=("resolver a", "resolver a", "resolver a"),
    ),
    sandbox(
        "dns_search and dns_opt",
        {"dns_search": ["lab.example"], "dns_opt": ["timeout:2"]},
        {"dns_search": "lab.example", "dns_opt": ["timeout:2", "timeout:2"]},
        {"dns_search": ["lab.example", "example"], "dns_opt": ["ndots:1"]},
        (
            RESOLV,
            "nameserver 127.0.0.11\noptions ndots:0",
            "nameserver 127.0.0.11\nsearch lab.example\noptions timeout:2 ndots:0",
            "nameserver 127.0.0.11\nsearch lab.example example\noptions ndots:1",
        ),
    ),
    sandbox(
        "extra_hosts",
        {"extra_hosts": {"db": "192.0.2.7", "up": "host-gateway"}},
        {"extra_hosts": ["up:host-gateway", "db=192.0.2.7"]},
        {"extra_hosts": {"db": ["192.0.2.8", "2001:db8::8"]}},
        (
            says("a", "grep -h ' db$\\| up$' /etc/hosts"),
            "",
            "192.0.2.7 db\n10.0.0.1 up\nfd00::1 up",
            "192.0.2.8 db\n2001:db8::8 db",
        ),
        (names("a", "db"), "db", "db 192.0.2.7", "db 192.0.2.8 2001:db8::8"),
    ),
    sandbox(
        "sysctls",
        {"sysctls": {"net.ipv4.ip_unprivileged_port_start": 80, "net.core.somaxconn": 99}},
        {"sysctls": ["net.core.somaxconn=99", "net/ipv4/ip_unprivileged_port_start=80"]},
        {"sysctls": {"net.ipv4.ip_unprivileged_port_start": "81"}},
        (
            says("a", "sysctl -n net.ipv4.ip_unprivileged_port_start net.core.somaxconn | xargs"),
            "1024 4096",
            "80 99",
            "81 4096",
        ),
    ),
    whole(
        "network_mode",
        {},
        {},
        {"network_mode": "none"},
        {"networks": ["none"]},
        {"network_mode": "host"},
        proofs=(
            (says("host", "ls /run/netns | grep '^{a}$'"), "a", "a", ""),
            (says("host", "ip -n {a} -br link | awk '{print $1}' | cut -d@ -f1 | xargs"), "lo eth0", "lo", ""),
            (says("host", "ls /etc/netns | grep '^{a}$'"), "a", "a", ""),
        ),
        announced=(
            "link a/eth0, resolver a",
            "namespace a",
            _all_of("a", "chosen.2/24"),
        ),
    ),
    whole(
        "the predefined network",
        {"n": DUAL},
        {"networks": ["n"]},
        {"networks": ["bridge"]},
        {"network_mode": "bridge"},
        {"networks": ["n", "bridge"]},
        proofs=(
            (OF_A, "10.0.0.2/24 fd00::2/64", "chosen.2/24", "10.0.0.2/24 fd00::2/64"),
            (addresses("a", "eth1"), "", "", "chosen.2/24"),
            (says("host", "ip -o link show cnm0 | wc -l"), "1", "1", "1"),
        ),
        announced=(
            "link n, link a/eth0, address a/eth0/chosen.2/24, resolver a",
            f"{_whole_network('n')}, {_whole_link('eth0')}, link a/eth1, address a/eth1/chosen.2/24, resolver a",
            "link a/eth1, resolver a",
        ),
    ),
    whole(
        "networks",
        {"n": {"subnet": "10.0.0.0/25"}, "m": {"subnet": "10.0.0.128/25"}},
        {"networks": ["n"]},
        {"networks": ["n", "m"]},
        {"networks": {"n": {}, "m": None}},
        {"networks": ["m"]},
        proofs=(
            (OF_A, "10.0.0.2/25", "10.0.0.2/25", "10.0.0.130/25"),
            (addresses("a", "eth1"), "", "10.0.0.130/25", ""),
            (WAY4, "10.0.0.1 eth0", "10.0.0.129 eth1", "10.0.0.129 eth0"),
        ),
        announced=(
            "link m, address m/10.0.0.129/25, link a/eth1, address a/eth1/10.0.0.130/25, resolver a",
            "link n, link a/eth0, link a/eth1, address a/eth0/10.0.0.130/25, resolver a",
            "link n, address n/10.0.0.1/25, link m, link a/eth0, address a/eth0/10.0.0.2/25, resolver a",
        ),
    ),
    _row(
        "driver",
        *(
            Declared({"n": {"driver": said} if said else {"subnet": "10.0.0.0/24"}}, {"a": {"networks": networks}})
            for said, networks in (("", ["n"]), ("none", ["n"]), ("none", {"n": None}), ("host", ["n"]))
        ),
        proofs=(
            (says("host", "ls /run/netns | grep '^{a}$'"), "a", "a", ""),
            (says("host", "ip -n {a} -br link | awk '{print $1}' | cut -d@ -f1 | xargs"), "lo eth0", "lo", ""),
        ),
        announced=(
            "link n, link a/eth0, resolver a",
            "namespace a",
            f"link n, address n/10.0.0.1/24, {_all_of('a', '10.0.0.2/24')}",
        ),
    ),
]

OPTIONS = [*OPTIONS_OF_NETWORKS, *OPTIONS_OF_ENDPOINTS, *OPTIONS_OF_SANDBOXES]
NUMBERED = dict(enumerate(OPTIONS, 1))


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """node1 with more addresses of its own, and node2 with routes to all networks there."""
    fleet = Fleet(lab, tmp_path_factory.mktemp("options"))
    more = [f"{address} dev eth0" for address in ("198.51.100.201/24", "198.51.100.202/24")]
    # Deprecated ones are not chosen by themselves.
    more += [f"{address} dev eth0 nodad preferred_lft 0" for address in ("fdc6:3364::201/64", "fdc6:3364::202/64")]
    ways = [f"{prefix} via {lab.address('node1')}" for prefix in ("10.40.0.0/16", "172.30.0.0/16")]
    ways += [f"{prefix} via {lab.address('node1', 6)}" for prefix in ("fd40::/16", "fd41::/16")]
    before = snapshot(fleet, "node1")
    fleet.sh("node1", "; ".join(f"ip address add {item}" for item in more))
    fleet.sh("node2", "; ".join(f"ip route add {item}" for item in ways))
    yield fleet
    fleet.sh("node2", "; ".join(f"ip route delete {item}" for item in ways))
    fleet.sh("node1", "; ".join(f"ip address delete {item.partition(' nodad')[0]}" for item in more))
    fleet.teardown()
    assert snapshot(fleet, "node1") == before


@pytest.fixture(scope="module")
def history(host: Fleet, request: pytest.FixtureRequest) -> History:
    """All options that a selected test asks for, taken through their steps together."""
    items: list[Any] = request.session.items
    wanted = {item.callspec.params.get("number") for item in items if hasattr(item, "callspec")}
    return Stepping(host, {number: NUMBERED[number] for number in NUMBERED if number in wanted}).take()


@pytest.mark.parametrize("number", NUMBERED, ids=lambda number: NUMBERED[number].name.replace(" ", "_"))
class TestEachOption:
    def test_is_in_force_changed_and_gone_again(self, history: History, number: int) -> None:
        option = NUMBERED[number]
        steps = history.records[option.name]
        expected = dict(zip(("without", "set", "changed"), zip(*(proof[1:] for proof in option.proofs))))
        expected["removed"] = expected["changed" if option.kept else "without"]
        assert {step: steps[step].seen for step in expected} == {step: list(seen) for step, seen in expected.items()}

    def test_makes_nothing_anew_that_is_not_announced(self, history: History, number: int) -> None:
        option = NUMBERED[number]
        for step, text in zip(("set", "changed", "removed"), option.announced):
            expected = set(text.split(", ")) - {""}
            record = history.records[option.name][step]
            assert record.announced == {name for name in expected if not name.startswith("resolver ")}, step
            assert record.remade == {name for name in expected if not name.startswith("address ")}, step

    def test_leaves_nothing_behind(self, history: History, number: int) -> None:
        option, steps = NUMBERED[number], history.records[NUMBERED[number].name]
        before = steps["changed" if option.kept else "without"]
        assert steps["removed"].picture.splitlines() == before.picture.splitlines()


class TestAllOptions:
    @pytest.mark.whole
    def test_a_second_run_has_nothing_to_do_at_any_step(self, history: History) -> None:
        assert {step: found for step, found in history.again.items() if found} == {}

    def test_nor_has_a_run_with_the_same_in_other_words(self, history: History) -> None:
        assert history.alike == []

    def test_the_host_is_in_the_end_as_it_was_before(self, history: History) -> None:
        assert history.last == history.first


_OF_POLICIES = {"policies", "allow_from"}
"""tests/lab/test_policies.py and tests/integration/test_policies.py have these."""
_FOR_PEOPLE = {"expose", "name", "app_protocol"}
"""They are shown, and change nothing on a host."""

_KEYS = {
    "network": (set(NETWORK["properties"]) - {"encrypted", "driver_opts", "ipam", *_OF_POLICIES})
    | set(NETWORK["properties"]["ipam"]["properties"]["config"]["items"]["properties"]),
    # For netem this kernel may lack what it takes: tests/vm.
    "endpoint": set(ENDPOINT["properties"]) - {"driver_opts", "netem"},
    "sandbox": set(SANDBOX["properties"]) - {"namespace", *_OF_POLICIES, *_FOR_PEOPLE},
    "port": set(SANDBOX["properties"]["ports"]["items"]["properties"]) - {"mode", *_OF_POLICIES, *_FOR_PEOPLE},
    "driver option": set(DRIVERS.find("bridge").options),
    "endpoint's driver option": set(OPTIONS_OF_ENDPOINT_DRIVERS),
}
"""All keys there are, but those of drivers and namespaces that are not there yet, and such as hold others."""


def _keys(declared: Declared) -> Iterator[tuple[str, str]]:
    for said in declared.networks.values():
        configs = (said.get("ipam") or {}).get("config") or ()
        yield from (("network", key) for item in (said, *configs) for key in item)
        yield from (("driver option", key) for key in said.get("driver_opts") or ())
    for said in declared.sandboxes.values():
        yield from (("sandbox", key) for key in said)
        on = said.get("networks") or ()
        for options in on.values() if isinstance(on, dict) else ():
            yield from (("endpoint", key) for key in options or ())
            yield from (("endpoint's driver option", key) for key in (options or {}).get("driver_opts") or ())
        yield from (("port", key) for port in said.get("ports") or () if isinstance(port, dict) for key in port)


def test_every_key_is_in_the_table() -> None:
    steps = [step for option in OPTIONS for step in (option.set, option.alike)]
    found = {pair for step in steps for pair in _keys(step)}
    assert {(kind, key) for kind, keys in _KEYS.items() for key in keys} - found == set()
