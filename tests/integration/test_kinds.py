# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Tests that follow from the registry of kinds: what is registered is tried, attribute by attribute, step by step.

A kind without a sample, or an attribute without a drift, fails a test: none is forgotten.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Optional

import host as harness
import pytest
from forgery import SECRET_PORT
from host import (
    BGP_PASSWORD,
    becomes,
    compare,
    converge,
    differing,
    keys_for,
    on_a_host,
    resources_of,
    run_command,
    sh,
    snapshot,
    the_same,
)
from lans import BENEATH, IPVLAN, a_lan
from overlay_resources import BOXES, FLAT, VNI, VTEPS, a_routed_overlay, an_overlay, mac_of
from sampling import WHOLE, some_of

from ansible_collections.cnm.fabric.plugins.module_utils.engine import engine, reporting
from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli
from ansible_collections.cnm.fabric.plugins.module_utils.kernel import contained, namespaces, processes
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netfilter import Netfilter
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.netlink import Netlink
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.nft import Library, Program
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Rule
from ansible_collections.cnm.fabric.plugins.module_utils.plan.balancing import Ipvs, IpvsTimeouts, RealServer
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.codec import decode, encode
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import security_index
from ansible_collections.cnm.fabric.plugins.module_utils.plan.frr import Frr
from ansible_collections.cnm.fabric.plugins.module_utils.plan.kinds import KINDS, PARTS
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Geneve, Link, LinkManager, Namespace, Parent
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import MAIN_TABLE, request_id, rule_priority
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import DockerUser
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Boot, Resolved, Resolver, Sysctl, Target
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.registry import kinds
from ansible_collections.cnm.fabric.plugins.module_utils.state.files import RUN

Sandboxes = dict[str, Any]
HERE: Sandboxes = {
    "c1": {"networks": {"apart": {"limits": {"ingress": "100mbit"}}}},
    "c2": {"networks": {"apart": {"limits": {"ingress": "10gbit"}}}},
}
OTHERWISE: Sandboxes = {
    "c1": {"networks": {"apart": {"ipv4_address": "10.0.2.7", "limits": {"ingress": "50mbit"}}}, "hostname": "other"},
    "c3": {"networks": {"front": {"limits": {"ingress": "1mbit"}}, "back": {}}},
}

OVERLAY = an_overlay()
LAN = a_lan()

HERE_4, THERE_4 = VTEPS[4][:2]
ENDS = f"src {HERE_4} dst {THERE_4}"
AEAD = f"aead 'rfc4106(gcm(aes))' 0x{bytes(20).hex()} 128"
BACK, OURS = f"src {THERE_4} dst {HERE_4}", f"proto 17 sport 50 dport {SECRET_PORT}"
REQID = request_id("default")
SPIS = {epoch: security_index("default", HERE_4, epoch) for epoch in range(3)}

BOX, OF_BOX = "/run/theirs/box", "/var/lib/cnm/default/attached/box.json"
A_BOX = f"mkdir -p /run/theirs; : > {BOX}; unshare --net={BOX} true; nsenter --net={BOX} ip link set lo up"
OTHERS: Sandboxes = {"box": {"networks": ["front"], "namespace": {"path": BOX}}}
"""A sandbox in somebody else's namespace."""

IPVS = "modprobe -q ip_vs && test -e /proc/self/net/ip_vs"
SERVERS = (RealServer("10.0.2.3", 2), RealServer("10.0.2.4", upper=9, lower=3), RealServer("10.0.2.5", 0))
BY_MARK = Ipvs("c1", mark=7, scheduler="sh", flags=("fallback",), persistence=300, prefix=24, servers=SERVERS)

PRIORITY = rule_priority("default")

FRR = Frr(65000, "127.0.0.1", ("192.0.2.2",), ("10.1.0.0/16",), namespace=FLAT)

EXTRAS: dict[str, tuple[str, Callable[[], Resource]]] = {
    "rule": ("", lambda: Rule("", 4, PRIORITY, "lo", "10.9.0.0/16", MAIN_TABLE)),
    "docker_user": ("iptables -w -N DOCKER-USER", lambda: KINDS["docker_user"](4)),  # type: ignore[call-arg]
    # Only the kernel of the virtual machine has it: tests/vm has these drifts done there.
    "xfrm": (
        f"ip xfrm state add {ENDS} proto esp spi 1000 {AEAD}; ip xfrm state delete {ENDS} proto esp spi 1000",
        lambda: Xfrm(HERE_4, peers=(THERE_4,)),
    ),
    "ipvs": (IPVS, lambda: BY_MARK),
    "ipvs_timeouts": (IPVS, lambda: IpvsTimeouts("c1", 432000, 60, 120)),
    "link_manager": ("", lambda: LinkManager("networkd", ("cnm0",), True)),
    "frr": ("test -x /usr/lib/frr/bgpd", lambda: FRR),
    # It takes systemd as the first process, as in the systems of tests/systemd, where these drifts are done.
    "boot": ("test -d /run/systemd/system", Boot),
    "target": ("test -d /run/systemd/system", lambda: Target("c1")),
    "resolved": ("systemctl is-active systemd-resolved", lambda: Resolved("cnm0", "127.0.0.12", "cnm.internal")),
}
"""Samples of what the plan above has not: what they need on the host, and the resource."""


@dataclass(frozen=True)
class Drift:
    """What somebody's hand can do to an attribute, and what the difference is called if not like the attribute.

    ``kernel`` is a script that only a kernel does that can have the attribute; the others' turn is in tests/vm.
    """

    harm: str
    called: str = ""
    kernel: str = ""


