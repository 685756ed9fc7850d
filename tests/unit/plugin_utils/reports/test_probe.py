# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What hosts report is believed about themselves alone.  Written from the side of whoever is root on one of them."""

from __future__ import annotations

import ast
import copy
import json
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from reporting import HOSTS, RECORDED, VARIABLES, Answer, Controller, answer_of, texts

from ansible_collections.cnm.fabric.plugins.module_utils.changes import repairs
from ansible_collections.cnm.fabric.plugins.module_utils.engine import reporting
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.probe import reader
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Difference, Operation
from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import without_facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import LeaseStore
from ansible_collections.cnm.fabric.plugins.plugin_utils.facts import Facts
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.signing import revision_given, sign
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.planner.planning import Outcome
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.answers import admitted, forged, forgery
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.models import own_model
from ansible_collections.cnm.fabric.plugins.plugin_utils.reports.probe import NEWEST, PROBE_KEYS, read_probe

NFT = "198.51.100.12 }; add table ip pwned; add chain ip pwned c { type filter hook input priority 0; }; #"
Change = Callable[[Answer], None]


@pytest.fixture
def settled(tmp_path: Path) -> Controller:
    """Hosts that keep what they were told."""
    controller = Controller(tmp_path / "controller")
    controller.run(controller.answers())
    return controller


def said(outcome: Outcome, host: str) -> str:
    return " ".join([*outcome.warnings.get(host, ()), *outcome.refusals.get(host, ())])


def attacked(settled: Controller, host: str, change: Change, newer: int = 50) -> tuple[Outcome, Outcome]:
    """Runs in which the host is honest, and in which it has changed what it keeps."""
    honest = settled.copied(settled.directory.with_name("honest"))
    hostile = settled.copied(settled.directory.with_name("hostile"))
    answers = hostile.answers()
    answers[host]["kept"]["revision"] += newer
    change(answers[host])
    return honest.run(honest.answers()), hostile.run(answers)


def leases(change: Callable[[dict[str, Any]], Any]) -> Change:
    return lambda answer: (change(answer["kept"]["leases"]), None)[1]


UNDERLAY = {"node2": {"underlay": NFT, "mtu": 1500, "vnis": []}}


