# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""A host brings its networks back from the plan it keeps, without a controller."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from host import (
    BGP_PASSWORD,
    LARGE,
    a_plan,
    differing,
    on_a_host,
    run_command,
    sh,
    snapshot,
    the_same,
    works,
)

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.hostd import cli
from ansible_collections.cnm.fabric.plugins.module_utils.hostd.restore import (
    Restoration,
    Restored,
    last_failures,
)
from ansible_collections.cnm.fabric.plugins.module_utils.hostd.rules import keep_rules, keep_user_rules
from ansible_collections.cnm.fabric.plugins.module_utils.plan.base import PlanError, Resource
from ansible_collections.cnm.fabric.plugins.module_utils.plan.esp import Way
from ansible_collections.cnm.fabric.plugins.module_utils.plan.frr import Frr
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Boot
from ansible_collections.cnm.fabric.plugins.module_utils.state.kept import State

RUN = Path("/run/cnm/default")


def site() -> list[str]:
    """A controller's run: what it did."""
    made = a_plan(LARGE)
    result = entrypoints.converge(entrypoints.Request("default", made.to_json(), digest=made.digest), run_command)
    return [f"{item['action']} {item['kind']} {item['name']}" for item in result["operations"]]


def restore(rules_only: bool = False) -> Restored:
    return Restoration("default", run_command, "").run(rules_only)


def lose_everything() -> None:
    """What a reboot takes: the kernel's objects, processes and /run."""
    for path in RUN.glob("resolvers/*.pid"):
        sh(f"kill -9 {path.read_text(encoding='utf-8').split()[0]}")
    sh("ip -all netns delete")
    sh("for link in $(ls /sys/class/net); do ip link del $link 2>/dev/null || true; done")
    sh("nft flush ruleset; rm -rf /run/cnm /run/netns/*; sysctl -qw net.ipv4.ip_forward=0")
    sh(r"for rule in $(ip rule show | sed -n 's/:.*proto 137.*//p'); do ip rule del priority $rule; done")


def host_as_it_is() -> dict[str, Any]:
    """A snapshot without who held the lock last."""
    return {key: value for key, value in snapshot().items() if key != "/run/cnm/lock.json"}


def parts(result: Restored) -> set[str]:
    return set(result.changed)


@on_a_host
def test_everything_is_back_as_it_was_and_a_run_afterwards_changes_nothing() -> None:
    site()
    before = host_as_it_is()
    lose_everything()
    assert differing(before, host_as_it_is())
    result = restore()
    assert result.failed == {}
    assert {"the rules of the host", "network front", "sandbox c1", "network back in sandbox c2"} <= parts(result)
    the_same(before, host_as_it_is(), "after a restore")
    works([("c1", "c2", "10.0.1.3")])
    assert site() == []
    assert parts(restore()) == set()


@on_a_host
def test_a_network_that_cannot_be_restored_keeps_nothing_else_from_it() -> None:
    site()
    before = host_as_it_is()
    lose_everything()
    sh("ip link add br-apart type bridge")
    result = restore()
    assert set(result.failed) == {"network apart", "network apart in sandbox c3"}
    assert "br-apart" in result.failed["network apart"]
    assert result.failed["network apart in sandbox c3"] == "needs network apart, which could not be restored"
    assert last_failures("default") == result.failed
    works([("c1", "c2", "10.0.1.3")])
    assert sh("ip -n c3 -br link").split()[0] == "lo"
    sh("ip link del br-apart")
    result = restore()
    assert result.failed == last_failures("default") == {}
    assert parts(result) == {"network apart", "network apart in sandbox c3"}
    the_same(before, host_as_it_is(), "after another restore")
    assert site() == []


@on_a_host
def test_nothing_is_brought_up_without_the_rules_that_guard_it() -> None:
    site()
    lose_everything()
    sh("nft add table inet cnm")
    result = restore()
    assert "inet cnm" in result.failed["the rules of the host"]
    assert result.failed["sandbox c1"] == "needs the rules of the host, which could not be restored"
    assert result.changed == {}
    assert sh("ip netns list") == ""


@on_a_host
def test_rules_that_were_flushed_come_back_alone() -> None:
    site()
    before = host_as_it_is()
    sh("nft flush ruleset; ip netns delete c4")
    assert parts(restore(rules_only=True)) == {"the rules of the host"}
    now = host_as_it_is()
    assert now[": rules"] == before[": rules"]
    assert not [key for key in now if key.startswith("c4:")]
    assert parts(restore()) == {"sandbox c4"}


@on_a_host
def test_the_kept_rules_replace_whatever_tables_of_their_names_there_are() -> None:
    site()
    before = host_as_it_is()[": rules"]
    keep_rules("default", a_plan(LARGE).resources)
    file = Path("/var/lib/cnm/default/rules.nft")
    sh(f"nft flush ruleset; nft -f {file}")
    assert host_as_it_is()[": rules"] == before
    assert parts(restore()) == set()
    # A dump in a file of the distribution's may have an older one of them.
    sh("nft add rule inet cnm forward accept; nft delete table bridge cnm; nft -f " + str(file))
    assert host_as_it_is()[": rules"] == before
    keep_rules("default", [item for item in a_plan(LARGE).resources if not isinstance(item, Boot)])
    assert not file.exists()


@on_a_host
def test_kept_rules_that_somebody_has_removed_are_missed_and_written_anew() -> None:
    site()
    file = Path("/var/lib/cnm/default/rules.nft")
    before = file.read_text(encoding="utf-8")
    file.unlink()
    assert site() == ["change boot host"]
    assert file.read_text(encoding="utf-8") == before
    file.unlink()
    restore(rules_only=True)
    assert file.read_text(encoding="utf-8") == before
    assert site() == []


