# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Names: what each sandbox's files and resolver say, derived from what is declared."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Optional

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import RESOLVER_FAILURES
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, LoadedNames, Resolver
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError
from ansible_collections.cnm.fabric.plugins.plugin_utils.dns.records import reverse_zones
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import plan

FACTS = Facts(resolvers=("192.0.2.1", "2001:db8::1"), search=("corp.example",), options=("timeout:1",))
NETWORKS: dict[str, dict[str, Any]] = {
    "front": {"subnet": "10.0.0.0/24"},
    "back": {"subnet": "10.0.1.0/24", "internal": True},
    "dual": {"subnet": ["10.0.2.0/24", "fd00:2::/64"], "enable_ipv6": True},
    "six": {"subnet": "fd00:3::/64", "enable_ipv6": True, "enable_ipv4": False},
}
NAMES = "/run/cnm/default/names"


def planned(sandboxes: dict[str, Any], facts: Facts = FACTS, networks: Optional[dict[str, Any]] = None) -> Plan:
    variables = {"node1": {"cnm_networks": networks or NETWORKS, "cnm_sandboxes": sandboxes}}
    made = plan(read_topology(variables), {"node1": facts}, empty(), "now")
    assert not made.refusals
    return made.plans["node1"]


def warnings(sandboxes: dict[str, Any], facts: Facts) -> list[str]:
    variables = {"node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}}
    return plan(read_topology(variables), {"node1": facts}, empty(), "now").warnings.get("node1", [])


def files_of(made: Plan, directory: str) -> dict[str, str]:
    (file,) = (item for item in made.resources if isinstance(item, File) and item.directory == directory)
    return file.files


def records(made: Plan, network: str) -> list[str]:
    """The lines of a network's names, below the mark."""
    mark, *lines = files_of(made, "/run/cnm/default/names")[network].splitlines()
    assert mark == "# cnm:default:names"
    return lines


def loaded(made: Plan) -> dict[str, str]:
    """The digests of the files that the resolvers must have loaded."""
    (found,) = (item.loaded for item in made.resources if isinstance(item, LoadedNames))
    return found


def resolver(made: Plan, sandbox: str) -> Resolver:
    (found,) = (item for item in made.resources if isinstance(item, Resolver) and item.namespace == sandbox)
    return found


def servers(made: Plan, sandbox: str) -> list[str]:
    """The lines of a sandbox's servers file, below the mark."""
    (said,) = (line for line in resolver(made, sandbox).config if line.startswith("servers-file="))
    mark, *lines = files_of(made, NAMES)[said.rpartition("/")[2]].splitlines()
    assert mark == "# cnm:default:names"
    return lines


def asked(made: Plan, sandbox: str) -> list[str]:
    """Whom a sandbox's resolver asks, in order."""
    return [line.partition("=")[2] for line in servers(made, sandbox) if not line.startswith("server=/")]


def kept(made: Plan, sandbox: str) -> set[str]:
    """Names that are answered by the resolver itself in every type."""
    return {line.split("/")[1] for line in servers(made, sandbox) if line.startswith("server=/")}


def hosts(made: Plan, sandbox: str = "c1") -> list[str]:
    """The lines of a sandbox's hosts file behind those every host has."""
    return files_of(made, f"/etc/netns/{sandbox}")["hosts"].splitlines()[5:]


def resolv_conf(made: Plan, sandbox: str = "c1") -> list[str]:
    mark, *lines = files_of(made, f"/etc/netns/{sandbox}")["resolv.conf"].splitlines()
    assert mark == f"# cnm:default:sandbox/{sandbox}"
    return lines


class TestRecords:
    def test_the_canonical_name_comes_first_and_includes_the_network(self) -> None:
        made = planned({"c1": {"networks": ["front"]}})
        assert records(made, "front") == ["10.0.0.2 c1.front c1"]

    def test_aliases_and_hostname_resolve_with_and_without_the_network(self) -> None:
        made = planned({"c1": {"hostname": "box", "networks": {"front": {"aliases": ["web", "www"]}}}})
        assert records(made, "front") == ["10.0.0.2 c1.front c1 web www box web.front www.front box.front"]

    def test_names_are_unique(self) -> None:
        made = planned({"c1": {"hostname": "web", "networks": {"front": {"aliases": ["web", "c1"]}}}})
        (line,) = records(made, "front")
        words = line.split()
        assert len(words) == len(set(words))
        assert set(words) == {"10.0.0.2", "c1.front", "c1", "web", "web.front"}

    def test_records_are_sorted_by_address_as_a_number(self) -> None:
        static = {f"s{last}": {"networks": {"front": {"ipv4_address": f"10.0.0.{last}"}}} for last in (100, 9, 20)}
        assert [line.split()[0] for line in records(planned(static), "front")] == [
            "10.0.0.9",
            "10.0.0.20",
            "10.0.0.100",
        ]

    def test_an_alias_resolves_only_on_its_own_network(self) -> None:
        made = planned({"c1": {"networks": {"front": {"aliases": ["web"]}, "back": None}}})
        assert "web" in records(made, "front")[0].split()
        assert "web" not in records(made, "back")[0].split()

    def test_there_is_one_file_for_each_network_in_use(self) -> None:
        files = files_of(planned({"c1": {"networks": ["front"]}}), NAMES)
        assert [name for name in files if not name.startswith("@")] == ["front"]

    def test_both_addresses_of_a_dual_stack_endpoint_have_all_its_names(self) -> None:
        made = planned({"c1": {"networks": {"dual": {"aliases": ["web"]}}}})
        assert records(made, "dual") == [
            "10.0.2.2 c1.dual c1 web web.dual",
            "fd00:2::2 c1.dual c1 web web.dual",
        ]

    def test_an_invalid_dns_name_gets_no_record(self) -> None:
        made = planned({"a..b": {"networks": {"front": {"aliases": ["web"]}}}, "c.": {"networks": ["front"]}})
        assert records(made, "front") == ["10.0.0.2 web web.front"]


class TestReverseZones:
    @pytest.mark.parametrize(
        ("subnet", "first", "count"),
        [
            ("10.0.0.0/8", "10.in-addr.arpa", 1),
            ("172.16.0.0/12", "16.172.in-addr.arpa", 16),
            ("172.17.0.0/16", "17.172.in-addr.arpa", 1),
            ("192.168.16.0/20", "16.168.192.in-addr.arpa", 16),
            ("10.1.2.0/24", "2.1.10.in-addr.arpa", 1),
            ("10.1.2.128/25", "128.2.1.10.in-addr.arpa", 128),
            ("10.1.2.4/30", "4.2.1.10.in-addr.arpa", 4),
            ("fd00:2::/64", "0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa", 1),
            ("2001:db8:10::/46", "0.1.0.0.8.b.d.0.1.0.0.2.ip6.arpa", 4),
            ("fd00::4/126", ".".join(["4", *["0"] * 29, "d.f.ip6.arpa"]), 4),
        ],
    )
    def test_zones_are_cut_at_whole_labels(self, subnet: str, first: str, count: int) -> None:
        zones = reverse_zones(subnet)
        assert zones[0] == first
        assert len(set(zones)) == len(zones) == count

    @settings(max_examples=200)
    @given(st.data())
    def test_zones_hold_exactly_the_addresses_of_the_subnet(self, data: st.DataObject) -> None:
        version = data.draw(st.sampled_from((4, 6)))
        addresses = st.ip_addresses(v=4) if version == 4 else st.ip_addresses(v=6)
        inside, other = data.draw(addresses), data.draw(addresses)
        length = data.draw(st.integers(8, 30 if version == 4 else 126))
        subnet = (IPv4Network if version == 4 else IPv6Network)((int(inside), length), strict=False)
        zones = reverse_zones(str(subnet))

        def held(address: Any) -> bool:
            return any(f".{address.reverse_pointer}".endswith(f".{zone}") for zone in zones)

        assert held(inside)
        assert held(subnet[0])
        assert held(subnet[-1])
        assert held(other) == (other in subnet)

    def test_a_resolver_answers_only_for_addresses_of_its_own_networks(self) -> None:
        made = planned({"c1": {"networks": ["front"]}, "c2": {"networks": ["dual"]}})
        assert {name for name in kept(made, "c1") if name.endswith(".arpa")} == {"0.0.10.in-addr.arpa"}
        assert {name for name in kept(made, "c2") if name.endswith(".arpa")} == {
            "2.0.10.in-addr.arpa",
            "0.0.0.0.0.0.0.0.2.0.0.0.0.0.d.f.ip6.arpa",
        }


class TestResolver:
    def test_the_resolver_listens_at_docker_s_address_and_reads_no_file_of_the_host(self) -> None:
        config = resolver(planned({"c1": {"networks": ["front"]}}), "c1").config
        assert {"listen-address=127.0.0.11", "bind-interfaces", "no-hosts", "no-resolv", "local=//"} <= set(config)
        assert "port=20053" in config

    def test_the_resolver_reads_the_names_of_its_networks_alone(self) -> None:
        made = planned({"c1": {"networks": ["front", "back"]}, "c2": {"networks": ["back"]}})
        for sandbox, networks in (("c1", ["back", "front"]), ("c2", ["back"])):
            config = resolver(made, sandbox).config
            read = [line.partition("=")[2] for line in config if line.startswith("addn-hosts=")]
            assert read == [f"{NAMES}/{network}" for network in networks]
        assert set(loaded(made)) == set(files_of(made, NAMES))

    def test_one_sandbox_more_changes_the_files_of_its_network_and_no_other_resolver(self) -> None:
        boxes: dict[str, Any] = {"c1": {"networks": ["front"]}, "c2": {"networks": ["back"]}}
        before, after = planned(boxes), planned({**boxes, "c3": {"networks": ["back"]}})
        for sandbox in boxes:
            assert resolver(before, sandbox) == resolver(after, sandbox)
        changed = {name for name, digest in loaded(after).items() if loaded(before)[name] != digest}
        (servers,) = (line for line in resolver(after, "c2").config if line.startswith("servers-file="))
        assert changed == {"back", servers.rpartition("/")[2]}

    def test_changed_records_or_upstreams_need_no_restart(self) -> None:
        before = planned({"c1": {"networks": ["front", "dual"]}})
        sandboxes = {
            "c1": {"hostname": "box.example", "networks": {"front": {"aliases": ["a.b"]}, "dual": None}},
            "c2": {"networks": ["dual"]},
        }
        after = planned(sandboxes, Facts(resolvers=("198.51.100.7", "198.51.100.8")))
        assert resolver(before, "c1").config == resolver(after, "c1").config
        assert loaded(before) != loaded(after)

    def test_sandboxes_on_the_same_networks_share_their_files(self) -> None:
        made = planned({f"c{number}": {"networks": ["front"]} for number in range(9)})
        assert len(files_of(made, NAMES)) == 2
        assert len({resolver(made, f"c{number}").config for number in range(9)}) == 1


class TestDottedNames:
    def test_our_own_names_are_never_forwarded(self) -> None:
        made = planned({"c1": {"hostname": "box.example", "networks": {"front": {"aliases": ["web"]}}}})
        names = {name for name in kept(made, "c1") if not name.endswith(".arpa")}
        assert names == {"c1.front", "web.front", "box.example", "box.example.front"}

    def test_a_network_s_name_does_not_hide_a_domain(self) -> None:
        for name in ("app", "example.com"):
            made = planned({"c1": {"networks": [name]}}, networks={name: {"subnet": "10.0.0.0/24"}})
            assert name not in kept(made, "c1")
            assert f"c1.{name}" in kept(made, "c1")
            assert not [
                line for line in resolver(made, "c1").config if line.startswith("local=") and line != "local=//"
            ]

    def test_names_of_other_networks_are_forwarded(self) -> None:
        made = planned({"c1": {"networks": ["front"]}, "c2": {"networks": ["back"]}})
        assert "c2.back" not in kept(made, "c1")


class TestUpstreams:
    def test_other_dotted_names_are_forwarded_to_the_host_s_servers_in_order(self) -> None:
        made = planned({"c1": {"networks": ["front"]}}, Facts(resolvers=("192.0.2.2", "192.0.2.1", "192.0.2.2")))
        assert asked(made, "c1") == ["192.0.2.2", "192.0.2.1"]
        assert "strict-order" in resolver(made, "c1").config
        alone = planned({"c1": {"networks": ["front"]}}, Facts(resolvers=("192.0.2.2",)))
        assert "strict-order" not in resolver(alone, "c1").config
        assert "#" not in kept(made, "c1")

    def test_only_reachable_servers_are_used(self) -> None:
        made = planned({"c4": {"networks": ["front"]}, "c6": {"networks": ["six"]}, "c46": {"networks": ["dual"]}})
        assert asked(made, "c4") == ["192.0.2.1"]
        assert asked(made, "c6") == ["2001:db8::1"]
        assert asked(made, "c46") == ["192.0.2.1", "2001:db8::1"]

    def test_a_server_on_a_network_or_behind_a_route_needs_no_default_route(self) -> None:
        route = {"routes": [{"destination": "2001:db8:9::/48", "gateway": "fd00:2::9"}]}
        both = {"dns": ["fd00:2::9", "2001:db8:9::1", "192.0.2.1"]}
        made = planned(
            {
                "c1": {"networks": ["front"], **both},
                "c2": {"networks": {"front": None, "inner": None}, **both},
                "c3": {"networks": {"front": None, "inner": route}, **both},
            },
            networks={"front": NETWORKS["front"], "inner": {**NETWORKS["dual"], "internal": True}},
        )
        assert asked(made, "c1") == ["192.0.2.1"]
        assert asked(made, "c2") == ["fd00:2::9", "192.0.2.1"]
        assert asked(made, "c3") == ["fd00:2::9", "2001:db8:9::1", "192.0.2.1"]

    @pytest.mark.parametrize("server", ["fe80::1", "0.0.0.0", "127.0.0.53", "::1", "224.0.0.251"])
    def test_unusable_servers_are_left_out(self, server: str) -> None:
        made = planned({"c1": {"networks": ["dual"]}}, Facts(resolvers=(server, "192.0.2.1")))
        assert asked(made, "c1") == ["192.0.2.1"]

    def test_dns_of_a_sandbox_replaces_the_host_s_servers(self) -> None:
        made = planned({"c1": {"networks": ["front"], "dns": ["198.51.100.2", "198.51.100.1"]}})
        assert asked(made, "c1") == ["198.51.100.2", "198.51.100.1"]

    def test_a_server_on_the_sandbox_s_own_loopback_is_used(self) -> None:
        made = planned({"c1": {"networks": ["front"], "dns": ["127.0.0.1"]}})
        assert asked(made, "c1") == ["127.0.0.1"]

    @pytest.mark.parametrize("server", ["198.51.100.2", "127.0.0.1", "10.0.1.9"])
    def test_an_internal_sandbox_forwards_nothing_not_even_to_its_own_dns(self, server: str) -> None:
        made = planned({"c1": {"networks": ["back"], "dns": [server]}})
        assert asked(made, "c1") == []
        assert "#" in kept(made, "c1")

    def test_one_network_that_is_not_internal_is_enough_to_forward(self) -> None:
        assert asked(planned({"c1": {"networks": ["back", "front"]}}), "c1") == ["192.0.2.1"]

    def test_without_servers_nothing_is_forwarded(self) -> None:
        made = planned({"c1": {"networks": ["front"]}}, Facts())
        assert asked(made, "c1") == []
        assert "#" in kept(made, "c1")

    def test_a_sandbox_that_can_reach_no_resolver_is_named(self) -> None:
        sandboxes = {
            **{f"c{number}": {"networks": ["six"]} for number in range(7)},
            "d1": {"networks": ["front"], "dns": ["2001:db8::9"]},
            "fine": {"networks": ["front"]},
            "hidden": {"networks": ["back"]},
            "alone": {"network_mode": "none"},
        }
        lost = "external names will not resolve in"
        remedy = ". Set `dns` to a reachable one"
        assert warnings(sandboxes, Facts(resolvers=("192.0.2.1",))) == [
            f"{lost} c0, c1, c2, c3, c4 and 2 more: no route to resolver 192.0.2.1{remedy}",
            f"{lost} d1: no route to resolver 2001:db8::9{remedy}",
        ]

    def test_a_host_whose_apparmor_confines_dnsmasq_is_refused_with_what_to_do(self) -> None:
        def refusals(sandboxes: dict[str, Any], confined: bool = True) -> list[str]:
            topology = read_topology({"node1": {"cnm_networks": NETWORKS, "cnm_sandboxes": sandboxes}})
            made = plan(topology, {"node1": Facts(dnsmasq_confined=confined)}, empty(), "now")
            return made.refusals.get("node1", [])

        (said,) = refusals({"c1": {"networks": ["front"]}})
        assert (
            "echo '@{run}/cnm/*/{resolvers,names}/* r,' >>/etc/apparmor.d/local/usr.sbin.dnsmasq && "
            "apparmor_parser --replace /etc/apparmor.d/usr.sbin.dnsmasq"
        ) in said
        assert refusals({"c1": {"networks": ["front"]}}, confined=False) == []
        assert refusals({"c1": {"network_mode": "none"}, "c2": {"network_mode": "host"}}) == []

    def test_resolvers_are_named_if_none_of_a_sandboxs_answers(self) -> None:
        sandboxes = {
            "c1": {"networks": ["front"]},
            "c2": {"networks": ["front"]},
            "six": {"networks": ["six"]},
            "own": {"networks": ["front"], "dns": ["9.9.9.9"]},
            "both": {"networks": ["front"], "dns": ["9.9.9.9", "192.0.2.1"]},
            "same": {"networks": ["front"], "dns": ["192.0.2.2"]},
            "hidden": {"networks": ["back"]},
            "alone": {"network_mode": "none"},
        }
        servers = ("192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::9")
        failures = dict(zip(servers, RESOLVER_FAILURES, strict=True))
        lost = "external names will not resolve in"
        remedy = ". Set `dns` to one that resolves names for this host"
        four = "192.0.2.1 answers REFUSED, 192.0.2.2 answers SERVFAIL, 192.0.2.3 is unreachable"
        assert warnings(sandboxes, Facts(resolvers=servers, failing_resolvers=failures)) == [
            f"{lost} c1, c2: resolver {four}{remedy}",
            f"{lost} same: resolver 192.0.2.2 answers SERVFAIL{remedy}",
            f"{lost} six: resolver 2001:db8::9 does not answer{remedy}",
        ]
        del failures["192.0.2.3"]
        assert warnings({"c1": {"networks": ["front"]}}, Facts(resolvers=servers, failing_resolvers=failures)) == []

    def test_a_stub_without_known_upstreams_is_warned_of_but_no_resolver_is_not(self) -> None:
        sandboxes = {"c1": {"networks": ["front"]}}
        (said,) = warnings(sandboxes, Facts(resolvers=("127.0.0.53",)))
        assert said.startswith("external names will not resolve in c1: no route to resolver 127.0.0.53.")
        assert warnings(sandboxes, Facts()) == []


_ADDRESS = r"[0-9a-f:.]+"
_WORD = r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*"
EXPECTED = {
    "config": rf"port=20053|listen-address=127\.0\.0\.11|bind-interfaces|no-hosts|no-resolv|strict-order|local=//"
    rf"|dns-forward-max=1024|addn-hosts={NAMES}/[A-Za-z0-9][A-Za-z0-9_.-]*|servers-file={NAMES}/@[0-9a-f]{{12}}",
    "servers": rf"server=({_ADDRESS}|/#/|/{_WORD}/)",
    "records": rf"{_ADDRESS}( {_WORD})+",
    "hosts": rf"{_ADDRESS}( {_WORD})+",
    "resolv.conf": rf"nameserver 127\.0\.0\.11|search( (\.|{_WORD}\.?))+|options( [a-z0-9-]+(:[0-9]+)?)+",
    "hostname": r"[A-Za-z0-9_.-]+",
}
_CHARACTERS = "aZ09_-.\n\r\t\v\0 =#/,:;\"'\\%$&*@\u2028\x85é"
_odd = st.text(_CHARACTERS, min_size=1, max_size=8) | st.from_regex(_WORD, fullmatch=True)
_some = st.lists(_odd, max_size=2)
_addresses = st.ip_addresses().map(str) | _odd


class TestInjection:
    """Whatever the declaration lets through, each line that comes of it is one of those that are meant."""

    @settings(max_examples=400)
    @given(
        network=_odd,
        sandbox=_odd,
        endpoint=st.fixed_dictionaries({}, optional={"aliases": _some}),
        options=st.fixed_dictionaries(
            {},
            optional={
                "hostname": _odd,
                "dns": st.lists(_addresses, max_size=2),
                "dns_search": _some,
                "dns_opt": _some,
                "extra_hosts": st.dictionaries(_odd, _addresses | st.just("host-gateway"), max_size=2),
            },
        ),
        server=st.ip_addresses().map(str),
    )
    @example("0", "0", {}, {"dns_search": ["0", "."]}, "0.0.0.0")  # the root among others, as Docker has it
    def test_hostile_names_add_no_lines(
        self, network: str, sandbox: str, endpoint: Any, options: Any, server: str
    ) -> None:
        sandboxes = {sandbox: {"networks": {network: endpoint}, **options}}
        try:
            made = planned(sandboxes, Facts(resolvers=(server,)), {network: NETWORKS["dual"]})
        except DeclarationError:
            return
        own = files_of(made, f"/etc/netns/{sandbox}")
        said = {
            "config": list(resolver(made, sandbox).config),
            "servers": servers(made, sandbox),
            "records": records(made, network),
            "hosts": own["hosts"].split("\n")[5:-1],
            "resolv.conf": own["resolv.conf"].split("\n")[1:-1],
            "hostname": own["hostname"].split("\n")[:-1],
        }
        for what, lines in said.items():
            for line in lines:
                assert re.fullmatch(EXPECTED[what], line), (what, line)


class TestFiles:
    def test_resolv_conf_has_the_resolver_and_the_host_s_settings(self) -> None:
        made = planned({"c1": {"networks": ["front"]}})
        assert resolv_conf(made) == ["nameserver 127.0.0.11", "search corp.example", "options timeout:1 ndots:0"]

    def test_dns_search_and_dns_opt_replace_the_host_s(self) -> None:
        sandbox = {"networks": ["front"], "dns_search": ["a.example", "b.example"], "dns_opt": ["ndots:3", "rotate"]}
        assert resolv_conf(planned({"c1": sandbox})) == [
            "nameserver 127.0.0.11",
            "search a.example b.example",
            "options ndots:3 rotate",
        ]

    def test_a_single_dot_means_no_search_at_all(self) -> None:
        made = planned({"c1": {"networks": ["front"], "dns_search": ["."]}})
        assert not [line for line in resolv_conf(made) if line.startswith("search")]

    def test_hosts_has_the_sandbox_s_own_addresses_and_the_extra_ones(self) -> None:
        sandbox = {
            "networks": ["front", "back"],
            "hostname": "box",
            "extra_hosts": {"printer": "192.0.2.7", "archive": "192.0.2.8"},
        }
        lines = files_of(planned({"c1": sandbox}), "/etc/netns/c1")["hosts"].splitlines()
        assert lines[1:5] == [
            "127.0.0.1 localhost",
            "::1 localhost ip6-localhost ip6-loopback",
            "ff02::1 ip6-allnodes",
            "ff02::2 ip6-allrouters",
        ]
        assert sorted(lines[5:]) == ["10.0.0.2 box", "10.0.1.2 box", "192.0.2.7 printer", "192.0.2.8 archive"]

    def test_hosts_has_both_addresses_of_a_dual_stack_sandbox_and_extra_ones_of_either_kind(self) -> None:
        sandbox = {"networks": ["dual"], "extra_hosts": {"printer": ["192.0.2.7", "2001:db8::7"]}}
        lines = ["192.0.2.7 printer", "2001:db8::7 printer", "10.0.2.2 c1", "fd00:2::2 c1"]
        assert hosts(planned({"c1": sandbox})) == lines

    @pytest.mark.parametrize(
        ("networks", "addresses"),
        [
            (["front"], ["10.0.0.1"]),
            (["dual"], ["10.0.2.1", "fd00:2::1"]),
            (["six"], ["fd00:3::1"]),
            (["back", "front"], ["10.0.0.1"]),
            (["back"], []),
        ],
    )
    def test_host_gateway_is_the_host_on_the_network_with_the_default_route(
        self, networks: list[str], addresses: list[str]
    ) -> None:
        made = planned({"c1": {"networks": networks, "extra_hosts": {"host.docker.internal": "host-gateway"}}})
        found = [line for line in hosts(made) if line.endswith(" host.docker.internal")]
        assert found == [f"{address} host.docker.internal" for address in addresses]

    @pytest.mark.parametrize(("declared", "name"), [({}, "c1"), ({"hostname": "box.example"}, "box.example")])
    def test_the_hostname_is_the_one_given_or_the_sandbox_s_name(self, declared: dict[str, Any], name: str) -> None:
        files = files_of(planned({"c1": {"networks": ["front"], **declared}}), "/etc/netns/c1")
        assert files["hostname"] == f"{name}\n"
        assert f"10.0.0.2 {name}" in files["hosts"].splitlines()

    def test_programs_in_a_sandbox_use_only_files_and_dns(self) -> None:
        files = files_of(planned({"c1": {"networks": ["front"]}}), "/etc/netns/c1")
        assert "hosts: files dns" in files["nsswitch.conf"].splitlines()

    def test_a_sandbox_without_networks_has_no_server_to_ask_and_no_resolver(self) -> None:
        made = planned({"c1": {"network_mode": "none"}})
        assert resolv_conf(made) == []
        assert not [item for item in made.resources if isinstance(item, Resolver)]

    def test_a_sandbox_in_the_host_s_network_has_the_host_s_files(self) -> None:
        assert [item.kind for item in planned({"c1": {"network_mode": "host"}}).resources] == ["boot"]

    def test_every_address_in_a_file_is_one(self) -> None:
        made = planned(
            {"c1": {"networks": ["front"], "extra_hosts": {"printer": "192.0.2.7"}}, "c2": {"networks": ["back"]}}
        )
        for sandbox in ("c1", "c2"):
            for line in files_of(made, f"/etc/netns/{sandbox}")["hosts"].splitlines()[1:]:
                assert ip_address(line.split()[0])