@dataclass(frozen=True)
class Never:
    """Why an attribute is never found to differ."""

    because: str


NAME = Never("what it is found by: another would be another object")
C1 = "ip -n c1 "
PORT = "$(ip -j link show master br-apart | tr '{' '\\n' | sed -n 's/.*\"ifname\":\"\\(cnm-pee[^\"]*\\)\".*/\\1/p')"
IN_C1 = "ip netns exec c1 "
RUN_C1 = "/run/cnm/default/resolvers/c1"
NETWORKD = "/etc/systemd/network"
COMMAND = "/usr/local/sbin/cnm"
OV0 = "ip -n ov0 "
M1 = "ip -n m1 "
FDB = "bridge -n ov0 fdb "
FLAGS = "bridge -n ov0 link set dev vx0 "
OTHER_BRIDGE = f"{OV0}link set br0 down; {OV0}link set br0 name other0; {OV0}link set other0 up"
FILLED_IN = Never("it says what to fill in before the engine looks")


def vxlan_with(kind: str = "", asking: str = "ip link add vx0 netns ov0 ") -> Drift:
    """Another link in the place of the VXLAN."""
    kind = kind or "vxlan id 4097 local 192.0.2.1 dstport 4789 nolearning"
    alias = f"{OV0}link set vx0 alias cnm:default:vxlan/overlay"
    return Drift(f"{OV0}link delete vx0; {asking}type {kind}; {alias}")


def on_a_parent(parent: str, kind: str) -> Drift:
    """Another link in the place of the macvlan."""
    made = f"ip link add link {parent} name eth0 netns m1 type {kind}"
    return Drift(f"{M1}link delete eth0; {made}; {M1}link set eth0 alias cnm:default:endpoint/lan/m1")


TRIED_NETEM = "tc qdisc add dev lo root netem delay 1ms && tc qdisc delete dev lo root"
TRIED_FILTER = (
    "tc qdisc add dev lo clsact && tc filter add dev lo ingress matchall action police rate 1mbit burst 64kb drop;"
    "done=$?; tc qdisc delete dev lo clsact; exit $done"
)
TRIED = "ip link add try0 type ifb; ip link add link try0 name try1 type {}; ip link delete try0"


GENEVE = "ip link add try0 type geneve id 7 remote 192.0.2.2; ip link delete try0"


def a_geneve() -> tuple[Resource, ...]:
    """A sandbox with a Geneve link, for kernels that have it."""
    settings = {"mac": "02:42:0a:07:00:aa", "mtu": 1400, "disable_ipv6": True, "accept_ra": 0}
    link = Link("m1", "ge0", "geneve", "tunnel/wire", geneve=Geneve(7, "192.0.2.2"), **settings)  # type: ignore[arg-type]
    return Namespace("m1", "sandbox/m1"), link


def emulated(how: str) -> str:
    """Somebody emulates a link by a discipline that has the number of ours."""
    return f"p={PORT}; tc qdisc delete dev $p root; tc qdisc add dev $p root handle c4d1: netem {how}"


def geneve_with(kind: str) -> Drift:
    """Another link in the place of the Geneve link."""
    alias = f"{M1}link set ge0 alias cnm:default:tunnel/wire"
    return Drift(f"{M1}link delete ge0; ip link add ge0 netns m1 type {kind}; {alias}", kernel=GENEVE)


def told(text: str, other: str) -> Drift:
    """Another record of what FRR was told."""
    return Drift(f"sed -i 's;{text};{other};' /run/cnm/default/frr/applied.json")


def another_policy(source: str = HERE_4, port: int = SECRET_PORT, epoch: int = 1) -> Drift:
    """In the place of a peer's and that for everybody else."""
    ends = f"src {source} dst {THERE_4}"
    template = f"tmpl {ends} proto esp spi {SPIS[epoch]:#x} reqid {REQID} mode transport"
    return Drift(f"ip xfrm policy flush; ip xfrm policy add {ends} proto 17 sport 50 dport {port} dir out {template}")


def virtual(changed: str) -> Drift:
    """The virtual server with other settings."""
    return Drift(f"{IN_C1}ipvsadm -E -f 7 {changed}")


