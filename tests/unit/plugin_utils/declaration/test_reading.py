# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The variables are read as they are meant, or refused with every mistake at once.

Wrong and right inventories are data: ``inventories/wrong/*.yml`` and ``inventories/right/*.yml``.
"""

from __future__ import annotations

import ast
import sys
from contextlib import suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from time import process_time
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from hypothesis import given
from hypothesis import strategies as some
from sampling import sampled

from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.addresses import gateway_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import (
    DeclarationError,
    NothingDeclared,
    ValidationError,
    VarPath,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.sandboxes import ENDPOINT_OPTIONS
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import (
    Host,
    IpamConfig,
    Port,
    StaticRoute,
    Topology,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.drivers.registry import DRIVERS
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology

NETWORK_OPTIONS = sorted({key for name in DRIVERS.names for key in DRIVERS.find(name).options})

INVENTORIES = Path(__file__).parents[2] / "inventories"
RULES = Path(__file__).parents[4] / "plugins" / "plugin_utils"


def inventories(folder: str) -> list[Any]:
    """Every inventory of a folder, as test parameters named after their files."""
    files = sorted((INVENTORIES / folder).glob("*.yml"))
    return [pytest.param(yaml.safe_load(file.read_text("utf-8")), id=file.stem) for file in files]


def mistakes(hosts: dict[str, Any], **more: Any) -> tuple[ValidationError, ...]:
    with pytest.raises(DeclarationError) as caught:
        read_topology(hosts, **more)
    return caught.value.errors


def plain(value: Any) -> Any:
    """Tuples and dataclasses as lists, to compare with YAML."""
    if isinstance(value, IpamConfig):
        return [value.subnet, value.gateway, value.ip_range, plain(value.aux_addresses)]
    if isinstance(value, (Port, StaticRoute)):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value) if item.compare}
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def fact(host: Host, path: str) -> Any:
    """What stands at ``networks.web.driver``; of several endpoints, a list."""
    room, _dot, rest = path.partition(".")
    if room == "settings":
        return plain(attrgetter(rest)(host.settings))
    named = {item.name: item for item in getattr(host, room)}
    if not rest:
        return named
    name, *keys = rest.split(".")
    value: Any = named[name]
    for key in keys:
        value = tuple(getattr(item, key) for item in value) if isinstance(value, tuple) else getattr(value, key)
    return plain(value)


@pytest.mark.parametrize("inventory", inventories("wrong"))
def test_every_mistake_is_found_and_nothing_else(inventory: dict[str, Any]) -> None:
    found = mistakes(inventory["hosts"], groups=inventory.get("groups"))
    expected = inventory["expected"]
    assert sorted(mistake.path for mistake in found) == sorted(item["path"] for item in expected)
    for item in expected:
        assert any(fits(mistake, item) for mistake in found), (item, found)


def fits(mistake: ValidationError, item: dict[str, Any]) -> bool:
    text = f"{mistake.problem} {mistake.remedy}"
    return (
        mistake.path == item["path"]
        and all(part in text for part in item["contains"])
        and list(mistake.hosts) == item.get("hosts", list(mistake.hosts))
        and mistake.value == item.get("value", mistake.value)
    )


@pytest.mark.parametrize("inventory", inventories("wrong"))
def test_every_mistake_says_what_to_do_and_none_leaks(inventory: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError) as caught:
        read_topology(inventory["hosts"])
    text = str(caught.value)
    for mistake in caught.value.errors:
        assert mistake.problem.endswith((".", "?"))
        assert mistake.path in text
        assert set(mistake.hosts) <= set(inventory["hosts"])
        assert mistake.hosts
    for word in inventory.get("never", ()):
        assert word not in text


def test_every_rule_is_broken_by_one_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever adds a rule adds an inventory that breaks it."""
    seen: set[tuple[str, int]] = set()
    original = VarPath.wrong

    def wrong(self: VarPath, *arguments: Any, **named: Any) -> None:
        frame = sys._getframe(1)
        seen.add((Path(frame.f_code.co_filename).name, frame.f_lineno))
        original(self, *arguments, **named)

    monkeypatch.setattr(VarPath, "wrong", wrong)
    endless: dict[str, Any] = {}
    endless["again"] = endless
    by_hand = [
        {"hosts": {"node1": {"cnm_networks": {"a": {"labels": labels}}}}} for labels in (endless, {"b": "\ud800"})
    ]
    for inventory in (*(parameter.values[0] for parameter in inventories("wrong")), *by_hand):
        with suppress(DeclarationError):
            read_topology(inventory["hosts"], inventory.get("groups"))
    unbroken = [
        f"{path.name}:{call.lineno}"
        for path in sorted(path for room in ("declaration", "drivers") for path in RULES.glob(f"{room}/*.py"))
        for call in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "wrong"
        if not any((path.name, line) in seen for line in range(call.lineno, (call.end_lineno or 0) + 1))
    ]
    assert not unbroken, "write an inventory into inventories/wrong that breaks this"


@pytest.mark.parametrize("inventory", inventories("right"))
def test_what_is_written_is_what_is_read(inventory: dict[str, Any]) -> None:
    topology = read_topology(inventory["hosts"])
    host = topology.hosts[0]
    for path, value in inventory["facts"]:
        assert fact(host, path) == value, path


@pytest.mark.parametrize("inventory", [*inventories("wrong"), *inventories("right")])
@pytest.mark.parametrize("role", ["multi_host", "single_host"])
def test_the_roles_leave_it_to_the_plan_to_say_what_is_wrong(role: str, inventory: dict[str, Any]) -> None:
    specs = yaml.safe_load((RULES.parents[1] / "roles" / role / "meta" / "argument_specs.yml").read_text("utf-8"))
    options = specs["argument_specs"]["main"]["options"]
    for variables in inventory["hosts"].values():
        given = {name: value for name, value in variables.items() if name in options}
        assert ArgumentSpecValidator(options).validate(given).error_messages == []


def test_hosts_networks_and_sandboxes_are_sorted_and_endpoints_are_not() -> None:
    variables = {
        "cnm_networks": {"b": None, "a": None},
        "cnm_sandboxes": {"z": {"networks": ["b", "a"]}, "y": {"networks": ["a"]}},
    }
    topology = read_topology({"node2": variables, "node1": variables})
    assert [host.name for host in topology.hosts] == ["node1", "node2"]
    assert [network.name for network in topology.hosts[0].networks] == ["a", "b"]
    assert [sandbox.name for sandbox in topology.hosts[0].sandboxes] == ["y", "z"]
    assert [endpoint.network for endpoint in topology.hosts[0].sandboxes[1].endpoints] == ["b", "a"]
    assert [sandbox.host for host in topology.hosts for sandbox in host.sandboxes] == ["node1"] * 2 + ["node2"] * 2


@pytest.mark.parametrize(
    "hosts", [{}, {"node1": {}}, {"node1": {"cnm_networks": None, "cnm_project": "lab"}, "node2": {}}]
)
def test_an_inventory_without_any_declaration_is_refused(hosts: dict[str, Any]) -> None:
    with pytest.raises(NothingDeclared, match="right inventory"):
        read_topology(hosts)


def test_a_misspelled_declaration_is_called_that_and_not_nothing() -> None:
    with pytest.raises(DeclarationError, match="Did you mean `cnm_networks`") as caught:
        read_topology({"node1": {"cnm_network": {}}})
    assert not isinstance(caught.value, NothingDeclared)


def test_a_mistake_elsewhere_in_a_network_hides_no_wrong_address() -> None:
    networks = {"web": {"subnet": "10.0.0.0/24", "labls": {}}}
    sandboxes = {"c1": {"networks": {"web": {"ipv4_address": "10.0.1.2"}}}}
    found = mistakes({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}})
    assert [mistake.path for mistake in found] == [
        "cnm_networks.web.labls",
        "cnm_sandboxes.c1.networks.web.ipv4_address",
    ]


def test_a_wrong_subnet_is_one_mistake_however_many_addresses_are_in_it() -> None:
    networks = {"web": {"subnet": "10.0.0.1/24"}}
    sandboxes = {"c1": {"networks": {"web": {"ipv4_address": "10.0.0.2"}}}}
    found = mistakes({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}})
    assert [mistake.path for mistake in found] == ["cnm_networks.web.subnet"]


def test_variables_of_others_are_not_looked_at() -> None:
    assert read_topology({"node1": {"cnm_networks": {}, "ansible_host": object(), "cnmx": 1}}).hosts


def test_the_text_has_one_block_a_mistake_and_collapses_hosts() -> None:
    hosts = {f"node{number}": {"cnm_networks": {"web": {"subnet": "10.0.0.1/24"}}} for number in range(1, 8)}
    with pytest.raises(DeclarationError) as caught:
        read_topology(hosts)
    assert str(caught.value) == (
        "The cnm_ variables have 1 error; no host was changed.\n"
        "\n"
        "cnm_networks.web.subnet (on node1, node2 and 5 more)\n"
        "  value:   10.0.0.1/24\n"
        "  problem: The subnet has bits set behind its prefix length 24.\n"
        "  remedy:  Write `10.0.0.0/24`."
    )


def test_the_text_does_not_depend_on_the_order_of_the_variables() -> None:
    one = {"cnm_networks": {"a": {"subnet": "x"}, "b": {"subnet": "y"}}, "cnm_sandboxes": {"c": {}}}
    other = {"cnm_sandboxes": {"c": {}}, "cnm_networks": {"b": {"subnet": "y"}, "a": {"subnet": "x"}}}
    assert mistakes({"n1": one, "n2": other}) == mistakes({"n2": one, "n1": other})


class TaggedText(str):
    """As Ansible's tagged values: text that is not exactly str."""

    __slots__ = ()


class TaggedNumber(int):
    """Likewise a number."""


class TaggedMapping(dict[Any, Any]):
    """Likewise a mapping."""


class TaggedList(list[Any]):
    """Likewise a list."""


def tagged(value: Any) -> Any:
    if isinstance(value, dict):
        return TaggedMapping({tagged(key): tagged(item) for key, item in value.items()})
    if isinstance(value, list):
        return TaggedList(tagged(item) for item in value)
    if isinstance(value, str):
        return TaggedText(value)
    return TaggedNumber(value) if isinstance(value, int) and not isinstance(value, bool) else value


def exact_types(value: Any) -> set[type]:
    if isinstance(value, (tuple, list)):
        return set().union(*(exact_types(item) for item in value)) if value else set()
    if hasattr(value, "__dataclass_fields__"):
        return exact_types([getattr(value, name) for name in value.__dataclass_fields__])
    return {type(value)}


@pytest.mark.parametrize("inventory", inventories("right"))
def test_tagged_values_become_plain_ones(inventory: dict[str, Any]) -> None:
    topology = read_topology(tagged(inventory["hosts"]))
    assert topology == read_topology(inventory["hosts"])
    assert exact_types(topology) <= {str, int, bool, type(None)}


def test_the_input_is_left_as_it_was() -> None:
    hosts = {"node1": {"cnm_networks": {"a": {"subnet": 5, "labels": {"x": [1]}}}, "cnm_sandboxes": {"c": None}}}
    before = repr(hosts)
    assert mistakes(hosts)
    assert repr(hosts) == before


def test_an_anchor_inside_itself_is_refused() -> None:
    labels: dict[str, Any] = {}
    labels["again"] = labels
    found = mistakes({"node1": {"cnm_networks": {"web": {"labels": labels}}}})
    assert any("nested too deeply" in mistake.problem for mistake in found)


def test_a_number_without_end_is_refused() -> None:
    found = mistakes({"node1": {"cnm_networks": {10**5000: None, "web": {"driver_opts": {"a": 10**5000}}}}})
    assert "a very large number" in found[0].path
    assert any("too large" in mistake.problem for mistake in found)


def test_text_that_is_not_unicode_is_refused() -> None:
    found = mistakes({"node1": {"cnm_networks": {"web": {"labels": {"a": "\ud800"}}, "\ud801": None}}})
    assert sum("Unicode" in mistake.problem for mistake in found) == 2
    str(DeclarationError(found)).encode("utf-8")


@pytest.mark.parametrize(
    ("config", "gateway"),
    [
        (IpamConfig("10.0.0.0/24"), "10.0.0.1"),
        (IpamConfig("10.0.0.0/24", gateway="10.0.0.254"), "10.0.0.254"),
        (IpamConfig("10.0.0.0/24", ip_range="10.0.0.128/25"), "10.0.0.128"),
        (IpamConfig("10.0.0.0/24", aux_addresses=(("a", "10.0.0.1"),)), "10.0.0.2"),
        (IpamConfig("10.0.0.0/30", aux_addresses=(("a", "10.0.0.1"), ("b", "10.0.0.2"))), None),
        (IpamConfig("fd00::/16"), "fd00::1"),
        (IpamConfig("fd00::/64", gateway="fd00::ffff"), "fd00::ffff"),
        (IpamConfig("fd00::/48", ip_range="fd00:0:0:1::/64"), "fd00:0:0:1::"),
        (IpamConfig("fd00::/64", aux_addresses=(("a", "fd00::1"), ("b", "fd00::2"))), "fd00::3"),
        (IpamConfig("fd00::/126", aux_addresses=(("a", "fd00::1"), ("b", "fd00::2"), ("c", "fd00::3"))), None),
    ],
)
def test_the_gateway_is_the_first_free_address_as_in_docker(config: IpamConfig, gateway: str | None) -> None:
    assert gateway_of(config) == gateway


def test_the_predefined_bridge_is_only_where_a_sandbox_is_on_it() -> None:
    topology = read_topology(
        {"node1": {"cnm_networks": {"zoo": None, "air": None}, "cnm_sandboxes": {"c1": None}}, "node2": {}}
    )
    assert [network.name for network in topology.hosts[0].networks] == ["air", "bridge", "zoo"]
    assert topology.hosts[1].networks == ()


def test_ten_thousand_ports_are_compared_at_once() -> None:
    networks = {"web": {"subnet": "10.0.0.0/16"}}
    sandboxes: dict[str, Any] = {
        f"c{number}": {
            "networks": ["web"],
            "ports": [f"10.1.{number % 50}.1:{10000 + number * 5 + port}:{port + 1}" for port in range(5)],
        }
        for number in range(2000)
    }
    start = process_time()
    topology = read_topology({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}})
    assert sum(len(sandbox.ports) for sandbox in topology.hosts[0].sandboxes) == 10_000
    sandboxes["last"] = {"networks": ["web"], "ports": ["10000-19999:10000-19999"]}
    found = mistakes({"node1": {"cnm_networks": networks, "cnm_sandboxes": sandboxes}})
    assert len(found) == 10_000
    assert process_time() - start < 10


VOCABULARY = """
    web ps-bridge bridge none host c1 1 eth0 lo all driver subnet ipam config gateway ip_range aux_addresses internal
    enable_ipv4 enable_ipv6 encrypted driver_opts labels networks ports network_mode namespace hostname dns dns_opt
    dns_search extra_hosts sysctls ipv4_address ipv6_address mac_address aliases interface_name gw_priority deploy
    placement hosts target published base size com.docker.network.driver.mtu com.docker.network.bridge.name
    com.docker.network.bridge.gateway_mode_ipv4 com.docker.network.bridge.host_binding_ipv4
    com.docker.network.bridge.trusted_host_interfaces com.docker.network.host_ipv6 com.docker.network.enable_ipv6
    com.docker.network.advertise_addr_ms com.docker.network.endpoint.ifname com.docker.network.endpoint.sysctls
    routes destination firewall host_ip protocol mode DefaultGatewayIPv4 net.ipv4.ip_forward
"""
SPELLINGS = """
    10.0.0.0/24 10.0.0.1/24 10.0.0.0/30 10.0.0.0/29 0.0.0.0/0 fd00::/64 ::/0 10.0.0.2 10.0.0.255 fd00::2 fe80::1%eth0
    overlay bridge acme.net.sdn true no 02:42:0a:00:00:02 8080:80 a=b db:10.0.0.2 host-gateway sqlite:///x / ² 5-4
    etcd://u:p@x ١٠.0.0.1 default fd00:1::/48 fd00:1::9 ::1 ff02::1 [::1]:80:80 10.0.0.2:53:53/udp 80-90:80-90 [:: :
    0-0:0 99999999999:1 ٨٠:٨٠ / :: routed isolated nat 127.0.0.1 net.ipv4.conf.IFNAME.rp_filter=1 net.ipv4.ip_forward=1
    net/ipv4/conf/eth0/x=1 udp ingress 0.0.0.0/1 default/0 ::/1
"""
DECLARED = """
    cnm_networks cnm_networks_lab cnm_sandboxes cnm_sandboxes_web cnm_services cnm_project cnm_leases cnm_hosts cnm_
    cnm_default_address_pools cnm_overlay_address_pool cnm_vni_range cnm_data_path_port cnm_flood cnm_nonsense
    cnm_underlay_address cnm_overlay_secret cnm_networks_
"""
NAMES = some.sampled_from(VOCABULARY.split())
TEXTS = some.sampled_from([*SPELLINGS.split(), "", "\n", "\x00", "\ud800", "x" * 5000])
SCALARS = some.one_of(
    *(some.none(), some.booleans(), some.integers(), some.floats(), some.dates(), some.binary(max_size=3), TEXTS),
    *(NAMES, some.text(max_size=8), some.just(10**100), some.frozensets(NAMES, max_size=2)),
)
KEYS = some.one_of(NAMES, NAMES, NAMES, some.integers(), some.booleans(), some.none(), TEXTS, some.dates())
VALUES = some.recursive(
    SCALARS,
    lambda inner: some.one_of(some.lists(inner, max_size=3), some.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
OPTIONS = some.dictionaries(NAMES, VALUES, max_size=4)
ENDPOINTS = some.one_of(VALUES, some.dictionaries(NAMES, some.one_of(VALUES, OPTIONS)))
ENTRIES = some.one_of(VALUES, some.dictionaries(NAMES, some.one_of(TEXTS, VALUES, ENDPOINTS), max_size=5))
VARIABLES = some.dictionaries(
    some.sampled_from(DECLARED.split()),
    some.one_of(VALUES, some.dictionaries(KEYS, ENTRIES, max_size=4)),
    max_size=5,
)


@sampled(quick=160, whole=4000)
@given(some.dictionaries(some.sampled_from(["node1", "node2", "node3"]), VARIABLES, max_size=3))
def test_whatever_is_written_is_read_or_refused(hosts: dict[str, Any]) -> None:
    read_or_refused(hosts)


DIGITS = some.text("0123456789:-/[]. tcpudfe", max_size=20)
PLACED = some.one_of(TEXTS, DIGITS, SCALARS)
ROUTES = some.lists(some.fixed_dictionaries({"destination": PLACED, "gateway": PLACED}), max_size=3)
PORT = some.fixed_dictionaries(
    {}, optional=dict.fromkeys(("target", "published", "host_ip", "protocol", "mode"), PLACED)
)
SINGLE_HOST = some.fixed_dictionaries(
    {
        "cnm_networks": some.fixed_dictionaries(
            {
                name: some.fixed_dictionaries(
                    {},
                    optional={
                        "subnet": some.one_of(some.sampled_from(["10.0.0.0/24", "fd00::/64"]), some.lists(PLACED)),
                        "routes": ROUTES,
                        "internal": some.booleans(),
                        "firewall": some.sampled_from(["none", "default"]),
                        "enable_ipv4": some.booleans(),
                        "enable_ipv6": some.booleans(),
                        "driver": some.sampled_from(DRIVERS.names),
                        "driver_opts": some.dictionaries(some.sampled_from(NETWORK_OPTIONS), PLACED),
                    },
                )
                for name in ("web", "lan")
            }
        ),
        "cnm_sandboxes": some.dictionaries(
            some.sampled_from(["c1", "c2"]),
            some.fixed_dictionaries(
                {},
                optional={
                    "networks": some.dictionaries(
                        some.sampled_from(["web", "lan", "bridge", "host"]),
                        some.fixed_dictionaries(
                            {},
                            optional={
                                "ipv4_address": PLACED,
                                "ipv6_address": PLACED,
                                "routes": ROUTES,
                                "gw_priority": some.integers(-2, 2),
                                "driver_opts": some.dictionaries(some.sampled_from(ENDPOINT_OPTIONS), PLACED),
                            },
                        ),
                    ),
                    "ports": some.lists(some.one_of(PLACED, PORT), max_size=4),
                    "sysctls": some.one_of(some.dictionaries(NAMES, PLACED), some.lists(PLACED)),
                },
            ),
        ),
    }
)


@sampled(quick=160, whole=4000)
@given(SINGLE_HOST)
def test_whatever_is_written_in_its_place_is_read_or_refused(variables: dict[str, Any]) -> None:
    read_or_refused({"node1": variables})


def read_or_refused(hosts: dict[str, Any]) -> None:
    try:
        topology = read_topology(hosts, {"all": list(hosts)})
    except DeclarationError as error:
        assert error.errors
        str(error).encode("utf-8")
        assert all("\n" not in line.path + line.value for line in error.errors)
    else:
        assert isinstance(topology, Topology)
        hash(topology)