class TestClaimsAboutOthers:
    """F2 and F3: what a host keeps about other hosts, and about networks it has no part in."""

    @pytest.mark.parametrize(
        ("host", "change", "words"),
        [
            ("node3", lambda kept: kept.update(hosts=UNDERLAY), "kept.leases.hosts.node2"),
            ("node3", lambda kept: kept.update(hosts={"node3": {"underlay": NFT[:40]}}), "is not a valid address"),
            (
                "node3",
                lambda kept: kept["endpoints"].update({"node1/multinet/c1": {"ipv4": "10.20.0.77"}}),
                "not belong to this host",
            ),
            ("node3", lambda kept: kept["endpoints"].update({"node3/multinet/c1": {"ipv4": "10.20.0.77"}}), "declared"),
            ("node3", lambda kept: kept["endpoints"].update({"node3/multinet/c9": {"ipv4": "10.20.0.2"}}), "declared"),
            ("node3", lambda kept: kept.update(overlays={"multinet": {"vni": 7777}}), "not declared on it"),
            ("node2", lambda kept: kept["overlays"]["multinet"].update(vni=7777), "overlays multinet"),
            (
                "node2",
                lambda kept: kept["endpoints"].update({"node2/multinet/c2": {"ipv4": "10.20.0.2"}}),
                "lease store has",
            ),
            ("node2", lambda kept: kept["services"].update(redis={"tasks": {"1": "node2", "2": "node2"}}), "redis"),
            ("node2", lambda kept: kept["services"].update(redis={"tasks": {"x/../y": "node2"}}), "number of a task"),
            (
                "node2",
                lambda kept: kept.update(networks={"node2": 7, "a": {}, "node2/../x/y": {}}),
                "not belong to this host",
            ),
            ("node2", lambda kept: kept.update(endpoints=["node2/multinet/c2"]), "not a mapping"),
        ],
    )
    def test_a_claim_about_others_is_ignored(
        self, settled: Controller, host: str, change: Callable[[dict[str, Any]], Any], words: str
    ) -> None:
        honest, hostile = attacked(settled, host, leases(change))
        assert texts(hostile, host) == texts(honest, host)
        assert words in said(hostile, host)
        assert "pwned" not in str(texts(hostile))

    def test_a_revision_that_is_too_high_excludes_the_host(self, settled: Controller) -> None:
        honest, hostile = attacked(settled, "node3", lambda answer: answer["kept"].update(revision=2**63 - 1))
        assert texts(hostile) == texts(honest, "node3")
        assert "`revision`: 9223372036854775807 is not between" in said(hostile, "node3")

    def test_a_reported_revision_never_becomes_the_store_s(self, settled: Controller) -> None:
        answers = settled.answers()
        before = open_store(LeaseStore(), str(settled.directory)).read("default").revision
        for _turn in range(3):
            answers["node3"]["kept"].update(revision=NEWEST - 1)
            settled.run(answers)
            answers = settled.answers()
        assert open_store(LeaseStore(), str(settled.directory)).read("default").revision <= before + 1
        assert settled.kept["node1"]["revision"] <= before + 1
        # The host itself is taken at its word: it refuses what is older than what it keeps.
        assert settled.kept["node3"]["revision"] == NEWEST - 1

    @pytest.mark.parametrize("answer", [None, [], 7, {}, {"kept": []}, {"kept": {}, "routes": {}}])
    def test_an_invalid_answer_excludes_the_host(self, settled: Controller, answer: Any) -> None:
        hostile = settled.copied(settled.directory.with_name("hostile"))
        outcome = hostile.run({**hostile.answers(), "node3": answer})
        assert set(outcome.plans) == {"node1", "node2"}
        assert "cannot be used" in said(outcome, "node3")

    def test_a_host_is_believed_about_itself(self, settled: Controller) -> None:
        def renumbered(kept: dict[str, Any]) -> None:
            kept["endpoints"]["node3/front/c3"] = {"ipv4": "10.21.0.99"}

        honest, hostile = attacked(settled, "node3", leases(renumbered))
        assert hostile.plans["node3"].leases["endpoints"]["node3/front/c3"] == {"ipv4": "10.21.0.99"}
        assert texts(hostile, "node3") == texts(honest, "node3")
        assert "are not from this lease store" in said(hostile, "node3")