DRIFTS: dict[str, dict[str, Any]] = {
    "namespace": {
        "name": NAME,
        "role": Drift(C1 + "link set lo alias cnm:default:sandbox/other"),
        "loopback_up": Drift(C1 + "link set lo down"),
        "owner": Drift(f'sed -i \'s/"owner": "path"/"owner": "pid"/\' {OF_BOX}'),
        "reference": Drift(f"sed -i s,/run/theirs/box,/run/theirs/other, {OF_BOX}"),
        "no_forwarding": Drift("ip netns exec c1 sysctl -qw net.ipv4.ip_forward=1"),
        "attached": Drift(f"umount -l {BOX}; {A_BOX}", "owner's namespace"),
        "files": Never("a path has none; tests/integration/test_attached.py has a container's"),
    },
    "link": {
        "namespace": NAME,
        "name": NAME,
        "type": Drift(
            f"{C1}link delete eth0; {C1}link add eth0 type bridge;{C1}link set eth0 alias cnm:default:endpoint/apart/c1"
        ),
        "role": Drift("ip link set br-apart alias cnm:default:network/other"),
        "mac": Drift(C1 + "link set eth0 address 02:00:00:00:00:99"),
        "mtu": Drift(C1 + "link set eth0 mtu 1300"),
        "up": Drift(C1 + "link set eth0 down"),
        "disable_ipv6": Drift("ip netns exec c1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0"),
        "accept_ra": Drift("ip netns exec c1 sysctl -qw net.ipv6.conf.eth0.accept_ra=1"),
        "peer": Drift(f"ip link set {PORT} alias ''"),
        "peer.namespace": Drift(f"ip link set {PORT} netns c2"),
        "peer.name": Drift(f"p={PORT}; ip link set $p down; ip link set $p name other0; ip link set other0 up"),
        "peer.master": Drift(f"ip link set {PORT} nomaster"),
        "peer.isolated": Drift(f"ip link set {PORT} type bridge_slave isolated off"),
        "peer.group": Drift(f"ip link set {PORT} group 7"),
        "peer.hairpin": Drift(f"ip link set {PORT} type bridge_slave hairpin on"),
        "peer.learning": Drift(f"ip link set {PORT} type bridge_slave learning off"),
        "peer.up": Drift(f"ip link set {PORT} down"),
        "group": Drift("ip link set br-apart group 7"),
        "announcements": Never("how a change is told, not how a link is"),
        "announcement_ms": Never("how a change is told, not how a link is"),
        "adopts_existing": Never("whose the link may be, not how it is"),
        "route_localnet": Drift("sysctl -qw net.ipv4.conf.br-apart.route_localnet=1"),
        "rp_filter": Drift(f"ip netns exec {FLAT} sysctl -q -w net.ipv4.conf.br-flat.rp_filter=0"),
        "addr_gen_mode": Drift("ip -n ov0 link set br0 addrgenmode eui64"),
        "learns_from_reserved": Drift("echo 0 > /sys/class/net/br-apart/bridge/no_linklocal_learn"),
        "port": Drift(OV0 + "link set vx0 nomaster"),
        "port.master": Drift(OTHER_BRIDGE),
        "port.neigh_suppress": Drift(FLAGS + "neigh_suppress off"),
        "port.learning": Drift(FLAGS + "learning on"),
        "port.flood": Drift(FLAGS + "flood on"),
        "port.mcast_flood": Drift(FLAGS + "mcast_flood on"),
        "port.bcast_flood": Drift(FLAGS + "bcast_flood on"),
        "vxlan": vxlan_with("bridge"),
        "vxlan.id": vxlan_with("vxlan id 7 local 192.0.2.1 dstport 4789 nolearning"),
        "vxlan.local": Drift(OV0 + "link set vx0 type vxlan id 4097 local 192.0.2.9"),
        "vxlan.port": vxlan_with("vxlan id 4097 local 192.0.2.1 dstport 4790 nolearning"),
        "vxlan.learning": Drift(OV0 + "link set vx0 type vxlan id 4097 learning"),
        "vxlan.outside": vxlan_with(asking=OV0 + "link add vx0 "),
        "vxlan.source_port": vxlan_with("vxlan id 4097 local 192.0.2.1 dstport 4789 nolearning srcport 50 60"),
        "vxlan.proxy": vxlan_with("vxlan id 4097 local 192.0.2.1 dstport 4789 nolearning proxy"),
        "parent": on_a_parent("lan0", "bridge"),
        "parent.link": on_a_parent("br-apart", "macvlan mode bridge"),
        "parent.mode": Drift(M1 + "link set eth0 type macvlan mode private"),
        "parent.flag": Drift(M1 + "link set eth0 type ipvlan mode l2 private", kernel=TRIED.format("ipvlan")),
        "parent.vlan": Drift(
            "ip link delete lan0.7; ip link add link lan0 name lan0.7 type vlan id 8;"
            "ip link set lan0.7 alias cnm:default:parent/vlan",
            kernel=TRIED.format("vlan id 7"),
        ),
        "geneve": geneve_with("bridge"),
        "geneve.id": geneve_with("geneve id 8 remote 192.0.2.2"),
        "geneve.remote": geneve_with("geneve id 7 remote 192.0.2.3"),
        "geneve.port": geneve_with("geneve id 7 remote 192.0.2.2 dstport 6082"),
    },
    "fdb": {
        "namespace": NAME,
        "link": NAME,
        "entries": Drift(f"{FDB}delete {mac_of('c')} dev vx0 self"),
        "flood": Drift(f"{FDB}append 00:00:00:00:00:00 dev vx0 self permanent dst 192.0.2.3"),
        "table": FILLED_IN,
        "flooded": FILLED_IN,
        "static": Drift(f"bridge -n {FLAT} fdb add 02:42:0a:00:09:09 dev p-f master static"),
        "sandbox": Never("it says whose the port is"),
        "routed": Never("it says whose the entries for flooding are"),
    },
    "shaping": {
        "namespace": NAME,
        "link": NAME,
        "sandbox": Never("it says which endpoint the port is of"),
        "end": Never("it says which endpoint the port is of"),
        "ingress": Drift(f"tc qdisc change dev {PORT} root handle c4d2: tbf rate 7mbit burst 64kb latency 9ms"),
        "egress": Drift(
            f"tc qdisc add dev {PORT} clsact; tc filter add dev {PORT} ingress pref 50387 handle 0xc4d3 matchall "
            "action police rate 7mbit burst 64kb drop",
            kernel=TRIED_FILTER,
        ),
        "delay_us": Drift(emulated("delay 7ms"), kernel=TRIED_NETEM),
        "jitter_us": Drift(emulated("delay 7ms 2ms"), kernel=TRIED_NETEM),
        "loss_ppm": Drift(emulated("loss 1%"), kernel=TRIED_NETEM),
        "rate": Drift(emulated("rate 7mbit"), kernel=TRIED_NETEM),
    },
    "neighbour": {
        "namespace": NAME,
        "link": NAME,
        "entries": Drift(f"{OV0}neighbour delete fd00::4 dev br0"),
        "table": FILLED_IN,
    },
    "address": {
        "namespace": NAME,
        "link": NAME,
        "address": NAME,
        "connected": Drift(C1 + "route delete 10.0.2.0/24"),
    },
    "route": {
        "namespace": NAME,
        "destination": NAME,
        "family": NAME,
        "via": Drift(C1 + "route replace default via 10.0.2.9 proto 137"),
        "link": Drift(C1 + "route replace default dev lo proto 137"),
        "single_object": Drift(C1 + "route delete default; " + C1 + "route add default via 10.0.2.1 proto 138"),
    },
    "rule": {
        **dict.fromkeys(("namespace", "family", "priority", "incoming", "destination"), NAME),
        "table": Drift(
            f"ip rule delete prio {PRIORITY} iif lo;"
            f"ip rule add prio {PRIORITY} iif lo to 10.9.0.0/16 table 7 protocol 137"
        ),
    },
    "sysctl": {
        "namespace": NAME,
        "name": NAME,
        "value": Drift("sysctl -qw net.ipv4.ip_forward=0"),
        "held": Drift("rm /var/lib/cnm/before.json"),
        "former": Never("what the controller knows: it says what to put on record when `held` differs"),
        "links": Never("likewise"),
        "optional": Never("what the controller knows of kernels"),
    },
    "nftables": {
        "namespace": NAME,
        "family": NAME,
        "name": NAME,
        "role": Drift(
            "nft -s list table inet cnm | sed s/cnm:default:host/cnm:default:other/ > /tmp/t;"
            "nft delete table inet cnm; nft -f /tmp/t"
        ),
        "sets": Drift("nft add element inet cnm bridges '{ other0 }'", "set bridges"),
        "chains": Drift("nft flush chain inet cnm forward", "chain forward"),
        "flags": Drift("nft 'add table inet cnm { flags dormant; }'"),
        "users": Never("the user's own: found, never compared"),
    },
    "docker_user": {"family": NAME},
    "xfrm": {
        "local": another_policy(source="192.0.2.9"),
        "port": another_policy(port=4790),
        "epoch": another_policy(epoch=2),
        "fingerprint": Never("the kernel has none: it makes a plan with another secret another plan"),
        "peers": Drift(
            f"ip xfrm state flush; ip xfrm policy delete {ENDS} {OURS} dir out;"
            f"ip xfrm policy delete {BACK} {OURS} dir in"
        ),
        "tables": FILLED_IN,
        "flaws": Drift(f"ip xfrm state delete {ENDS} proto esp spi {SPIS[1]:#x}"),
    },
    "ipvs": {
        **dict.fromkeys(("namespace", "family", "mark", "protocol", "address", "port"), NAME),
        "scheduler": virtual("-s mh -b mh-fallback -p 300 -M 255.255.255.0"),
        "flags": virtual("-s sh -b sh-port -p 300 -M 255.255.255.0"),
        "persistence": virtual("-s sh -b sh-fallback -p 60 -M 255.255.255.0"),
        "prefix": virtual("-s sh -b sh-fallback -p 300"),
        "servers": Drift(
            f"{IN_C1}ipvsadm -d -f 7 -r 10.0.2.3; {IN_C1}ipvsadm -e -f 7 -r 10.0.2.4 -m -w 9;"
            f"{IN_C1}ipvsadm -a -f 7 -r 10.0.2.9 -m"
        ),
    },
    "ipvs_timeouts": {
        "namespace": NAME,
        "tcp": Drift(f"{IN_C1}ipvsadm --set 900 0 0"),
        "tcp_fin": Drift(f"{IN_C1}ipvsadm --set 0 120 0"),
        "udp": Drift(f"{IN_C1}ipvsadm --set 0 0 300"),
    },
    "file": {
        "directory": NAME,
        "role": Drift("cd /etc/netns/c1; sed -i s,sandbox/c1,sandbox/other, *"),
        "files": Drift("echo 127.0.0.1 other >> /etc/netns/c1/hosts", "hosts"),
        "hidden": Drift("chmod 600 /etc/netns/c1/hosts", "hosts"),
        "shared": FILLED_IN,
    },
    "resolver": {
        "namespace": NAME,
        "config": Drift(f"echo no-negcache >> {RUN_C1}.conf"),
        "running": Drift(f"kill $(head -n 1 {RUN_C1}.pid)"),
        "supervised": Never("tests/systemd moves a resolver out of its scope"),
        "outdated": Never("tests/systemd replaces the program of a resolver"),
        "lan": NAME,
    },
    "resolved": {
        "link": NAME,
        "server": Drift("resolvectl dns cnm0 192.0.2.1"),
        "domain": Drift("resolvectl domain cnm0 example.com"),
    },
    "names": {"directory": NAME, "loaded": Drift("echo '{}' > /run/cnm/default/loaded.json")},
    "link_manager": {
        "manager": NAME,
        "links": Drift(f"sed -i s/cnm0/cnm9/ {NETWORKD}/05-cnm-default.network"),
        "rules": Drift(f"rm {NETWORKD}d.conf.d/05-cnm-default.conf"),
        "edited": Drift(f"echo '[Network]' >> {NETWORKD}/05-cnm-default.network"),
    },
    "frr": {
        "asn": told("65000", "65001"),
        "local": told("127.0.0.1", "127.0.0.2"),
        "reflectors": told("192.0.2.2", "192.0.2.3"),
        "clients": told("10.1.0.0/16", "10.2.0.0/16"),
        "namespace": Drift(f"ip netns delete {FLAT}"),
        "fingerprint": told('"kind"', '"fingerprint": "ab", "kind"'),
        "flaws": Drift("vtysh --vty_socket /run/cnm/default/frr/sockets -c 'conf t' -c 'no router bgp'", "bgpd"),
    },
    "boot": {
        "keep_keys": Drift("mkdir -p /var/lib/cnm/default/keys; echo {} > /var/lib/cnm/default/keys/keys.json"),
        "awaited": Drift('echo \'{"awaited": ["eth9"]}\' > /var/lib/cnm/default/boot.json'),
        "owners": Drift('echo \'{"owners": ["docker", "no/path"]}\' > /var/lib/cnm/default/boot.json'),
        "flaws": Drift(f"rm {COMMAND}", COMMAND),
    },
    "target": {"namespace": NAME, "active": Drift("echo '{}' > /run/cnm/default/targets.json")},
}