USER_RULES = "add set inet cnm user_set { type ipv4_addr; }; add element inet cnm user_set { 192.0.2.7 }; "
USER_RULES += "add rule inet cnm user_forward ip saddr @user_set counter drop"


def user_rules() -> str:
    return sh("nft -s list chain inet cnm user_forward; nft list set inet cnm user_set || :")


@on_a_host
def test_what_the_user_has_in_the_chain_of_his_own_comes_back_with_the_table() -> None:
    site()
    sh(f"nft '{USER_RULES}'")
    before = user_rules()
    assert "192.0.2.7" in before
    keep_user_rules("default", run_command)
    assert Path("/var/lib/cnm/default/user.nft").stat().st_mode & 0o777 == 0o600
    sh("nft flush ruleset")
    assert "the rules of the host" in parts(restore())
    assert user_rules() == before
    assert site() == site() == []  # the second does not read the table again
    assert "192.0.2.7" in Path("/var/lib/cnm/default/user.nft").read_text(encoding="utf-8")
    sh("nft flush chain inet cnm user_forward; nft delete set inet cnm user_set")
    site()  # any run that reads the table
    assert not Path("/var/lib/cnm/default/user.nft").exists()


@on_a_host
def test_user_rules_that_cannot_be_loaded_keep_nothing_else_from_coming_back() -> None:
    site()
    sh("nft add rule inet cnm user_forward accept")
    keep_user_rules("default", run_command)
    sh("sed -i 's/accept/nonsense/' /var/lib/cnm/default/user.nft; nft flush ruleset")
    result = restore()
    assert result.failed == {}
    assert "user's chains could not be loaded" in "".join(result.warnings)


@on_a_host
def test_a_host_that_keeps_no_plan_says_so() -> None:
    with pytest.raises(PlanError, match=r"no plan is kept.* run cnm\.fabric\.site"):
        restore()


def command(*words: str) -> tuple[int, str]:
    """The exit status of the command and what it prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        return cli.main(words), said.getvalue()


@on_a_host
def test_the_command_says_what_there_is_and_what_is_not_as_planned() -> None:
    site()
    status, said = command("ls")
    assert status == 0
    assert ["front", "bridge", "local", "10.0.0.0/24", "1"] in [line.split()[1:] for line in said.splitlines()]
    status, said = command("ps")
    (line,) = [line for line in said.splitlines() if line.startswith("c1 ")]
    assert line.split() == ["c1", "up", "front", "10.0.0.2/24,", "back", "10.0.1.2/24"]
    document = json.loads(command("inspect", "front")[1])
    assert [item["Name"] for item in document[0]["Containers"].values()] == ["c1"]
    identifier = str(document[0]["Id"])
    assert json.loads(command("inspect", identifier[:12])[1]) == document
    assert [item["name"] for item in json.loads(command("inspect", "c1")[1])] == ["c1"]
    assert command("inspect", "frnt") == (1, "cnm: this host has no network or sandbox frnt: did you mean front?\n")
    assert command("network", "ls") == command("ls")
    assert "c1" in command("ps", "-aq")[1].split()
    assert command("ps", "-q", "c2")[1] == "c2\n"
    assert command("names", "networks")[1] == command("ls", "-q")[1]
    assert command("exec", "sea1", "id") == (1, "cnm: this host has no sandbox sea1: cnm ps lists what there is\n")
    sh("ip -n c1 link set eth0 down")
    status, said = command("status")
    assert (status, "  network front in sandbox c1 differs: link eth0 of c1 on front (down)" in said) == (1, True)
    assert "restored network front in sandbox c1" in command("restore", "--project", "default")[1]
    assert json.loads(command("status", "--json")[1]) == {"default": {"drift": [], "not_restored": {}, "dropped": []}}
    assert command("ls", "--project", "other")[1].startswith("cnm: this host keeps no plan of project other")


@on_a_host
def test_keys_are_kept_for_root_alone_and_forgotten_when_they_may_not_be() -> None:
    state = State("default")
    keys = {Way(1, "192.0.2.1", "192.0.2.2"): b"k" * 20}
    state.keep_keys(keys)
    assert state.pair_keys == keys
    assert state.keeps_keys({})
    assert state.keeps_keys(keys)
    assert not state.keeps_keys({Way(2, "192.0.2.1", "192.0.2.2"): b"k" * 20})
    file = Path("/var/lib/cnm/default/keys/keys.json")
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    state.forget_keys()
    assert not state.keeps_keys({})
    assert not file.parent.exists()


@on_a_host
def test_of_keys_and_password_those_are_kept_that_the_plan_needs() -> None:
    state = State("default")
    state.keep_keys({Way(1, "192.0.2.1", "192.0.2.2"): b"k" * 20}, BGP_PASSWORD)

    def run(*resources: Resource, **given: str) -> tuple[dict[Way, bytes], str, bool]:
        made = Plan("h1", "default", resources=[Boot(keep_keys=True), *resources])
        request = entrypoints.Request("default", made.to_json(), digest=made.digest, **given)
        entrypoints.converge(request, run_command)
        return state.pair_keys, state.bgp_password, state.keeps_keys({})

    frr = Frr(65000, "127.0.0.1", ("192.0.2.2",), namespace="ov")
    assert run(Namespace("ov", role="overlays/evpn"), frr, bgp_password=BGP_PASSWORD) == ({}, BGP_PASSWORD, True)
    assert run() == ({}, "", True)