class TestSignatures:
    def test_a_restored_store_accepts_its_own_later_leases(self, settled: Controller) -> None:
        backup = settled.copied(settled.directory.with_name("backup"))
        more = copy.deepcopy(VARIABLES)
        for name in ("b", "a"):  # so that by name alone each would get the other's address
            more["node1"]["cnm_sandboxes"] = {name: {"networks": ["multinet"]}, **more["node1"]["cnm_sandboxes"]}
            settled.variables = copy.deepcopy(more)
            settled.run(settled.answers())
        last = settled.run(settled.answers())
        answers = settled.answers()
        backup.variables = more
        again = backup.run(answers)
        assert texts(again) == texts(last)
        assert (again.warnings, again.unsigned) == ({host: [] for host in HOSTS}, set())

    def test_a_sandbox_that_each_host_has_is_its_own_alone(self, settled: Controller) -> None:
        def taken(kept: dict[str, Any]) -> None:
            for other in ("node1", "node3"):
                kept["endpoints"][f"node3/front/ingress_sbox@{other}"] = {"ipv4": "10.21.0.77"}

        _honest, hostile = attacked(settled, "node3", leases(taken))
        told = [text for text in hostile.warnings["node3"] if "not a valid name" in text]
        assert len(told) == 1
        assert "@node1" in told[0]

    def test_older_signed_leases_change_nothing(self, settled: Controller) -> None:
        old = settled.answers()["node2"]
        more = copy.deepcopy(VARIABLES)
        more["node2"]["cnm_sandboxes"] = {"b": {"networks": ["multinet"]}}
        settled.variables = more
        settled.run(settled.answers())
        last = settled.run(settled.answers())
        replayed = settled.run({**settled.answers(), "node2": old})
        assert texts(replayed) == texts(last)

    def test_a_lost_store_is_rebuilt_from_the_hosts_reports(self, settled: Controller) -> None:
        before = settled.run(settled.answers())
        settled.store.unlink()
        after = settled.run(settled.answers())
        assert texts(after) == texts(before)
        assert after.warnings == {host: [] for host in HOSTS}
        # They still have the signature of the store that is gone, and get the new one's.
        assert after.unsigned == set(HOSTS)
        assert settled.run(settled.answers()).unsigned == set()

    def test_with_a_lost_store_hosts_that_report_the_same_address_are_named(self, settled: Controller) -> None:
        settled.store.unlink()
        answers = settled.answers()
        taken = answers["node1"]["kept"]["leases"]["endpoints"]["node1/multinet/c1"]
        answers["node2"]["kept"]["leases"]["endpoints"]["node2/multinet/c2"] = taken
        outcome = settled.run(answers)
        assert outcome.refusals.keys() == {"node2"}
        assert "node2 and node1 both report 10.20.0.2 on multinet, for c2 and c1" in said(outcome, "node2")

    def test_with_a_lost_store_the_majority_decides_about_networks(self, settled: Controller) -> None:
        settled.store.unlink()
        answers = settled.answers()
        answers["node2"]["kept"]["leases"]["overlays"]["multinet"]["vni"] = 7777
        outcome = settled.run(answers)
        assert outcome.plans["node2"].leases["overlays"]["multinet"]["vni"] == 4096
        assert "node2 and node1 report multinet differently" in said(outcome, "node2")

    def test_a_signature_is_valid_only_for_its_host_and_leases(self) -> None:
        key, leases, alone = b"k" * 32, {"endpoints": {"a/n/c": {"ipv4": "10.0.0.2"}}}, {"cnm_networks": {"n": None}}
        made = sign(key, "default", "a", 7, leases, alone)
        assert revision_given(key, "default", "a", made, leases, alone) == 7
        for other in [
            (b"l" * 32, "default", "a", made, leases, alone),
            (b"", "default", "a", made, leases, alone),
            (key, "lab", "a", made, leases, alone),
            (key, "default", "b", made, leases, alone),
            (key, "default", "a", made.replace("7:", "8:", 1), leases, alone),
            (key, "default", "a", "²:" + made[2:], leases, alone),
            (key, "default", "a", "", leases, alone),
            (key, "default", "a", made, {}, alone),
            (key, "default", "a", made, leases, {}),
        ]:
            assert revision_given(*other) is None

    def test_only_the_owner_can_read_the_key(self, settled: Controller) -> None:
        assert stat.S_IMODE(settled.store.stat().st_mode) == 0o600
        with sqlite3.connect(settled.store) as connection:
            (key,) = connection.execute("SELECT value FROM entries WHERE key = 'key'").fetchone()
        assert len(key) == 32
        everything = str(settled.kept) + str(texts(settled.run(settled.answers())))
        assert key.hex() not in everything

    def test_a_store_readable_by_all_gets_private(self, settled: Controller) -> None:
        settled.store.chmod(0o664)
        settled.variables = {**VARIABLES, "node3": {**VARIABLES["node3"], "cnm_sandboxes": {}}}
        settled.run(settled.answers())
        assert stat.S_IMODE(settled.store.stat().st_mode) == 0o660

    def test_a_check_makes_no_key(self, tmp_path: Path) -> None:
        controller = Controller(tmp_path / "controller")
        outcome = controller.run(controller.answers(), remember=False)
        assert set(outcome.signatures.values()) == {""}
        assert not controller.store.exists()


