# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the kernel makes of our netlink messages, and namespaces as it knows them.

Each test has namespaces of its own, with names that nothing else has, which are gone when it ends.
"""

from __future__ import annotations

import errno
import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.kernel import namespaces, netlink
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Netlink, NetlinkError

MAC, MAC2 = "02:42:0a:00:00:02", "02:42:0a:00:00:03"
ZERO = "00:00:00:00:00:00"
OWN = "/proc/thread-self/ns/net"


def dumped(read: Callable[[Netlink], Any]) -> Any:
    with Netlink() as kernel:
        return read(kernel)


def sent(*messages: netlink.Message) -> None:
    with Netlink() as kernel:
        kernel.send(messages)


def eventually(condition: Callable[[], bool]) -> bool:
    """The kernel settles a link's state in its own time after it has been set up."""
    deadline = time.monotonic() + 5
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


class Place:
    """A namespace to test in; what it is given to do happens inside."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return namespaces.run(self.name, function, *arguments)

    def send(self, *messages: netlink.Message) -> None:
        self.run(sent, *messages)

    def refusal(self, message: netlink.Message) -> NetlinkError:
        with pytest.raises(NetlinkError) as caught:
            self.send(message)
        return caught.value

    @property
    def links(self) -> dict[str, dict[str, Any]]:
        return {link["name"]: link for link in self.run(dumped, Netlink.links)}

    @property
    def addresses(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(dumped, Netlink.addresses)
        return found

    @property
    def routes(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(dumped, Netlink.routes)
        return found

    @property
    def neighbours(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(dumped, Netlink.neighbours)
        return found

    @property
    def fdb(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.run(dumped, Netlink.fdb)
        return found

    def index(self, name: str) -> int:
        return int(self.links[name]["index"])


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    """The machine's own links are the same ones after each test."""
    before = {(link["index"], link["name"]) for link in dumped(Netlink.links)}
    yield
    assert {(link["index"], link["name"]) for link in dumped(Netlink.links)} == before


@pytest.fixture
def unused() -> Iterator[Callable[[], str]]:
    """Names nobody has; whatever has one of them afterwards is deleted."""
    given: list[str] = []

    def name() -> str:
        given.append(f"cnm-test-{os.getpid()}-{len(given)}")
        return given[-1]

    yield name
    for used in given:
        namespaces.delete(used)


@pytest.fixture
def place(unused: Callable[[], str]) -> Place:
    name = unused()
    namespaces.create(name)
    return Place(name)


@pytest.fixture
def other(unused: Callable[[], str]) -> Place:
    name = unused()
    namespaces.create(name)
    return Place(name)


def pair(place: Place, other: Place, host_end: str = "vh-1", **more: Any) -> None:
    """A veth pair: one end in ``place``, the other made in ``other`` as eth0."""
    descriptor = os.open(f"{namespaces.DIRECTORY}/{other.name}", os.O_RDONLY)
    try:
        peer = {"name": "eth0", "netns_fd": descriptor, "mac": MAC, "mtu": 1400}
        place.send(netlink.new_link(host_end, "veth", mtu=1400, peer=peer, **more))
    finally:
        os.close(descriptor)


# --- Links ---


def test_a_new_namespace_has_a_loopback_link_that_is_down(place: Place) -> None:
    assert set(place.links) == {"lo"}
    loopback = place.links["lo"]
    assert (loopback["index"], loopback["loopback"], loopback["up"], loopback["alias"]) == (1, True, False, "")
    assert (loopback["mtu"], loopback["mac"], loopback["kind"], loopback["link_netnsid"]) == (65536, ZERO, "", None)
    assert (place.addresses, place.routes, place.neighbours, place.fdb) == ([], [], [], [])


def test_a_bridge_is_made_as_asked(place: Place) -> None:
    options = {"ageing_time": 12000, "mcast_snooping": False, "stp_state": 0, "priority": 4096}
    place.send(netlink.new_link("br-1", "bridge", mac=MAC, mtu=1450, group=9, up=True, index=42, data=options))
    bridge = place.links["br-1"]
    assert (bridge["index"], bridge["kind"], bridge["mac"], bridge["mtu"]) == (42, "bridge", MAC, 1450)
    assert (bridge["group"], bridge["up"], bridge["carrier"]) == (9, True, False)
    assert options.items() <= bridge["data"].items()
    assert bridge["data"]["nf_call_iptables"] is False
    assert bridge["port"] == {}