def the_house() -> tuple[Resource, ...]:
    """Resources of every kind this machine's kernel lets us have."""
    sh(f"test -e {BOX} || {{ {A_BOX}; }}")
    result = [*resources_of({**HERE, **OTHERS}), *OVERLAY, *LAN, *a_routed_overlay()]
    for kind, (setup, sample) in EXTRAS.items():
        if kind in KINDS:
            with contextlib.suppress(AssertionError):
                sh(setup)
                result.append(sample())
    return tuple(result)


def can(script: str) -> bool:
    """Whether this machine's kernel can do it."""
    with contextlib.suppress(AssertionError):
        sh(script or ":")
        return True
    return False


def attributes() -> Iterator[tuple[str, str]]:
    """Every attribute of every registered kind's dataclass, those of nested ones with dots."""
    for kind in kinds():
        for spec in fields(KINDS[kind.name]):
            yield kind.name, spec.name
            nested, several = PARTS.get((kind.name, spec.name), (None, False))
            if nested is not None and not several:
                yield from ((kind.name, f"{spec.name}.{inner.name}") for inner in fields(nested))


def drifts_of(kind: str) -> dict[str, Drift]:
    """What can happen to the attributes of a kind."""
    listed = {name: DRIFTS.get(kind, {}).get(name) for each, name in attributes() if each == kind}
    for name, drift in listed.items():
        assert drift is not None, f"list in DRIFTS what can happen to {name} of {kind}, or why nothing can"
    return {name: drift for name, drift in listed.items() if isinstance(drift, Drift)}


