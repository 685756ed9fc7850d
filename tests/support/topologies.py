# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Random inventories of two hosts, right ones as nearly as may be, of every driver and every key of the variables.

What can be written is data: shapes of a network that fit together, and what endpoints, sandboxes and services may say.
A driver or a key nobody wrote down here fails a test of ``test_properties.py``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as some

Variables = dict[str, dict[str, Any]]
Shapes = list[list[dict[str, Any]]]
"""Of each list one is taken, and all are put together; the first of each is the plainest."""

_B = "com.docker.network.bridge."
_N = "com.docker.network."


def _bridge(number: int) -> Shapes:
    v4, v6 = f"10.{number}.0.0/24", f"fd00:{number}::/64"
    config = {
        "subnet": v4,
        "gateway": f"10.{number}.0.254",
        "ip_range": f"10.{number}.0.128/25",
        "aux_addresses": {"printer": f"10.{number}.0.129"},
    }
    families: list[dict[str, Any]] = [
        {"subnet": v4},
        {},
        {"subnet": [v4, v6]},
        {"subnet": v6, "enable_ipv4": False},
        {"enable_ipv6": True},
        {"ipam": {"config": [config]}},
        {"driver_opts": {_N + "enable_ipv4": "true", _N + "enable_ipv6": "true"}},
    ]
    ways: list[dict[str, Any]] = [
        {},
        {"internal": True},
        {"firewall": "none"},
        {"driver_opts": {_B + "gateway_mode_ipv4": "routed", _B + "gateway_mode_ipv6": "routed"}},
        {"driver_opts": {_B + "gateway_mode_ipv4": "nat-unprotected", _N + "host_ipv4": "192.0.2.1"}},
        {"driver_opts": {_B + "gateway_mode_ipv4": "isolated"}, "internal": True},
        {"driver_opts": {_B + "enable_ip_masquerade": "false", _B + "trusted_host_interfaces": "w0"}},
        {"driver_opts": {_B + "inhibit_ipv4": "true"}},
        {"driver_opts": {_N + "host_ipv6": "2001:db8::1"}, "subnet": [v4, v6]},
    ]
    rest: list[dict[str, Any]] = [
        {},
        {"driver_opts": {_B + "enable_icc": "false", _N + "driver.mtu": "1400"}},
        {"driver_opts": {_B + "name": f"br-{number}", _N + "container_iface_prefix": "lan"}},
        {"driver_opts": {_N + "advertise_addr_nmsgs": "0", _N + "advertise_addr_ms": "100"}},
        {"driver_opts": {_B + "host_binding_ipv4": "127.0.0.1"}, "subnet": v4},
        {"labels": {"tier": "front"}, "attachable": False},
        {"subnet": v4, "routes": [{"destination": f"10.9{number}.0.0/16", "gateway": f"10.{number}.0.250"}]},
    ]
    return [[{"driver": "bridge"}, {}], families, ways, rest]


def _overlay(number: int) -> Shapes:
    v4, v6 = f"10.{100 + number}.0.0/24", f"fd00:{100 + number}::/64"
    families: list[dict[str, Any]] = [
        {"subnet": v4},
        {},
        {"subnet": [v4, v6], "enable_ipv6": True},
        {"subnet": [v4, f"10.{200 + number}.0.0/24"]},
        {"driver_opts": {_N + "enable_ipv4": "true", _N + "enable_ipv6": "true"}},
    ]
    ways = [{}, {"internal": True}]
    rest: list[dict[str, Any]] = [
        {},
        {"driver_opts": {_N + "driver.mtu": "1400", _N + "driver.overlay.vxlanid_list": str(5000 + number)}},
        {"driver_opts": {_N + "container_iface_prefix": "net"}, "labels": {"tier": "back"}},
    ]
    return [[{"driver": "overlay"}], families, ways, rest]