def test_a_peer_is_made_in_its_namespace_with_its_final_name(place: Place, other: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge", up=True))
    bridge = place.index("br-1")
    pair(place, other, master=bridge, up=True)
    near, far = place.links["vh-1"], other.links["eth0"]
    assert (far["index"], far["mac"], far["mtu"], far["up"], far["kind"]) == (2, MAC, 1400, False, "veth")
    assert (near["mtu"], near["master"], near["up"], near["carrier"]) == (1400, bridge, True, False)
    assert (near["link"], far["link"]) == (far["index"], near["index"])
    assert near["link_netnsid"] is not None
    assert near["port"]["isolated"] is False
    other.send(netlink.set_link(2, up=True))
    assert place.links["vh-1"]["carrier"] is True
    assert eventually(lambda: bool(other.links["eth0"]["running"]))


def test_a_link_is_changed(place: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge"), netlink.new_link("a", "veth", peer={"name": "b"}))
    index, bridge = place.index("a"), place.index("br-1")
    place.send(
        netlink.set_link(
            index, name="a2", mac=MAC2, mtu=1300, alias="cnm:default:x", group=3, master=bridge, addr_gen_mode="none"
        ),
        netlink.set_link(index, up=True),
    )
    link = place.links["a2"]
    wanted = {"mac": MAC2, "mtu": 1300, "alias": "cnm:default:x", "group": 3, "master": bridge, "up": True}
    assert wanted.items() <= link.items()
    assert link["addr_gen_mode"] == "none"
    place.send(netlink.set_link(index, alias="", master=0, up=False, addr_gen_mode="eui64"))
    link = place.links["a2"]
    assert {"alias": "", "master": 0, "up": False, "addr_gen_mode": "eui64", "mtu": 1300}.items() <= link.items()


def test_bridge_port_flags_are_set_on_a_port_and_only_there(place: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge"), netlink.new_link("a", "veth", peer={"name": "b"}))
    index = place.index("a")
    flags = {"isolated": True, "learning": False, "flood": False, "mcast_flood": False, "bcast_flood": False}
    flags |= {"neigh_suppress": True, "hairpin": True, "guard": True, "fast_leave": True}
    assert place.refusal(netlink.set_link(index, port=flags)).errno in (errno.EOPNOTSUPP, errno.EINVAL)
    assert place.links["a"]["port"] == {}
    place.send(netlink.set_link(index, master=place.index("br-1")), netlink.set_link(index, port=flags))
    port = place.links["a"]["port"]
    assert flags.items() <= port.items()
    assert all(isinstance(value, bool) for value in port.values())
    place.send(netlink.set_link(index, port={"isolated": False}))
    assert place.links["a"]["port"] == {**port, "isolated": False}


@pytest.mark.parametrize("local", ["192.0.2.1", "2001:db8::1"])
def test_a_vxlan_is_made_as_asked(place: Place, local: str) -> None:
    options = {"id": 4097, "local": local, "port": 4789, "learning": False, "ttl": 32, "proxy": True}
    place.send(netlink.new_link("vx-1", "vxlan", data=options))
    assert options.items() <= place.links["vx-1"]["data"].items()


def test_a_vxlan_with_a_group_and_a_link(place: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge"))
    options = {"id": 7, "group": "239.1.1.1", "link": place.index("br-1"), "port": 8472}
    place.send(netlink.new_link("vx-1", "vxlan", data=options))
    data = place.links["vx-1"]["data"]
    assert options.items() <= data.items()
    assert data["learning"] is True  # what the kernel makes of silence


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_a_macvlan_is_made_in_its_namespace(place: Place, other: Place, mode: str) -> None:
    place.send(netlink.new_link("br-1", "bridge"))
    descriptor = os.open(f"{namespaces.DIRECTORY}/{other.name}", os.O_RDONLY)
    try:
        parent = place.index("br-1")
        place.send(netlink.new_link("eth0", "macvlan", link=parent, netns_fd=descriptor, data={"mode": mode}))
    finally:
        os.close(descriptor)
    made = other.links["eth0"]
    assert (made["kind"], made["data"]["mode"], made["link"]) == ("macvlan", mode, parent)
    assert "eth0" not in place.links


def test_links_are_removed_one_by_one_and_by_group(place: Place) -> None:
    place.send(*[netlink.new_link(f"br-{number}", "bridge", group=1000 + number % 2) for number in range(5)])
    place.send(netlink.del_link(place.index("br-0")))
    assert set(place.links) == {"lo", "br-1", "br-2", "br-3", "br-4"}
    place.send(netlink.del_group(1001))
    assert set(place.links) == {"lo", "br-2", "br-4"}


def test_ipv6_settings_are_read_with_the_link(place: Place) -> None:
    def write(name: str, value: int) -> None:
        Path(f"/proc/sys/net/ipv6/conf/br-1/{name}").write_text(str(value))

    place.send(netlink.new_link("br-1", "bridge"))
    before = place.links["br-1"]
    assert (before["disable_ipv6"], before["forwarding6"], before["addr_gen_mode"]) == (0, 0, "eui64")
    for name, value in (("disable_ipv6", 1), ("accept_ra", 2), ("forwarding", 1), ("addr_gen_mode", 1)):
        place.run(write, name, value)
    after = place.links["br-1"]
    assert (after["disable_ipv6"], after["accept_ra"], after["forwarding6"]) == (1, 2, 1)
    assert after["addr_gen_mode"] == "none"


# --- Addresses, routes ---


@pytest.fixture
def joined(place: Place, other: Place) -> Place:
    """A namespace with eth0 up, index 2, at 10.0.0.2/24 and fd00::2/64."""
    pair(place, other, up=True)
    other.send(
        netlink.set_link(1, up=True),
        netlink.set_link(2, up=True, addr_gen_mode="none"),
        netlink.new_address(2, "10.0.0.2/24"),
        netlink.new_address(2, "fd00::2/64"),
    )
    return other


def test_addresses_are_added_and_removed(joined: Place) -> None:
    found = {entry["address"]: entry for entry in joined.addresses if entry["index"] == 2}
    assert set(found) >= {"10.0.0.2/24", "fd00::2/64"}
    first, second = found["10.0.0.2/24"], found["fd00::2/64"]
    assert (first["family"], first["scope"], first["permanent"]) == (4, 0, True)
    assert (second["family"], second["scope"], second["permanent"]) == (6, 0, True)
    assert second["flags"] & 0x02  # no duplicate detection
    assert not second["flags"] & 0x40  # not tentative: it can be used at once
    joined.send(netlink.new_address(2, "10.0.0.2/24"), netlink.new_address(2, "fd00::2/64"))
    joined.send(netlink.del_address(2, "10.0.0.2/24"), netlink.del_address(2, "fd00::2/64"))
    assert not {"10.0.0.2/24", "fd00::2/64"} & {entry["address"] for entry in joined.addresses}
    assert joined.refusal(netlink.del_address(2, "10.0.0.2/24")).errno == errno.EADDRNOTAVAIL


def test_an_ipv6_address_is_tentative_with_duplicate_detection(joined: Place) -> None:
    joined.send(netlink.new_address(2, "fd00::3/64", nodad=False))
    (found,) = [entry for entry in joined.addresses if entry["address"] == "fd00::3/64"]
    assert not found["flags"] & 0x02


def test_rules_are_added_once_and_removed(joined: Place) -> None:
    wanted = [
        {"family": 4, "priority": 1000, "iif": "br-none", "destination": "", "table": 0},
        {"family": 4, "priority": 1001, "iif": "lo", "destination": "10.9.0.0/16", "table": 254},
        {"family": 6, "priority": 1000, "iif": "", "destination": "fd09::/32", "table": 1000},
    ]
    joined.send(*(netlink.new_rule(protocol=99, **rule) for rule in wanted))

    def found() -> list[dict[str, Any]]:
        rules: list[dict[str, Any]] = joined.run(dumped, Netlink.rules)
        return [rule for rule in rules if rule["protocol"] == 99]

    assert found() == [{**rule, "action": 1 if rule["table"] else 6, "protocol": 99} for rule in wanted]
    assert joined.refusal(netlink.new_rule(protocol=99, **wanted[0])).errno == errno.EEXIST
    joined.send(*(netlink.del_rule(protocol=99, **rule) for rule in wanted))
    assert found() == []
    assert joined.refusal(netlink.del_rule(protocol=99, **wanted[0])).errno == errno.ENOENT


def routes_of(place: Place, protocol: int) -> list[dict[str, Any]]:
    return [route for route in place.routes if route["protocol"] == protocol]


def test_routes_are_set_replaced_and_removed(joined: Place) -> None:
    joined.send(
        netlink.new_route("default", via="10.0.0.1", dev=2, protocol=99),
        netlink.new_route("default", via="fd00::1", protocol=99, family=6),
        netlink.new_route("10.9.0.0/16", dev=2, protocol=99, table=1000, metric=50, source="10.0.0.2"),
        netlink.new_route("fd09::/32", dev=2, protocol=99, metric=7),
    )
    first = {"family": 4, "dev": 2, "protocol": 99, "type": 1, "table": 254, "metric": None, "source": None}
    second = {"family": 6, "dev": 2, "protocol": 99, "type": 1, "table": 254, "metric": 1024, "source": None}
    expected = [
        {**first, "destination": "default", "via": "10.0.0.1", "scope": 0},
        {**first, "destination": "10.9.0.0/16", "via": None, "scope": 253}
        | {"table": 1000, "metric": 50, "source": "10.0.0.2"},
        {**second, "destination": "default", "via": "fd00::1", "scope": 0},
        {**second, "destination": "fd09::/32", "via": None, "scope": 0, "metric": 7},
    ]

    def order(route: dict[str, Any]) -> tuple[int, str]:
        return route["family"], route["destination"]

    assert sorted(routes_of(joined, 99), key=order) == sorted(expected, key=order)
    connected = [route for route in joined.routes if route["destination"] in ("10.0.0.0/24", "fd00::/64")]
    assert [route["protocol"] for route in connected] == [2, 2]
    assert not [route for route in joined.routes if route["table"] == 255]

    joined.send(netlink.new_route("default", via="10.0.0.254", dev=2, protocol=99))
    assert [r["via"] for r in routes_of(joined, 99) if r["destination"] == "default"] == ["10.0.0.254", "fd00::1"]
    other_hop = netlink.del_route("default", via="10.0.0.1", dev=2, protocol=99)
    assert joined.refusal(other_hop).errno == errno.ESRCH
    joined.send(
        netlink.del_route("default", via="10.0.0.254", protocol=99),
        netlink.del_route("default", family=6),
        netlink.del_route("10.9.0.0/16", table=1000),
        netlink.del_route("fd09::/32", dev=2, protocol=99, table=254, metric=7),
    )
    assert routes_of(joined, 99) == []


# --- Neighbours and forwarding entries ---


def test_neighbours_are_set_replaced_and_removed(joined: Place) -> None:
    joined.send(netlink.new_neighbour(2, "10.0.0.3", MAC2), netlink.new_neighbour(2, "fd00::3", MAC2))
    found = {entry["address"]: entry for entry in joined.neighbours if entry["permanent"]}
    entry = {"index": 2, "mac": MAC2, "state": 0x80, "permanent": True}
    assert found == {"10.0.0.3": {**entry, "address": "10.0.0.3"}, "fd00::3": {**entry, "address": "fd00::3"}}
    joined.send(netlink.new_neighbour(2, "10.0.0.3", MAC))
    assert [one["mac"] for one in joined.neighbours if one["address"] == "10.0.0.3"] == [MAC]
    joined.send(netlink.del_neighbour(2, "10.0.0.3"), netlink.del_neighbour(2, "fd00::3"))
    assert [one for one in joined.neighbours if one["permanent"]] == []
    assert joined.refusal(netlink.del_neighbour(2, "10.0.0.99")).errno == errno.ENOENT


def test_a_vxlans_entries_are_set_replaced_and_removed(place: Place) -> None:
    options = {"id": 5, "local": "192.0.2.1", "port": 4789, "learning": False}
    place.send(netlink.new_link("vx-1", "vxlan", data=options, up=True))
    index = place.index("vx-1")
    place.send(netlink.new_fdb(index, MAC, dst="192.0.2.8"), netlink.new_fdb(index, MAC, dst="192.0.2.9"))
    (entry,) = [one for one in place.fdb if one["mac"] == MAC]
    assert entry == {
        **{"index": index, "mac": MAC, "dst": "192.0.2.9", "master": None, "vlan": None},
        **{"self": True, "permanent": True, "static": False, "sticky": False, "extern_learn": False},
    }
    lists = [netlink.new_fdb(index, ZERO, dst=dst) for dst in ("192.0.2.8", "192.0.2.9", "192.0.2.8")]
    place.send(*lists)
    assert sorted(one["dst"] for one in place.fdb if one["mac"] == ZERO) == ["192.0.2.8", "192.0.2.9"]
    place.send(netlink.del_fdb(index, ZERO, dst="192.0.2.8"), netlink.del_fdb(index, MAC, dst="192.0.2.9"))
    assert [(one["mac"], one["dst"]) for one in place.fdb if one["index"] == index] == [(ZERO, "192.0.2.9")]
    assert place.refusal(netlink.del_fdb(index, MAC)).errno == errno.ENOENT


def test_a_bridges_entries_are_set_and_removed(place: Place, other: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge", up=True))
    bridge = place.index("br-1")
    pair(place, other, master=bridge, up=True)
    index = place.index("vh-1")
    place.send(
        netlink.new_fdb(index, MAC, master=True, static=True, sticky=True),
        netlink.new_fdb(index, MAC2, master=True),
        *[
            netlink.new_fdb(index, "02:00:00:00:00:01")  # of the device's own list
        ],
    )
    found = {one["mac"]: one for one in place.fdb if one["index"] == index}
    static, local = found[MAC], found[MAC2]
    assert (static["master"], static["static"], static["permanent"], static["self"]) == (bridge, True, False, False)
    assert static["sticky"] is True
    assert (local["master"], local["static"], local["permanent"]) == (bridge, False, True)
    assert found["02:00:00:00:00:01"]["self"] is True
    place.send(netlink.del_fdb(index, MAC, master=True), netlink.del_fdb(index, "02:00:00:00:00:01"))
    assert not {MAC, "02:00:00:00:00:01"} & {one["mac"] for one in place.fdb}


# --- Errors and batches ---


def test_a_refusal_names_the_request_and_quotes_the_kernel(place: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge"))
    taken = place.refusal(netlink.new_link("br-1", "bridge"))
    assert (taken.errno, taken.request) == (errno.EEXIST, "new link br-1")
    assert str(taken) == "new link br-1 failed: File exists (EEXIST)"
    unknown = place.refusal(netlink.new_link("x", "no-such-kind"))
    assert unknown.errno == errno.EOPNOTSUPP
    assert unknown.message == "Unknown device type"
    assert place.refusal(netlink.del_link(4000)).errno == errno.ENODEV
    assert place.refusal(netlink.new_link("a-name-of-more-than-15", "bridge")).errno in (errno.ERANGE, errno.EINVAL)


def test_removing_a_missing_object_is_no_error(place: Place) -> None:
    with Host("default", lambda _arguments, _data=None: (1, "", "")) as host:
        host.remove(place.name, [netlink.del_link(4000), netlink.del_neighbour(1, "192.0.2.9")])
        with pytest.raises(NetlinkError, match=r"removal of link lo failed: .* \(E"):
            host.remove(place.name, [netlink.del_link(1)])


def test_each_message_of_a_batch_has_its_own_result(place: Place) -> None:
    batch = [netlink.new_link(name, "bridge") for name in ("b1", "b1", "b2", "lo", "b3")]
    errors = place.run(dumped, lambda kernel: kernel.try_send(batch))
    assert [error and error.errno for error in errors] == [None, errno.EEXIST, None, errno.EEXIST, None]
    assert {"b1", "b2", "b3"} <= set(place.links)
    assert place.refusal(netlink.new_link("b2", "bridge")).request == "new link b2"


def test_a_batch_of_thousands_is_carried_out_and_read_back(place: Place) -> None:
    place.send(netlink.new_link("vx-1", "vxlan", data={"id": 5, "port": 4789, "learning": False}))
    index = place.index("vx-1")
    macs = [f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}" for number in range(3000)]
    place.send(*[netlink.new_fdb(index, mac, dst="192.0.2.9") for mac in macs])
    assert sorted(one["mac"] for one in place.fdb) == macs
    place.send(*[netlink.del_fdb(index, mac) for mac in macs])
    assert place.fdb == []


def test_a_dump_is_complete_while_links_change(place: Place) -> None:
    """The kernel tears dumps of several datagrams when links come and go; none of those may be seen."""
    place.send(*[netlink.new_link(f"keep{number}", "bridge") for number in range(60)])
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            place.run(sent, netlink.new_link("flicker", "veth", peer={"name": "flicker2"}))
            place.run(lambda: sent(netlink.del_link(socket.if_nametoindex("flicker"))))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        whole = 0
        for _round in range(40):
            try:
                names = [link["name"] for link in place.run(dumped, Netlink.links)]
            except NetlinkError as error:
                assert error.errno == errno.EAGAIN
                continue
            whole += 1
            assert {f"keep{number}" for number in range(60)} <= set(names)
            assert len(names) == len(set(names))
    finally:
        stop.set()
        changing.join()
    assert whole


# --- Namespaces ---


def test_a_namespace_is_named_only_when_it_is_prepared(unused: Callable[[], str]) -> None:
    name = unused()
    seen: dict[str, Any] = {}
    before = os.stat(OWN).st_ino

    def prepare() -> None:
        seen["names"] = namespaces.names()
        seen["inode"] = os.stat(OWN).st_ino
        sent(netlink.set_link(1, alias="cnm:test:mark", up=True))

    namespaces.create(name, prepare)
    assert os.stat(OWN).st_ino == before != seen["inode"]
    assert name not in seen["names"]
    assert name in namespaces.names()
    assert namespaces.inode(name) == seen["inode"]
    (loopback,) = namespaces.run(name, dumped, Netlink.links)
    assert (loopback["alias"], loopback["up"]) == ("cnm:test:mark", True)
    assert os.stat(namespaces.DIRECTORY).st_mode & 0o777 == 0o755


def test_a_namespace_whose_preparation_fails_is_never_named(unused: Callable[[], str]) -> None:
    name = unused()

    def prepare() -> None:
        raise ZeroDivisionError("half way")

    with pytest.raises(ZeroDivisionError, match="half way"):
        namespaces.create(name, prepare)
    assert name not in namespaces.names()
    assert not Path(namespaces.DIRECTORY, name).exists()


def test_a_name_in_use_is_refused_but_a_leftover_file_is_reused(unused: Callable[[], str]) -> None:
    taken, leftover = unused(), unused()
    namespaces.create(taken)
    inode = namespaces.inode(taken)
    with pytest.raises(FileExistsError):
        namespaces.create(taken)
    assert namespaces.inode(taken) == inode

    path = Path(namespaces.DIRECTORY, leftover)
    path.touch()
    assert leftover not in namespaces.names()
    with pytest.raises(FileNotFoundError):
        namespaces.inode(leftover)
    with pytest.raises(FileNotFoundError, match=leftover):
        namespaces.run(leftover, os.getpid)
    namespaces.create(leftover)
    assert leftover in namespaces.names()


def test_a_deleted_namespace_is_gone_and_may_be_deleted_again(unused: Callable[[], str]) -> None:
    name = unused()
    namespaces.create(name)
    namespaces.delete(name)
    assert name not in namespaces.names()
    assert not Path(namespaces.DIRECTORY, name).exists()
    namespaces.delete(name)
    Path(namespaces.DIRECTORY, name).touch()
    namespaces.delete(name)
    assert not Path(namespaces.DIRECTORY, name).exists()
    with pytest.raises(FileNotFoundError):
        namespaces.inode(name)


def test_names_that_lead_elsewhere_are_refused(tmp_path: Path) -> None:
    for name in ("", ".", "..", "a/b", "/proc/1/ns/net"):
        for function in (namespaces.create, namespaces.delete, namespaces.inode):
            with pytest.raises(ValueError, match="not a valid name"):
                function(name)
    assert namespaces.names(str(tmp_path / "missing")) == []
    (tmp_path / "plain").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    assert namespaces.names(str(tmp_path)) == []


def test_other_tools_see_our_namespaces_and_we_theirs(unused: Callable[[], str]) -> None:
    import pyroute2

    ours, theirs = unused(), unused()
    namespaces.create(ours)
    assert ours in pyroute2.netns.listnetns()
    pyroute2.netns.create(theirs)
    assert theirs in namespaces.names()
    assert [link["name"] for link in namespaces.run(theirs, dumped, Netlink.links)] == ["lo"]
    namespaces.delete(theirs)
    pyroute2.netns.remove(ours)
    assert not {ours, theirs} & set(namespaces.names())


def test_a_namespace_can_still_be_deleted_when_iproute2_has_made_one(unused: Callable[[], str]) -> None:
    """Where the directory is no shared mount yet, iproute2's first one doubles all that is mounted in it."""
    from shutil import which
    from subprocess import run

    if which("ip") is None:
        pytest.skip("no ip here")
    ours, theirs = unused(), unused()
    namespaces.create(ours)
    run(["ip", "netns", "add", theirs], check=True)
    namespaces.delete(ours)
    assert not Path(namespaces.DIRECTORY, ours).exists()
    assert theirs in namespaces.names()


def test_a_function_runs_in_a_namespace_and_the_thread_comes_back(unused: Any) -> None:
    def here() -> int:
        return os.stat(OWN).st_ino

    def both(name: str) -> list[int]:
        return [here(), namespaces.run(name, here), here()]

    home = here()
    first, second = unused(), unused()
    namespaces.create(first)
    namespaces.create(second)
    one, two = namespaces.inode(first), namespaces.inode(second)
    assert namespaces.run("", here) == namespaces.run("/proc/self/ns/net", here) == home
    assert namespaces.run(first, here) == namespaces.run(f"{namespaces.DIRECTORY}/{first}", here) == one
    assert namespaces.run(first, both, second) == [one, two, one]
    assert namespaces.run(first, both, "") == [one, one, one]
    assert home not in (one, two)
    assert here() == home


def test_a_name_refers_to_the_latest_namespace(unused: Any) -> None:
    name = unused()
    namespaces.create(name)
    namespaces.run(name, sent, netlink.new_link("br-old", "bridge"))
    namespaces.delete(name)
    with pytest.raises(FileNotFoundError, match="there is no such network namespace.*" + name):
        namespaces.run(name, os.getpid)
    namespaces.create(name)
    assert [link["name"] for link in namespaces.run(name, dumped, Netlink.links)] == ["lo"]


def test_an_exception_reaches_the_caller_in_its_own_namespace(unused: Any) -> None:
    def fail(word: str) -> None:
        raise ZeroDivisionError(word)

    name, home = unused(), os.stat(OWN).st_ino
    namespaces.create(name)
    with pytest.raises(ZeroDivisionError, match="oops"):
        namespaces.run(name, fail, "oops")
    with pytest.raises(ZeroDivisionError, match="oops"):
        namespaces.run_in_new(fail, "oops")
    assert os.stat(OWN).st_ino == home


def test_a_function_runs_in_a_new_namespace_without_a_name() -> None:
    before = namespaces.names()
    home = os.stat(OWN).st_ino

    def look(word: str) -> Any:
        return word, os.stat(OWN).st_ino, [link["name"] for link in dumped(Netlink.links)]

    word, inode, links = namespaces.run_in_new(look, "x")
    assert (word, links) == ("x", ["lo"])
    assert inode != home == os.stat(OWN).st_ino
    assert namespaces.names() == before


# --- Speed: limits far above what was measured, so that only a change of kind trips them ---


def milliseconds(function: Callable[[], Any], rounds: int) -> float:
    taken = []
    for _round in range(rounds):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken) * 1000


def test_reading_a_small_namespace_takes_a_fraction_of_a_millisecond(joined: Place) -> None:
    links = milliseconds(lambda: joined.run(dumped, Netlink.links), 100)
    every = [Netlink.links, Netlink.addresses, Netlink.routes, Netlink.neighbours]
    whole = milliseconds(lambda: joined.run(dumped, lambda kernel: [read(kernel) for read in every]), 100)
    print(f"2 links: {links:.3f} ms; links, addresses, routes, neighbours: {whole:.3f} ms")
    assert links < 2
    assert whole < 5


def test_reading_hundreds_of_links_takes_milliseconds(place: Place, other: Place) -> None:
    place.send(netlink.new_link("br-1", "bridge"))
    bridge = place.index("br-1")
    pairs = [
        netlink.new_link(f"vh{number}", "veth", master=bridge, peer={"name": f"vp{number}"}) for number in range(250)
    ]
    start = time.perf_counter()
    place.send(*pairs)
    made = (time.perf_counter() - start) * 1000
    taken = milliseconds(lambda: place.links, 10)
    print(f"{len(place.links)} links: {taken:.1f} ms; 250 pairs made in {made:.0f} ms")
    assert taken < 200