def operations_for(wanted: Sequence[Resource]) -> list[Operation[Any]]:
    with Host("default", run_command) as host:
        host.command = cli.__name__
        host.pair_keys, host.bgp_password = keys_for(wanted), BGP_PASSWORD
        return engine.Engine(host).converge(wanted, check=True)


def test_every_kind_has_a_sample() -> None:
    sampled = {item.kind for item in (*resources_of(HERE), *OVERLAY, *LAN)} | set(EXTRAS)
    assert {kind.name for kind in kinds()} - sampled == set()
    assert {kind.name for kind in kinds()} - set(KINDS) == set()


def test_every_sample_survives_the_journal_s_json() -> None:
    for item in (*resources_of(HERE), *resources_of(OTHERWISE), *OVERLAY, *LAN, *a_lan(IPVLAN, vlan=7)):
        assert decode(encode(item)) == item


def settled(wanted: Sequence[Resource]) -> list[str]:
    """What a run would do, once the kernel has taken away what was in namespaces that are gone."""
    with contextlib.suppress(AssertionError):
        return compare(wanted)
    time.sleep(1)
    return compare(wanted)


class TestDrift:
    @pytest.mark.parametrize("kind", sorted(KINDS))
    @on_a_host
    def test_of_each_attribute_is_seen_and_repaired(self, kind: str) -> None:
        # To ask FRR takes longer than all else of a look.
        wanted = [item for item in the_house() if item.kind in (kind, *KINDS.keys() - {"frr"})]
        mine = {name: drift for name, drift in drifts_of(kind).items() if not drift.kernel}
        if not mine or all(item.kind != kind for item in wanted):
            return
        converge(wanted)
        whole = snapshot()
        for name, drift in mine.items():
            self.seen_and_repaired(f"{kind}.{name}", drift, wanted)
            if WHOLE:  # takes as long as all else
                becomes(whole)
        becomes(whole)

    @pytest.mark.parametrize("name", [name for name, drift in drifts_of("link").items() if drift.kernel])
    @on_a_host
    def test_of_what_a_kernel_may_lack_is_seen_and_repaired(self, name: str) -> None:
        drift = drifts_of("link")[name]
        if not can(drift.kernel):
            return
        wanted = a_geneve() if name.startswith("geneve") else a_lan(IPVLAN, vlan=7)
        converge(wanted)
        whole = snapshot()
        self.seen_and_repaired(f"link.{name}", drift, wanted)
        becomes(whole)

    @staticmethod
    def seen_and_repaired(name: str, drift: Drift, wanted: Sequence[Resource]) -> None:
        kind, _dot, attribute = name.partition(".")
        sh(drift.harm)
        found = operations_for(wanted)
        seen = {
            item.attribute for operation in found if operation.resource.kind == kind for item in operation.differences
        }
        assert (drift.called or attribute) in seen, (name, [operation.text for operation in found])
        assert converge(wanted), name
        assert compare(wanted) == [], name

    @on_a_host
    def test_a_missing_object_of_any_kind_is_recreated(self) -> None:
        wanted = the_house()
        converge(wanted)
        whole = snapshot()
        for kind in kinds():
            with Host("default", run_command) as host:
                worker = engine.Engine(host)
                observed = worker._observe(wanted)
                mine = [item for item in observed.values() if item.resource.kind == kind.name and item.ours]
                assert mine or kind.name in EXTRAS, kind.name
                worker._registry[kind.name].delete(host, [item.resource for item in mine])
            if mine and kind.name not in ("sysctl", "ipvs_timeouts"):  # the kernel's values are put back: another drift
                assert any(text.startswith(f"create {kind.name} ") for text in settled(wanted)), kind.name
            converge(wanted)
            assert compare(wanted) == []
            becomes(whole)

    @on_a_host
    def test_a_recreated_table_keeps_the_user_s_rules(self) -> None:
        wanted = the_house()
        converge(wanted)
        sh(
            "nft 'add set inet cnm user_some { type ipv4_addr; }; add rule inet cnm user_forward"
            " ip saddr @user_some accept'"
        )
        whole = snapshot()
        sh(DRIFTS["nftables"]["role"].harm)
        converge(wanted)
        the_same(whole, snapshot())
        with pytest.raises(engine.EngineError):
            converge([REFUSED])  # all is removed, and put back
        # With a chain of Docker's the host wants to forward anyway: nothing has to be put back later.
        record = "/var/lib/cnm/before.json"
        sh(f"rm -f {record}")
        becomes({name: value for name, value in whole.items() if name != record})

    @on_a_host
    def test_a_replacement_says_why(self) -> None:
        wanted = the_house()
        converge(wanted)
        sh(DRIFTS["link"]["type"].harm)
        found = operations_for(wanted)
        (entry,) = (item for item in reporting.report(found) if item["action"] == "replace")
        assert entry["reason"] == "the kernel cannot change the type and the peer of a link in place"
        assert f"\n  recreated because {entry['reason']}\n" in reporting.diff(found)["after"]

    @on_a_host
    def test_a_link_of_another_type_is_replaced_by_the_bridge(self) -> None:
        wanted = the_house()
        converge(wanted)
        whole = snapshot()
        sh("ip link delete br-apart; ip link add br-apart type veth peer name other0")
        sh("ip link set br-apart alias cnm:default:network/apart")
        assert any(text.startswith("replace link br-apart (type") for text in converge(wanted))
        becomes(whole)