def _lan(driver: str, modes: list[dict[str, Any]]) -> Callable[[int], Shapes]:
    def shapes(number: int) -> Shapes:
        v4, v6, parent = f"10.{50 + number}.0.0/24", f"fd00:{50 + number}::/64", f"lan{number}"
        families: list[dict[str, Any]] = [
            {"subnet": v4},
            {"subnet": [v4, v6]},
            {"subnet": v4, "driver_opts": {_N + "enable_ipv4": "true"}},
            {"subnet": [v4, v6], "driver_opts": {_N + "enable_ipv6": "true"}},
        ]
        parents: list[dict[str, Any]] = [{"driver_opts": {"parent": parent}}, {"internal": True}]
        rest: list[dict[str, Any]] = [
            {},
            {"driver_opts": {"host_access": "true"}},
            {"driver_opts": {_N + "driver.mtu": "1400", _N + "container_iface_prefix": "lan"}},
            {"driver_opts": {_N + "advertise_addr_nmsgs": "0", _N + "advertise_addr_ms": "100"}},
        ]
        return [[{"driver": driver}], families, parents, [{"driver_opts": mode} for mode in modes], rest]

    return shapes


SHAPES: dict[str, Callable[[int], Shapes]] = {
    "bridge": _bridge,
    "overlay": _overlay,
    "macvlan": _lan("macvlan", [{}, {"macvlan_mode": "bridge"}, {"macvlan_mode": "private"}, {"macvlan_mode": "vepa"}]),
    "ipvlan": _lan(
        "ipvlan", [{}, {"ipvlan_mode": "l3"}, {"ipvlan_mode": "l3s"}, {"ipvlan_mode": "l2", "ipvlan_flag": "private"}]
    ),
}
"""By driver, of the network of that number."""