class TestModuleState:
    @pytest.mark.parametrize(
        ("alone", "words"),
        [
            ({"cnm_sandboxes": {"c9": {"networks": ["multinet"]}}}, "c9 on multinet, which spans hosts"),
            ({"endpoints": {"c3": [["multinet", {"aliases": ["c1"]}]]}}, "which spans hosts"),
            ({"cnm_networks": {"ov": {"driver": "overlay"}}}, "the network ov, which spans hosts"),
            ({"cnm_services": {"api": {"networks": ["multinet"]}}}, "the service api"),
            ({"cnm_services": {"api": {"networks": ["front"], "ports": ["80:80"]}}}, ""),
            ({"cnm_networks": {"multinet": {"subnet": "10.99.0.0/24"}}}, ""),
            ({"cnm_networks": {"x": {"subnet": "10.21.0.0/16"}}}, "overlaps 10.21.0.0/16"),
            ({"cnm_networks": {"x": {"subnet": NFT}}}, "This is not a subnet"),
            ({"cnm_networks": {"x": {"driver_opts": {"com.docker.network.bridge.name": NFT}}}}, "link's name"),
            ({"cnm_sandboxes": {"c9": {"networks": 7}}}, "cannot be read"),
            ({"cnm_sandboxes": {"c9/../../x": {}}}, "is not a name"),
            ({"cnm_sandboxes": {"c9": {"namespace": {"path": "/etc/../x"}, "networks": ["nowhere"]}}}, "no network"),
            ({"endpoints": {"c3": [["front"]]}}, "pairs"),
            ({"cnm_hosts": {}}, "unknown key"),
            ([], "not a mapping"),
        ],
    )
    def test_hostile_module_state_does_not_affect_other_hosts(
        self, settled: Controller, alone: Any, words: str
    ) -> None:
        honest, hostile = attacked(settled, "node3", lambda answer: answer["kept"].update(module_state=alone), newer=0)
        assert texts(hostile, "node3") == texts(honest, "node3")
        assert words in said(hostile, "node3")
        if words:
            assert "node3" in hostile.refusals
            # What is there, and what it has, stays.
            kept = open_store(LeaseStore(), str(settled.directory.with_name("hostile"))).read("default").leases
            assert "node3/front/c3" in kept["endpoints"]

    def test_module_state_of_one_host_is_accepted(self, settled: Controller) -> None:
        alone = {"cnm_networks": {"lab": {"subnet": "10.22.0.0/24"}}, "cnm_sandboxes": {"m": {"networks": ["lab"]}}}
        _honest, hostile = attacked(settled, "node3", lambda answer: answer["kept"].update(module_state=alone), newer=0)
        assert "m" in hostile.plans["node3"].plan.model["sandboxes"]

    def test_an_error_in_the_variables_is_still_an_error(self, settled: Controller) -> None:
        settled.variables = {**VARIABLES, "node1": {"cnm_networks": {"x": {"subnett": 1}}}}
        answers = settled.answers()
        answers["node3"]["kept"]["module_state"] = {"cnm_networks": {"x": {"subnet": "nonsense"}}}
        with pytest.raises(Exception, match="subnett"):
            settled.run(answers)


class OfAnsible(str):
    """Text of the inventory is not the built-in type (`AnsibleTaggedStr`), and a host's answer is."""


