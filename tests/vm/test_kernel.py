# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The virtual machine's kernel has what the tests here rely on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

pytestmark = pytest.mark.vm

LINKS = {
    "dummy": "type dummy",
    "vlan": "link eth0 type vlan id 10",
    "ipvlan": "link eth0 type ipvlan mode l2",
    "macvlan": "link eth0 type macvlan mode bridge",
    "vxlan": "type vxlan id 4096 dstport 4789 local 192.0.2.1 nolearning",
    "wireguard": "type wireguard",
}
RULES = {
    "inet": ("input", "meta ipsec missing drop"),
    "bridge": ("prerouting", 'meta ibrname "br0" ether saddr 02:42:0a:00:00:02 ct state new accept'),
}


def ip(arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["ip", *arguments.split()], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def kernel() -> Iterator[str]:
    """A namespace with one end of a veth pair, eth0; its name."""
    ip("netns add kernel")
    ip("-n kernel link add eth0 type veth peer name eth1")
    ip("-n kernel address add 192.0.2.1/24 dev eth0")
    yield "kernel"
    ip("netns del kernel")


@pytest.mark.parametrize("kind", LINKS)
def test_links(kernel: str, kind: str) -> None:
    ip(f"-n {kernel} link add made {LINKS[kind]}")
    assert kind in ip(f"-n {kernel} -d link show made")


def test_esp(kernel: str) -> None:
    keys = "aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128"
    ends = "src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1001"
    ip(f"-n {kernel} xfrm state add {ends} mode transport replay-window 0 {keys}")
    assert "aead rfc4106(gcm(aes))" in ip(f"-n {kernel} xfrm state")


def test_ipvs(kernel: str) -> None:
    ip(f"netns exec {kernel} ipvsadm -A -f 1 -s rr")
    ip(f"netns exec {kernel} ipvsadm -a -f 1 -r 192.0.2.10 -m")
    assert "-a -f 1 -r 192.0.2.10:0 -m" in ip(f"netns exec {kernel} ipvsadm -S -n")


@pytest.mark.parametrize("family", RULES)
def test_nftables(kernel: str, family: str) -> None:
    hook, rule = RULES[family]
    lines = [f"table {family} made", f"chain {family} made made {{ type filter hook {hook} priority 0; }}"]
    lines += [f"rule {family} made made {rule}"]
    ip(f"netns exec {kernel} nft -f -", "".join(f"add {line}\n" for line in lines))
    assert rule in ip(f"netns exec {kernel} nft list ruleset")