OBSTACLE = Namespace("theirs", "sandbox/theirs")
REFUSED = Link("", "br-wrong", "bridge", "network/wrong", mtu=20)

TRANSITIONS: dict[str, tuple[Sandboxes, Sandboxes]] = {
    "made": ({}, HERE),
    "changed": (HERE, OTHERWISE),
    "removed": (HERE, {}),
    "attached": ({}, OTHERS),
    "handed over": ({"box": {"networks": ["front"]}}, {"box": {**OTHERS["box"], "networks": ["front", "back"]}}),
    "taken back": (OTHERS, {"box": {"networks": ["apart"]}}),
    "detached": (OTHERS, HERE),
}
MOVED = an_overlay(boxes={"a": 0, "b": 1, "c": 2, "e": 0}, flood=(VTEPS[4][2],))
MOVED_LAN = a_lan(Parent(BENEATH, "vepa"), ("m2", "m3"))
OVERLAY_TRANSITIONS: dict[str, tuple[Sequence[Resource], Sequence[Resource]]] = {
    "overlay made": ((), OVERLAY),
    "overlay changed": (OVERLAY, MOVED),
    "overlay made anew": (OVERLAY, an_overlay(boxes={**BOXES, "c": 2}, vni=VNI + 1)),
    "overlay removed": (MOVED, ()),
    "routed overlay made": ((), (*a_routed_overlay(), FRR)),
    "routed overlay changed": (
        (*a_routed_overlay(), FRR),
        (*a_routed_overlay(boxes="g"), replace(FRR, reflectors=("192.0.2.3",), clients=())),
    ),
    "routed overlay removed": ((*a_routed_overlay(), FRR), ()),
    "lan made": ((), LAN),
    "lan changed": (LAN, MOVED_LAN),
    "lan made anew": (LAN, a_lan(Parent(BENEATH, "passthru"), ())),
}


EVERY_KIND = "every kind at once"
ONE_A_HOST = ("frr", "names")
"""Kinds of which a host has one, so that no run makes, changes and removes some: transitions of their own do."""
IN_THE_VM = ("xfrm", "ipvs", "ipvs_timeouts", "boot", "target", "resolved")
"""Kinds that this machine may lack: tests/vm and tests/systemd break their runs."""

UNCHANGING = {
    "docker_user": "it is there or not",
    "address": "only others take away what it can lack",
}
"""Kinds of which no plan changes an object, and why."""


def _changed(resources: Sequence[Resource], kind: str, **values: Any) -> tuple[Resource, ...]:
    """With other values in the first of the kind in c1."""
    first = next(item for item in resources if item.kind == kind and item.key[1] == "c1")
    return tuple(replace(item, **values) if item is first else item for item in resources)


def _rules(one: str, table: int) -> tuple[Resource, ...]:
    return (Rule("", 4, PRIORITY, "", one), Rule("", 4, PRIORITY, "lo", "10.7.0.0/16", table))