class TestReader:
    def test_a_host_s_name_is_recognised_in_any_type_of_ansible(self) -> None:
        report = read_probe(OfAnsible("node1"), RECORDED)
        assert (report.warnings, report.refusal, report.data) == ([], "", RECORDED)

    def test_a_recorded_answer_is_read_completely_and_idempotently(self) -> None:
        report = read_probe("node1", RECORDED)
        assert (report.warnings, report.refusal) == ([], "")
        assert report.data == RECORDED
        assert read_probe("node1", report.data).data == report.data
        assert report.facts == Facts.from_probe(RECORDED)

    @pytest.mark.parametrize(
        ("key", "value", "left"),
        [
            ("addresses", {"address": NFT, "link": "eth0", "mtu": 1500}, []),
            ("addresses", {"address": "fe80::1%x; reboot", "link": "eth0", "mtu": 1500}, []),
            ("addresses", {"address": "192.0.2.1", "link": 'eth0"; }', "mtu": 1500}, []),
            ("addresses", {"address": "192.0.2.1", "link": "eth0", "mtu": 68}, []),
            ("addresses", {"address": "192.0.2.1", "link": "eth0"}, []),
            ("bridges", 'br0" accept; "', []),
            ("bridges", "a" * 16, []),
            ("routes", {"destination": "10.0.0.0/8; x", "link": "eth0", "via": None}, []),
            ("routes", {"destination": "default", "link": "eth0", "via": "fe80::1\nx"}, []),
            ("vnis", 2**24, []),
            ("vnis", True, []),
            ("ra_links", "../../x", []),
            ("missing", "openssh-server", []),
            ("distribution", "debian'; reboot", []),
            ("listeners", {"protocol": "sctp", "address": "0.0.0.0", "port": 1, "process": "x"}, []),
            ("docker_user", 5, []),
            ("docker_user", "4", []),
            ("missing_links", "vlan; reboot", []),
            ("absent_owners", {"owner": "root", "reference": "x", "problem": "y", "kept": False}, []),
            ("absent_owners", {"owner": "docker", "reference": "\x1b[2J", "problem": "y", "kept": False}, []),
        ],
    )
    def test_an_invalid_entry_is_dropped_and_named(self, key: str, value: Any, left: Any) -> None:
        report = read_probe("node1", {**RECORDED, key: [value]})
        assert report.data[key] == left
        assert f"{key}[0]" in report.warnings[0]

    def test_why_a_resolver_fails_is_one_of_the_words_for_it(self) -> None:
        said = {"192.0.2.1": "REFUSED", "192.0.2.2": "\x1b[2Jfine", "x": "silent", "192.0.2.3": ["silent"]}
        report = read_probe("node1", {**RECORDED, "failing_resolvers": said})
        assert report.facts and report.facts.failing_resolvers == {"192.0.2.1": "REFUSED"}
        assert len(report.warnings) == 3
        assert all(text.isprintable() for text in report.warnings)
        many = {f"192.0.2.{number}": "silent" for number in range(65)}
        assert read_probe("node1", {**RECORDED, "failing_resolvers": many}).data["failing_resolvers"] == {}

    def test_resolvers_and_settings_are_checked_too(self) -> None:
        settings = {"servers": ["9.9.9.9", "$(x)"], "search": ["a.b", "c\nnameserver 1"], "options": ["ndots:1", "; x"]}
        report = read_probe("node1", {**RECORDED, "resolvers": settings})
        assert report.data["resolvers"] == {"servers": ["9.9.9.9"], "search": ["a.b"], "options": ["ndots:1"]}

    def test_what_is_in_the_way_is_checked_too(self) -> None:
        foreign = {"link": ["eth0", "a" * 16], "namespace": ["c1", "x\n"], "nftables": ["inet cnm"], "user": ["root"]}
        occupied = {"c1": "sleep\x1b[2J (7)" * 99, "../c2": "x", "c3": 7}
        owners = [{"owner": "pid", "reference": "7", "kept": False, "problem": "\x1b]0;x\x07" * 999}]
        report = read_probe("node1", {**RECORDED, "foreign": foreign, "occupied": occupied, "absent_owners": owners})
        assert report.data["foreign"] == {"link": ["eth0"], "namespace": ["c1"], "nftables": ["inet cnm"]}
        assert list(report.data["occupied"]) == ["c1"]
        for said in (report.data["occupied"]["c1"], report.data["absent_owners"][0]["problem"]):
            assert said.isprintable()
            assert len(said) <= 500

    def test_displayed_texts_are_printable_and_short(self) -> None:
        report = read_probe("node1", {**RECORDED, "dropping": ["ip x \x1b[2J" + "y" * 10000]})
        (chain,) = report.data["dropping"]
        assert chain.isprintable()
        assert len(chain) <= 200
        report = read_probe("node1", {**RECORDED, "bridges": ["\x1b]0;x\x07" * 9] * 1000})
        assert all(sentence.isprintable() and len(sentence) < 400 for sentence in report.warnings)
        assert len(report.warnings) < 10
        kept = {**RECORDED["kept"], "declared": {"cnm_services": {"\x1b[2J" * 99: 7}}}
        refusal = read_probe("node1", {**RECORDED, "kept": kept}).refusal
        assert refusal.isprintable()
        assert len(refusal) < 600

    def test_all_that_a_host_says_of_its_drift_is_read(self) -> None:
        change = Operation("change", Sysctl("", "net.ipv4.ip_forward", "1"), None, (Difference("value", "1", "0"),))
        waiting = {"web": "no container web"}
        said = {"drift": reporting.report([change], waiting), "repairs": repairs([change], [], waiting)}
        report = read_probe("node1", {**RECORDED, **json.loads(json.dumps(said))})
        assert report.warnings == []
        assert {key: report.data[key] for key in said} == said
        assert [item["action"] for item in said["drift"]] == ["wait for", "change"]
        assert [item["text"] for item in said["repairs"]] == [
            "setting net.ipv4.ip_forward (value 0 → 1)",
            "sandbox web: no container web",
        ]

    @pytest.mark.parametrize("most", ["routes", "vnis"])
    def test_lists_are_limited(self, most: str) -> None:
        report = read_probe("node1", {**RECORDED, most: [1] * 1_000_001})
        assert report.refusal if most == "routes" else report.data["vnis"] == ()


