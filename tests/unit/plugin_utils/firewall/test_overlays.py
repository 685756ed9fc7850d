# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The rules about VXLAN as text; that they hold is for tests/integration and tests/vm."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.cnm.fabric.plugins.module_utils.engine.expand_plan import expand_plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import encrypted_data_path_port, request_id
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Chain, Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.peers import PeerTable
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.overlays import (
    PREROUTING,
    overlay_chains,
    overlay_sets,
    untracked_tunnels,
)


def networks(vnis: Sequence[int], encrypted: Sequence[int] = (), own: str = "192.0.2.1", port: int = 4789) -> Any:
    return [
        SimpleNamespace(
            tunnel=SimpleNamespace(
                vni=vni,
                port=encrypted_data_path_port(port) if vni in encrypted else port,
                vteps={"node1": own},
            ),
            network=SimpleNamespace(encrypted=vni in encrypted),
            shared=SimpleNamespace(table=f"digest of {vni}"),
            host="node1",
        )
        for vni in vnis
    ]


def rules_of(chains: Sequence[Chain]) -> dict[str, tuple[str, ...]]:
    return {chain.name: chain.rules for chain in chains}


def test_a_host_without_overlays_has_none() -> None:
    bridge: Any = [SimpleNamespace(tunnel=None, shared=None, host="node1")]
    assert overlay_sets(bridge) == []
    assert overlay_chains("default", bridge) == []


def test_sets_have_every_vni_of_the_host_and_vteps_come_from_peer_tables() -> None:
    vnis, *vteps = overlay_sets(networks((4100, 4096)))
    assert (vnis.name, vnis.elements) == ("vnis", ("4096", "4100"))
    assert [item.name for item in vteps] == ["vteps4", "vteps6"]
    assert {item.tables for item in vteps} == {("digest of 4096", "digest of 4100")}


def test_a_host_adds_the_vteps_of_each_network_by_family() -> None:
    peer_tables = {
        "digest of 4096": PeerTable("one", 4096, {"node1": "192.0.2.1", "node2": "192.0.2.2"}, ()),
        "digest of 4100": PeerTable("two", 4100, {"node1": "192.0.2.1", "node3": "192.0.2.3"}, ()),
    }
    table = Nftables("", "inet", "cnm", "host", tuple(overlay_sets(networks((4096, 4100)))))
    texts = {digest: table.to_json() for digest, table in peer_tables.items()}
    (found,) = expand_plan(Plan("node1", resources=(table,)), texts)
    assert isinstance(found, Nftables)
    elements = {item.name: item.elements for item in found.sets}
    assert elements["vteps4"] == ("4096 . 192.0.2.2", "4100 . 192.0.2.3")
    assert elements["vteps6"] == ()


def test_encryption_adds_its_own_only_where_there_is_an_encrypted_network() -> None:
    plain, both = (networks((4096, 4097), encrypted) for encrypted in ((), (4097,)))
    assert not any("ipsec" in rule for rules in rules_of(overlay_chains("default", plain)).values() for rule in rules)
    rules = rules_of(overlay_chains("default", both))
    assert rules["overlay_decrypted"] == ("meta ipsec missing drop", f"ipsec in reqid != {request_id('default')} drop")
    assert rules["overlay_input"] == ("udp dport 14789 @th,96,24 @vnis goto overlay_decrypted",)
    assert rules["overlay_postrouting"][-1] == "udp dport 14789 @th,96,24 @vnis rt ipsec missing drop"
    assert rules["overlay_prerouting"] == ("udp dport { 4789, 14789 } @th,96,24 @vnis jump overlay_received",)


@pytest.mark.parametrize(("own", "word"), [("192.0.2.1", "ip"), ("2001:db8::1", "ip6")])
def test_masqueraded_vxlan_is_dropped(own: str, word: str) -> None:
    rules = rules_of(overlay_chains("default", networks((4096,), own=own, port=4790)))
    assert rules["overlay_postrouting"] == (
        f"ct status snat udp dport 4790 @th,96,24 @vnis ct original {word} saddr != {own} drop",
    )


def test_drops_come_before_conntrack_and_translation() -> None:
    hooks = {chain.name: chain.hook for chain in overlay_chains("default", networks((4096,), (4096,)))}
    for hook in ("prerouting", "input", "output"):
        assert hooks[f"overlay_{hook}"] == f"type filter hook {hook} priority -300; policy accept"
    assert hooks["overlay_postrouting"] == "type filter hook postrouting priority 300; policy accept"


def test_what_other_hosts_send_by_the_underlay_is_not_tracked_and_not_looked_at_again() -> None:
    several = networks((4096, 4097))
    sources = Chain("sources", PREROUTING, ('iif "lo" accept',))
    rules = rules_of(overlay_chains("default", several, "eth7", sources))
    assert rules["sources"] == (
        'iifname "eth7" ip daddr 192.0.2.1 udp dport 4789 @th,96,24 . ip saddr @vteps4 notrack accept',
        "udp dport 4789 @th,96,24 @vnis jump overlay_received",
        'iif "lo" accept',
    )
    assert "notrack" not in " ".join(rules_of(overlay_chains("default", several))["overlay_prerouting"])
    assert untracked_tunnels(several) == ["ct state untracked ip daddr 192.0.2.1 udp dport 4789 accept"]


def test_without_tunnels_only_the_other_chain_is_left() -> None:
    sources = Chain("sources", PREROUTING, ('iif "lo" accept',))
    bridge: Any = [SimpleNamespace(tunnel=None, shared=None, host="node1")]
    assert overlay_chains("default", bridge, "eth0", sources) == [sources]
    assert untracked_tunnels(bridge) == []