def every_kind() -> tuple[Sequence[Resource], Sequence[Resource]]:
    """Two plans, the second of which makes, changes and removes an object of every kind."""
    sh("iptables -w -N DOCKER-USER; ip6tables -w -N DOCKER-USER")
    first = (*resources_of(HERE), *OVERLAY, *an_overlay(host=2, boxes={"w": 2, "v": 0}, vni=VNI + 1), DockerUser(4))
    second = (*resources_of(OTHERWISE), *MOVED, *an_overlay(host=1, boxes={"x": 1, "y": 0}, vni=VNI + 2), DockerUser(6))
    second = _changed(second, "route", via="10.0.2.9")
    config = next(item.config for item in second if isinstance(item, Resolver) and item.namespace == "c1")
    second = _changed(second, "resolver", config=(*config, "cache-size=100"))
    second = tuple(replace(item, role="sandbox/o") if item.key == ("namespace", "a") else item for item in second)
    told = tuple(LinkManager("udev", (name,)) for name in ("one0", "two0"))
    ttl, pmtu, ecn = "net.ipv4.ip_default_ttl", "net.ipv4.ip_no_pmtu_disc", "net.ipv4.tcp_ecn"
    return (
        (
            *first,
            told[0],
            LinkManager("networkd", rules=True),
            Sysctl("c1", ttl, "65"),
            Sysctl("c1", ecn, "1"),
            *_rules("10.8.0.0/16", MAIN_TABLE),
        ),
        (
            *second,
            told[1],
            LinkManager("NetworkManager"),
            Sysctl("c1", ttl, "66"),
            Sysctl("c1", pmtu, "1"),
            *_rules("10.9.0.0/16", 0),
        ),
    )


def transition(name: str) -> tuple[Sequence[Resource], Sequence[Resource]]:
    """What there is, and what is to be."""
    if name == EVERY_KIND:
        return every_kind()
    if name in OVERLAY_TRANSITIONS:
        return OVERLAY_TRANSITIONS[name]
    first, second = TRANSITIONS[name]
    sh(f"test -e {BOX} || {{ {A_BOX}; }}")
    return resources_of(first), resources_of(second)


@on_a_host
def test_one_run_makes_changes_and_removes_an_object_of_every_kind() -> None:
    first, second = ({item.key: item for item in plan} for plan in every_kind())
    here = [kind.name for kind in kinds() if kind.name not in (*IN_THE_VM, *ONE_A_HOST)]
    made, removed = ({key[0] for key in one.keys() - other.keys()} for one, other in ((second, first), (first, second)))
    changed = {key[0] for key in first.keys() & second.keys() if first[key] != second[key]}
    assert sorted(set(here) - made) == sorted(set(here) - removed) == []
    assert sorted(set(here) - changed) == sorted(UNCHANGING)


CUTS, FAILURES = 3, 8
"""How many places a run is killed at, and made to fail at; with ``./run test --all`` every one."""

_CHANGES = [*TRANSITIONS, *OVERLAY_TRANSITIONS, EVERY_KIND]
_SAMPLE = {(EVERY_KIND, True), (EVERY_KIND, False)}
_SAMPLE |= {
    (name, True) for name in ("handed over", "attached", "overlay changed", "routed overlay changed", "lan made anew")
}
LOOKS = [
    pytest.param(
        name,
        narrow,
        id=f"{name}-{'narrow' if narrow else 'full'} look",
        marks=[] if (name, narrow) in _SAMPLE else pytest.mark.whole,
    )
    for narrow in (True, False)
    for name in _CHANGES
]
"""What is changed, and whether the run looks only at that."""


class _Broken(engine.EngineError):
    """What a test breaks a run with."""


@contextlib.contextmanager
def _broken(number: int, after: bool) -> Iterator[None]:
    """The step of that number fails, before or after it has done its work; what comes later does not."""
    original = engine.Engine._run_step
    seen = -1

    def take(self: engine.Engine, step: engine.Step) -> None:
        nonlocal seen
        seen += 1
        if seen != number or after:
            original(self, step)
        if seen == number:
            raise _Broken("broken by the test")

    engine.Engine._run_step = take  # type: ignore[method-assign]
    try:
        yield
    finally:
        engine.Engine._run_step = original  # type: ignore[method-assign]


class TestFailing:
    @pytest.mark.parametrize(("name", "narrow"), LOOKS)
    @on_a_host
    def test_a_failure_in_any_step_restores_the_host(self, name: str, narrow: bool) -> None:
        first, second = transition(name)
        since = first if narrow else None
        converge(first)
        before = snapshot()
        with Host("default", run_command) as host:
            steps = engine.order(operations_for(second), engine.Engine(host)._registry)
        places = [(number, step, after) for number, step in enumerate(steps) for after in (False, True)]
        for number, step, after in some_of(places, FAILURES, f"failing {name}"):
            with _broken(number, after), pytest.raises(engine.EngineError, match="broken by the test") as error:
                converge(second, since=since)
            assert str(error.value).endswith("The changes of this run were undone."), (step, error.value)
            assert f" {step.kind} " in str(error.value)
            becomes(before)
        converge(second, since=since)
        assert compare(second) == []

    @on_a_host
    def test_an_error_names_the_object_what_was_wanted_and_what_the_kernel_said(self) -> None:
        converge(resources_of(HERE))
        wanted = [
            replace(item, mtu=66000) if isinstance(item, Link) and item.key == ("link", "c1", "eth0") else item
            for item in resources_of(HERE)
        ]
        with pytest.raises(engine.EngineError) as error:
            converge(wanted)
        said = str(error.value)
        assert said.startswith(
            "changing link c1/eth0 (mtu: wanted 66000, found 1400): the kernel refused: change of link"
        )
        assert "eth0 (mtu) failed: mtu greater than device maximum (EINVAL)" in said
        with pytest.raises(engine.EngineError) as error:
            converge([*resources_of(HERE), REFUSED])
        assert str(error.value) == (
            "creating link br-wrong (wanted: mtu 20, role network/wrong, type bridge): the kernel refused: "
            "new link br-wrong failed: mtu less than device minimum (EINVAL). The changes of this run were undone."
        )