class TestAnswers:
    def test_keys_that_ansible_acts_on_are_dropped(self) -> None:
        keys = {
            "ansible_facts": {"cnm_sandboxes": {}},
            "add_host": {"host_name": "x"},
            "add_group": "x",
            "ansible_stats": {"data": {"x": 1}},
            "_ansible_no_log": True,
            "results": [{"ansible_facts": {"x": 1}}],
            "invocation": {"module_args": {}},
        }
        for module in ("cnm.fabric.probe", "cnm.fabric.converge", "cnm.fabric.verify"):
            body = RECORDED if module == "cnm.fabric.probe" else {"operations": [], "misses": [], "counts": {}}
            result = admitted(module, "node1", {**body, **keys, "changed": False})
            assert not keys.keys() & result.keys()
            assert "node1: " in result["warnings"][0]

    def test_a_failure_keeps_its_message(self) -> None:
        failed = admitted("cnm.fabric.probe", "node1", {"failed": True, "msg": "reading networks needs root"})
        assert failed == {"failed": True, "msg": "reading networks needs root"}
        for module in ("probe", "converge", "verify"):
            assert "lacks" in admitted(f"cnm.fabric.{module}", "node1", {"": None})["msg"]
            assert admitted(f"cnm.fabric.{module}", "node1", {"failed": True, "msg": "x"})["msg"] == "x"
        assert admitted("cnm.fabric.converge", "node1", None)["failed"]
        assert "cannot be used" in admitted("cnm.fabric.probe", "node1", {"kept": 1})["msg"]

    def test_a_miss_is_shortened_and_never_dropped_for_what_was_found(self) -> None:
        told = {
            "sandbox": "c1",
            "check": "resolve",
            "target": "web",
            "wanted": "x" * 9000,
            "found": "\x1b\ud800\n" * 9000,
        }
        result = admitted("cnm.fabric.verify", "node1", {"misses": [told], "counts": {}})
        (miss,) = result["misses"]
        assert (len(miss["wanted"]), miss["found"][:3]) == (4096, "???")
        assert "warnings" not in result

    def test_facts_cannot_set_cnm_variables(self) -> None:
        facts = {"cnm_sandboxes": {}, "default_ipv4": {}, "inventory_dir": "/tmp/x", "fabric_plan": {}}
        assert forged(facts) == ["cnm_sandboxes", "inventory_dir"]
        assert forged(facts, ("fabric_plan",)) == ["cnm_sandboxes", "fabric_plan", "inventory_dir"]
        assert (forged(None), forged([]), forgery([])) == ([], [], None)

    def test_a_model_has_only_the_host_s_own_objects(self) -> None:
        model = read_probe("node1", RECORDED).data["kept"]["model"]
        assert own_model(model, "node1", "default") == model
        other = own_model(model, "node2", "default")
        assert {document["Name"] for document in other["networks"]} == {"multinet", "ingress"}
        assert not any(document["Containers"] or document["Peers"] for document in other["networks"])

    def test_an_invalid_model_is_dropped(self) -> None:
        model = copy.deepcopy(RECORDED["kept"]["model"])
        model["networks"][0]["Id"] = "\x1b[2J"
        model["services"]["redis"]["tasks"]["redis.99"] = {"weight": 1}
        model["services"]["redis"]["ports"].append({**model["services"]["redis"]["ports"][0], "target": [80]})
        kept = {**RECORDED["kept"], "model": model}
        report = read_probe("node1", {**RECORDED, "kept": kept})
        assert len(report.data["kept"]["model"]["networks"]) == len(model["networks"]) - 1
        assert len(report.data["kept"]["model"]["services"]["redis"]["ports"]) == 1
        assert "redis.99" not in report.data["kept"]["model"]["services"]["redis"]["tasks"]
        assert json.dumps(report.data)