ENDPOINTS: list[dict[str, Any]] = [
    {},
    {"aliases": ["web", "cache"]},
    {"mac_address": "02:00:00:00:00:{number:02x}"},
    {"interface_name": "own{number}"},
    {"gw_priority": 5},
    {"ipv4_address": "{prefix}.{host}"},
    {"ipv6_address": "{prefix6}{host}"},
    {"routes": [{"destination": "10.250.{number}.0/24", "gateway": "{prefix}.200"}]},
    {"driver_opts": {_N + "endpoint.ifname": "opt{number}"}},
    {"driver_opts": {_N + "endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}},
]
"""What an endpoint may say; those that speak of a prefix are for networks that declare one."""

SANDBOXES: list[dict[str, Any]] = [
    {},
    {"ports": ["{port}:80"]},
    {"ports": [{"target": 53, "published": "{port}", "protocol": "udp", "host_ip": "192.0.2.1", "mode": "host"}]},
    {"hostname": "other{number}", "domainname": "example.com"},
    {"expose": ["8000-8010"]},
    {
        "ports": [
            {"target": 80, "published": "{port}", "name": "web", "app_protocol": "http", "allow_from": ["10.0.0.0/8"]}
        ]
    },
    {"dns": ["192.0.2.53"], "dns_search": ["example.com"], "dns_opt": ["ndots:2"]},
    {"extra_hosts": {"db": "192.0.2.7", "me": "host-gateway"}},
    {"sysctls": {"net.ipv4.ip_local_port_range": "20000 30000", "net.ipv4.ip_unprivileged_port_start": 0}},
]
MODES: list[dict[str, Any]] = [{}, {}, {}, {}, {"network_mode": "none"}, {"network_mode": "host"}]

_HOST_PORT = {"target": 80, "published": "{port}", "mode": "host"}
SERVICES: list[dict[str, Any]] = [
    {},
    {"deploy": {"replicas": 3}},
    {"deploy": {"replicas": 0}},
    {"deploy": {"mode": "global", "endpoint_mode": "dnsrr"}},
    {"deploy": {"replicas": 2, "scheduler": "sh", "weights": {"s{number}.1": 3}}},
    {"deploy": {"replicas": 2, "placement": {"hosts": ["node1"]}, "draining": ["s{number}.2"]}},
    {"ports": [{"target": 80, "published": "{port}"}], "deploy": {"replicas": 2}},
    {"ports": [{**_HOST_PORT, "protocol": "udp"}], "deploy": {"mode": "global"}},
    {"ports": [{**_HOST_PORT, "host_ip": "192.0.2.1"}], "deploy": {"mode": "global"}},
    {
        "ports": [{**_HOST_PORT, "name": "web", "app_protocol": "http", "allow_from": ["10.0.0.0/8"]}],
        "deploy": {"placement": {"constraints": ["node.hostname != node9"], "max_replicas_per_node": 3}},
    },
    {"hostname": "{{task}}-box", "domainname": "example.com", "dns": ["192.0.2.53"], "dns_search": ["example.com"]},
    {"dns_opt": ["ndots:2"], "extra_hosts": {"db": "192.0.2.7"}, "sysctls": {"net.ipv4.ip_unprivileged_port_start": 0}},
]
SERVICE_NETWORKS: list[dict[str, Any]] = [
    {},
    {"aliases": ["store"]},
    {"ipv4_addresses": ["{prefix}.{host}"]},
    {"gw_priority": 5, "driver_opts": {_N + "endpoint.sysctls": "net.ipv4.conf.IFNAME.log_martians=1"}},
    {"interface_name": "own{number}"},
]

NOT_DRAWN: dict[str, str] = {
    "cnm_policies": "tests/unit/plugin_utils/firewall draws them, tests/integration/test_policies.py has the packets",
    "cnm_networks.policies": "likewise",
    "cnm_sandboxes.policies": "likewise",
    "cnm_services.policies": "likewise",
    **dict.fromkeys(
        [f"{who}.networks.{key}" for who in ("cnm_sandboxes", "cnm_services") for key in ("limits", "netem")],
        "drivers of LANs have no end to limit: tests/lab/test_options.py, tests/vm/test_shaping.py",
    ),
    "cnm_sandboxes.mac_address": "it is that of the first endpoint, which is drawn: tests/lab/test_options.py",
    "cnm_sandboxes.networks.link_local_ips": "tests/unit/plugin_utils",
    "cnm_services.networks.ipv6_addresses": "tests/lab/test_services.py",
    "cnm_services.networks.routes": "those of sandboxes are drawn, by the same reader",
    "cnm_networks.encrypted": "the kernel of this machine may have no ESP: tests/vm",
    "cnm_networks.ipam.driver": "there is none but the default",
    "cnm_networks.ipam.options": "there is none",
    "cnm_sandboxes.namespace": "somebody has to make it first: tests/lab",
    "cnm_services.namespace": "likewise",
    "cnm_services.deploy.update_config": "the properties plan to the end: tests/lab/test_rolling.py has the steps",
    "cnm_services.stop_grace_period": "likewise",
}
"""Keys the samples above have not, and why."""


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both; what they have in common is merged if it is a mapping, else the second's."""
    result = dict(one)
    for key, value in other.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return result


def _filled(value: Any, words: Mapping[str, Any]) -> Any:
    """The same with words for the braces."""
    if isinstance(value, Mapping):
        return {_filled(key, words): _filled(item, words) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, words) for item in value]
    return value.format(**words) if isinstance(value, str) else value


@some.composite
def _network(draw: Any, driver: str, number: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for shapes in SHAPES[driver](number):
        result = merged(result, draw(some.sampled_from(shapes)))
    if "ipam" in result and "subnet" in result:
        del result["ipam"]  # two ways to say the same
    return result


def prefixes_of(network: Mapping[str, Any]) -> dict[str, str]:
    """How the addresses of a network's declared subnets begin, by the names of `ENDPOINTS`."""
    subnets = network.get("subnet") or []
    config = (network.get("ipam") or {}).get("config", [])
    declared = [*([subnets] if isinstance(subnets, str) else subnets), *(item["subnet"] for item in config)]
    result = {}
    for subnet in reversed(declared):
        text = subnet.partition("/")[0]
        result["prefix6" if ":" in text else "prefix"] = text if ":" in text else text.rpartition(".")[0]
    return result


@some.composite
def _attached(
    draw: Any, samples: list[dict[str, Any]], networks: Mapping[str, Any], names: list[str], words: Mapping[str, Any]
) -> dict[str, Any]:
    """Networks with what an endpoint there says."""
    result = {}
    for place, name in enumerate(names):
        own = {**prefixes_of(networks[name]), **words, "number": words["number"] * 4 + place}
        fitting = [item for item in samples if _fits(item, own)]
        result[name] = _filled(draw(some.sampled_from(fitting)), own) or None
    return result


def _fits(sample: Any, words: Mapping[str, Any]) -> bool:
    return all("{" + word + "}" not in str(sample) for word in ("prefix", "prefix6") if word not in words)


@some.composite
def _sandbox(draw: Any, networks: Mapping[str, Any], number: int) -> dict[str, Any]:
    words = {"number": number, "port": 8000 + number, "host": 20 + number}
    result: dict[str, Any] = _filled(merged(*(draw(some.sampled_from(SANDBOXES)) for _turn in range(2))), words)
    mode = draw(some.sampled_from(MODES))
    names = draw(some.lists(some.sampled_from(sorted(networks)), unique=True, max_size=3)) if networks else []
    open_to_all = [name for name in names if not networks[name].get("internal")]
    unpublished = mode or (names and not open_to_all) or any(networks[name].get("firewall") for name in names)
    if unpublished:
        result.pop("ports", None)
    if mode:
        return {**{key: value for key, value in result.items() if key == "hostname" and mode != "host"}, **mode}
    return {**result, **({"networks": draw(_attached(ENDPOINTS, networks, names, words))} if names else {})}


@some.composite
def _service(draw: Any, networks: Mapping[str, Any], number: int) -> dict[str, Any]:
    words = {"number": number, "port": 9000 + number, "host": 60 + number}
    overlays = sorted(name for name, network in networks.items() if network.get("driver") == "overlay")
    sample = draw(some.sampled_from(SERVICES))
    names = draw(some.lists(some.sampled_from(overlays), unique=True, min_size=1, max_size=2))
    result: dict[str, Any] = _filled(sample, words)
    return {**result, "networks": draw(_attached(SERVICE_NETWORKS, networks, names, words))}


@some.composite
def inventories(draw: Any, of: tuple[str, ...] = tuple(sorted(SHAPES))) -> Variables:
    """Variables of the hosts node1 and node2, with networks of these drivers."""
    drivers = draw(some.lists(some.sampled_from(of), max_size=4))
    networks = {f"{driver}{number}": draw(_network(driver, number)) for number, driver in enumerate(drivers)}
    services = {}
    if any(network.get("driver") == "overlay" for network in networks.values()):
        for number in range(draw(some.integers(0, 2))):
            services[f"s{number}"] = draw(_service(networks, number))
    result = {}
    for start, host in ((0, "node1"), (10, "node2")):
        boxes = {
            f"c{number}": draw(_sandbox(networks, number))
            for number in range(start, start + draw(some.integers(0, 4 if host == "node1" else 1)))
        }
        result[host] = {
            "cnm_networks": networks,
            "cnm_services": services,
            "cnm_sandboxes": boxes,
            "cnm_underlay_address": "192.0.2.1" if host == "node1" else "192.0.2.2",
            "cnm_load_balancer": "nftables",
        }
    return result


_IN_ORDER = "networks"
"""The order of a sandbox's networks means something: eth0 is the first."""


def shuffled(value: Any, chance: random.Random, key: str = "") -> Any:
    """The same variables, every mapping in another order."""
    if not isinstance(value, Mapping):
        return value
    keys = list(value)
    if key != _IN_ORDER:
        chance.shuffle(keys)
    return {name: shuffled(value[name], chance, name) for name in keys}


def keys_drawn() -> set[str]:
    """Every key the samples can have, as ``cnm_networks.ipam.config``; names of the user's own left out."""
    found: set[str] = set()
    for shapes in SHAPES.values():
        for group in shapes(1):
            found.update(*(_paths("cnm_networks", item) for item in group))
    found.update(*(_paths("cnm_sandboxes", item) for item in (*SANDBOXES, *MODES)))
    found.update(*(_paths("cnm_sandboxes.networks", item) for item in ENDPOINTS))
    found.update(*(_paths("cnm_services", item) for item in SERVICES))
    found.update(*(_paths("cnm_services.networks", item) for item in SERVICE_NETWORKS))
    return found | {"cnm_sandboxes.networks", "cnm_services.networks"}


def _paths(path: str, value: Any) -> set[str]:
    if isinstance(value, list):
        return set().union(*(_paths(path, item) for item in value), {path})
    if not isinstance(value, Mapping):
        return {path}
    return {path}.union(*(_paths(f"{path}.{key}", item) for key, item in value.items()))