ACTIONS: list[tuple[Any, str]] = [
    (Netlink, "send"),
    (Netfilter, "transact"),
    (Library, "run"),
    (Program, "run"),
    (contained, "each"),
    (processes, "start_apart"),
    (processes, "send"),
    (namespaces, "_mount"),
    (os, "replace"),
    (os, "unlink"),
    (os, "kill"),
    (os, "rmdir"),
    (Path, "write_text"),
    (harness, "run_command"),
]
"""Where a run does something that others can see."""


def _cut_off(
    wanted: Sequence[Resource], position: int = -1, told: str = "", since: Optional[Sequence[Resource]] = None
) -> int:
    """A run in a process of its own, killed before or after one of its actions, or when it has told the kernel that.

    Returns how many halves of actions it has done.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            done = len(stream.read())
        _pid, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
        return done
    code = 1
    try:
        die, count, own = os.kill, 0, os.getpid()

        def half() -> None:
            nonlocal count
            if os.getpid() != own:
                return  # its own child, which ends with it
            if count == position:
                die(os.getpid(), signal.SIGKILL)
            count += 1
            os.write(writing, b".")

        def counting(original: Callable[..., Any]) -> Callable[..., Any]:
            def act(*arguments: Any, **named: Any) -> Any:
                half()
                result = original(*arguments, **named)
                if told and any(told in getattr(item, "text", "") for item in arguments[-1]):
                    die(os.getpid(), signal.SIGKILL)
                half()
                return result

            return act

        for owner, name in ACTIONS if not told else ACTIONS[:1]:
            setattr(owner, name, counting(getattr(owner, name)))
        converge(wanted, since=since)
        code = 0
    finally:
        os._exit(code)


JOURNAL = str(RUN / "default" / "journal.json")


class TestInterrupted:
    """Runs killed in earnest: SIGKILL, in the middle of what they do."""

    @pytest.mark.parametrize(("name", "narrow"), LOOKS)
    @on_a_host
    def test_a_killed_run_is_finished_by_the_next_or_undone_with_it(self, name: str, narrow: bool) -> None:
        first, second = transition(name)
        since = first if narrow else None
        sh("ip netns add theirs")
        converge(second)
        finished = snapshot()
        converge(first)
        becomes(before := snapshot())
        total = _cut_off(second, -1, since=since)
        assert total >= 20
        for turn, position in enumerate(some_of(range(total), CUTS, f"20261121 {name}")):
            converge(first)
            becomes(before)
            assert _cut_off(second, position, since=since) == position
            foretold = compare(second)
            converge(second)
            assert compare(second) == [], (position, foretold)
            becomes(finished)
            converge(first)
            becomes(before)
            assert _cut_off(second, position, since=since) == position
            left = snapshot()
            with pytest.raises(engine.EngineError):
                converge([*second, (OBSTACLE, REFUSED)[turn % 2]])
            # Killed when it had removed its journal, it had done everything.
            becomes(before if JOURNAL in left or differing(left, finished) else finished)

    @on_a_host
    def test_an_unmarked_object_of_a_killed_run_is_removed(self) -> None:
        before = snapshot()
        _cut_off(resources_of(HERE), told="new link br-apart")
        assert "br-apart" in sh("ip link")
        converge(())
        becomes(before)

    @on_a_host
    def test_the_next_run_says_so_and_a_check_does_not(self) -> None:
        _cut_off(resources_of(HERE), 60)
        left = snapshot()
        with Host("default", run_command) as host:
            worker = engine.Engine(host)
            worker.converge(resources_of(HERE), check=True)
            assert worker.warnings == []
            the_same(left, snapshot())
            worker.converge(resources_of(HERE), check=False)
            assert worker.warnings == ["An earlier run on this host was interrupted; this run completed its work."]
            worker.converge(resources_of(HERE), check=False)
            assert len(worker.warnings) == 1

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", '{"schema": 99}', '{"schema": 1, "places": [[["x"], {"kind": "y"}, null]]}']
    )
    @on_a_host
    def test_an_unreadable_journal_is_ignored(self, text: str) -> None:
        before = snapshot()
        converge(resources_of(HERE))
        Path(JOURNAL).write_text(text)
        converge(resources_of(OTHERWISE))
        converge(())
        becomes(before)

    @on_a_host
    def test_a_limited_run_keeps_the_other_entries_of_a_journal(self) -> None:
        wanted = resources_of(HERE)
        converge(wanted)
        before = snapshot()
        _cut_off(resources_of(OTHERWISE), 60)
        alone = [item for item in wanted if item.key == ("sysctl", "", "net.ipv4.ip_forward")]
        with Host("default", run_command) as host:
            engine.Engine(host).converge(alone, False, only={alone[0].key})
        assert Path(JOURNAL).exists()
        with pytest.raises(engine.EngineError):
            converge([*wanted, REFUSED])
        becomes(before)