def test_counts_of_another_form_are_dropped() -> None:
    right = {"passed": 7, "passed_bytes": 2**50, "dropped": 0, "dropped_bytes": 0}
    wrong = ({**right, "passed": "7"}, {**right, "dropped": -1}, {"passed": 7}, None, [7])
    counts = {f"c{number}": {"ingress": right, "egress": each} for number, each in enumerate(wrong)}
    counts |= {"good": {"ingress": right, "egress": right}, "\x1b[2J": {"ingress": right, "egress": right}}
    report = read_probe("node1", {**RECORDED, "policy_counts": counts})
    assert report.data["policy_counts"] == {"good": {"ingress": right, "egress": right}}
    assert report.warnings
    assert json.dumps(report.data)


def test_a_host_without_a_kept_plan_is_read() -> None:
    assert read_probe("node2", answer_of("node2")).warnings == []


def test_every_key_of_a_probe_has_a_form() -> None:
    """A key that is not in it would never reach the planner."""
    source = ast.parse(Path(reader.__file__).read_text(encoding="utf-8"))
    (function,) = (node for node in source.body if isinstance(node, ast.FunctionDef) and node.name == "probe")
    (answer,) = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    assert isinstance(answer, ast.Dict)
    keys = {key.value for key in answer.keys if isinstance(key, ast.Constant)}
    assert keys | {"settled", "seen", "drift", "repairs", "policy_counts"} == set(PROBE_KEYS)


def test_variables_can_be_read_without_facts(tmp_path: Path) -> None:
    """With the Ansible that is there: how it keeps facts is its own affair, and may change."""
    loader = DataLoader()
    (tmp_path / "hosts.yml").write_text("all: {hosts: {node3: {cnm_sandboxes: {good: {networks: ['{{ name }}']}}}}}")
    inventory = InventoryManager(loader=loader, sources=[str(tmp_path / "hosts.yml")])
    variables = VariableManager(loader=loader, inventory=inventory)
    hostvars = HostVars(inventory, variables, loader)
    variables.set_host_facts("node3", {"cnm_sandboxes": {"evil": {}}, "inventory_dir": "/tmp/evil", "name": "net"})
    assert list(hostvars["node3"]["cnm_sandboxes"]) == ["evil"]
    assert forged(hostvars["node3"]["ansible_facts"]) == ["cnm_sandboxes", "inventory_dir"]
    found = without_facts(hostvars, "node3")
    assert list(found["cnm_sandboxes"]) == ["good"]
    assert found["inventory_dir"] == str(tmp_path)
    assert list(hostvars["node3"]["cnm_sandboxes"]) == ["evil"]


def test_a_host_whose_nft_is_yet_to_be_installed_is_planned_as_one_that_has_it() -> None:
    # Else the first run would leave out the rules for bridged frames, which the second adds.
    answer = json.loads((Path(__file__).parents[2] / "answers" / "probe.json").read_text(encoding="utf-8"))
    for missing, filters in (["nft"], True), (["dnsmasq"], False):
        facts = read_probe("node1", {**answer, "filters_bridges": False, "missing": missing}).facts
        assert facts is not None and facts.filters_bridges is filters
