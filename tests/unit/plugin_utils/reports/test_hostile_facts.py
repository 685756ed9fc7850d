# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What others name and write on a host, on its way into a plan: left out and said, or refused in a sentence."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import hostile
import pytest
import yaml

from ansible_collections.cnm.fabric.plugins.module_utils.plan import forms
from ansible_collections.cnm.fabric.plugins.module_utils.plan.forms import FormError
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Sysctl
from ansible_collections.cnm.fabric.plugins.plugin_utils.dns.records import record, servers_text
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.overlays import overlay_chains
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import LeaseError, empty
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner import planning
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.plan import Planned, plan
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.balancing import VirtualService
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.ingress import translations
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.nftables import by_nftables

NOW = "2026-11-21T05:00:00Z"

INJECTED = "198.51.100.12 }; add table ip pwned; add chain ip pwned c { type filter hook input priority 0; }; #"
VARIABLES = {
    "cnm_networks": {"front": {"subnet": ["10.0.0.0/24", "fd00::/64"], "enable_ipv6": True}},
    "cnm_sandboxes": {"c1": {"networks": ["front"], "ports": ["8080:80"]}},
}


def planned(facts: Facts) -> Planned:
    return plan(read_topology({"node1": VARIABLES}), {"node1": facts}, empty(), "now")


@pytest.mark.parametrize("text", [text for text in hostile.TEXTS if text], ids=lambda text: repr(text)[:24])
def test_the_host_can_read_its_plan_whatever_its_links_are_named(text: str) -> None:
    facts = Facts(
        routes=(("default", text, "192.0.2.1"),),
        bridges=(text, "br-theirs"),
        ra_links=(text,),
        forwarding_links={4: (text, "eth0"), 6: (text,)},
        resolvers=("192.0.2.1", "2001:db8::53%eth0"),
        search=(text, "example.com"),
        options=(text, "timeout:1"),
    )
    made = planned(facts)
    assert not made.refusals
    read = Plan.from_json(made.plans["node1"].to_json())
    fits = forms.link_name.fits(text)
    (table,) = (item for item in read.resources if isinstance(item, Nftables) and item.role == "host")
    elements = {item.name: item.elements for item in table.sets}
    assert elements["foreign_bridge_pairs"] == tuple(
        sorted(f'"{n}" . "{n}"' for n in ("br-theirs", *([text] if fits else [])))
    )
    assert elements["uplinks"] == ((f'"{text}"',) if fits else ())
    settings = {item.name: item for item in read.resources if isinstance(item, Sysctl)}
    assert settings["net.ipv4.ip_forward"].links == ((text, "eth0") if fits else ("eth0",))
    said = "\n".join(text for item in read.resources if isinstance(item, File) for text in item.files.values())
    assert "search " in said
    assert "nameserver 127.0.0.11" in said
    assert "pwned" not in said
    assert "dhcp-script" not in said
    warned = [warning for warning in made.warnings.get("node1", ()) if "no firewall rule" in warning]
    assert len(warned) == (0 if fits else 1)
    assert all(warning.isprintable() for warning in warned)


def test_the_name_of_a_listening_process_is_shown_printable_and_short() -> None:
    evil = "\x1b]0;x\x07\n" + "x" * 500
    made = planned(Facts(listeners=(("tcp", "0.0.0.0", 8080, evil),)))
    (refusal,) = made.refusals["node1"]
    assert refusal.isprintable()
    assert len(refusal) < 300


@pytest.mark.parametrize("text", [INJECTED, *hostile.TEXTS], ids=lambda text: repr(text)[:24])
def test_an_invalid_address_never_becomes_part_of_a_rule(text: str) -> None:
    tunnel = SimpleNamespace(vni=4096, port=4789, vteps={"node1": text})
    shared, declared = SimpleNamespace(table="d"), SimpleNamespace(encrypted=False)
    network: Any = SimpleNamespace(tunnel=tunnel, shared=shared, network=declared, host="node1")
    makers = (
        lambda: overlay_chains("default", [network]),
        lambda: by_nftables("c1", [VirtualService(text, "rr", (("10.0.0.2", 1),))]),
        lambda: by_nftables("c1", [VirtualService("10.0.0.9", "rr", ((text, 1), ("10.0.0.2", 1)))]),
        lambda: translations("tcp", (80, 80), (80, 80), [(text, 1)], 4),
    )
    for make in makers:
        with pytest.raises(FormError):
            make()


@pytest.mark.parametrize("text", [text for text in hostile.TEXTS if not forms.dns_name.fits(text)], ids=repr)
def test_hostile_names_cannot_end_a_line_of_records_or_servers(text: str) -> None:
    with pytest.raises(FormError):
        record(["10.0.0.2"], ["c1", text])
    with pytest.raises(FormError):
        servers_text([text])
    with pytest.raises(FormError):
        record([text], ["c1"])


def test_an_invalid_value_stops_the_run_with_a_printable_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(*_arguments: Any) -> Any:
        forms.address(f"{INJECTED}\n\x1b[2J")

    monkeypatch.setattr(planning, "_plan_project", poisoned)
    with pytest.raises(LeaseError) as refusal:
        planning.make_plans({"node1": VARIABLES}, {}, {"node1": Facts()}, str(tmp_path), NOW, remember=False)
    assert str(refusal.value).isprintable()


def test_messages_with_a_host_s_text_are_printable(tmp_path: Path) -> None:
    evil = "\x1b]0;x\x07\x9b2J\u202e"
    facts = Facts(dropping=(evil,), flushing=evil, bridges=(evil,))
    outcome = planning.make_plans({"node1": VARIABLES}, {}, {"node1": facts}, str(tmp_path), NOW, remember=False)
    assert len(outcome.warnings["node1"]) >= 3
    assert all(warning.isprintable() for warning in outcome.warnings["node1"])


RIGHT = sorted((Path(__file__).parents[2] / "inventories" / "right").glob("*.yml"))


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_every_valid_declaration_gives_a_plan_that_the_host_can_read(path: Path) -> None:
    """No form is narrower than what the declaration lets through."""
    hosts = yaml.safe_load(path.read_text(encoding="utf-8")).get("hosts")
    if not hosts:
        return
    variables = {name: said or {} for name, said in hosts.items()}
    facts = Facts(resolvers=("192.0.2.1",), ipvs=True, addresses=(("192.0.2.1", "eth0", 1500),))
    made = plan(read_topology(variables), dict.fromkeys(variables, facts), empty(), "now")
    for item in made.plans.values():
        assert Plan.from_json(item.to_json()).to_json() == item.to_json()
