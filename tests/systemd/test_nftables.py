# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""nftables.service flushes the ruleset at each start, stop and reload: our rules stay, and so do the user's."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flows import flowing, serving
from sampling import WHOLE
from systems import SUITES, Controller, System, systems

VARIABLES: dict[str, Any] = {
    "cnm_networks": {
        "front": {"subnet": "10.0.0.0/24"},
        "other": {"subnet": "10.0.2.0/24"},
        "back": {"subnet": "10.0.1.0/24", "internal": True},
    },
    "n1": {
        "cnm_sandboxes": {
            "c1": {"networks": ["front"], "ports": ["8080:80"]},
            "o1": {"networks": ["other"]},
            "b1": {"networks": ["back"]},
        }
    },
    "n2": {"cnm_sandboxes": {}},
}

RULES = "nft -s list table inet cnm; nft list table bridge cnm"
USER_RULE = "nft add rule inet cnm user_forward ip saddr 192.0.2.66 counter drop"
STARTED = "systemctl show --value -p InvocationID nftables"
TIMES = 50 if WHOLE else 5
"""How often each of restart and reload."""

FLOOD = """
import select, socket, sys
targets = [(address, 9999) for address in sys.argv[1:]]
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setblocking(False)
while not select.select([sys.stdin], [], [], 0.0002)[0]:
    for target in targets:
        try:
            sock.sendto(b"x", target)
        except OSError:
            pass
"""
"""Ends with its input."""

COUNT = "nft 'add table inet seen; delete table inet seen; add table inet seen; "
COUNT += "add chain inet seen i { type filter hook prerouting priority -400; }; "
COUNT += "add rule inet seen i udp dport 9999 counter'"


@pytest.fixture(scope="module", params=SUITES)
def found(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[System, System, Controller]]:
    """Two systems, the first with networks, and the controller."""
    folder = tmp_path_factory.mktemp("systems")
    with systems(folder, "n1", "n2", suite=request.param) as (one, other):
        # Restarts as many as the tests want, and no more of it: what is run stays as it is.
        one.write("/etc/systemd/system/nftables.service.d/aa.conf", "[Unit]\nStartLimitIntervalSec=0")
        one.sh("systemctl daemon-reload")
        controller = Controller(folder, one, other)
        controller.run("site", VARIABLES)
        # A neighbour that tries to reach sandboxes at their own addresses.
        other.until("ip route replace 10.0.0.0/16 via 192.168.77.1", 30)
        yield one, other, controller


def heard(system: System, sandbox: str) -> int:
    """Packets of the flood that a sandbox has got."""
    match = re.search(r"packets (\d+)", system.sh(f"ip netns exec {sandbox} nft list table inet seen"))
    assert match
    return int(match[1])


@contextlib.contextmanager
def flooded(system: System, neighbour: System, record: Any) -> Iterator[None]:
    """Inside the block both send what is forbidden, of which nothing is heard, and what is allowed: nothing is lost.

    Afterwards only our rules are there, as they were.
    """
    for box in ("c1", "o1", "b1"):
        system.sh(f"ip netns exec {box} {COUNT}")
    rules = system.sh(RULES)
    with contextlib.ExitStack() as allowed:
        allowed.enter_context(serving(system, "c1", 80))
        allowed.enter_context(serving(neighbour, "", 7))
        sender = system.popen("ip", "netns", "exec", "c1", "python3", "-c", FLOOD, "10.0.2.2", "10.0.1.2", stdin=-1)
        outside = neighbour.popen("python3", "-c", FLOOD, "10.0.0.2", "10.0.2.2", "10.0.1.2", stdin=-1)
        ping = system.popen("ping", "-i", "0.005", "-q", "10.0.0.2", stdout=-1)
        try:
            with (
                flowing(neighbour, "", "tcp", "192.168.77.1", 8080) as published,
                flowing(system, "c1", "udp", "192.168.77.2", 7) as masqueraded,
            ):
                yield
                assert [heard(system, box) for box in ("c1", "o1", "b1")] == [0, 0, 0]
                assert system.sh(RULES) == rules
            # The senders send and the counters count: without rules they are heard, but on the internal network.
            system.sh("nft flush ruleset")
            time.sleep(0.5)
            assert heard(system, "o1") and heard(system, "c1")
            assert heard(system, "b1") == 0
        finally:
            for process in (sender, outside):
                process.communicate()
            system.sh("systemctl reload cnm-rules; pkill -INT -x ping")
            summary = ping.communicate()[0]
    record("pings", summary.splitlines()[-2])
    for name, flow in (("published", published), ("masqueraded", masqueraded)):
        record(name, f"{flow.sent} sent, {flow.lost} lost, {flow.sent_again} sent again, {flow.longest:.3f} s between")
    # One connection and one translation all the time.
    assert (published.error, published.lost) == ("", 0)
    assert (masqueraded.error, len(masqueraded.said)) == ("", 1)
    assert masqueraded.said[0].startswith("192.168.77.1:")
    assert masqueraded.lost == 0
    assert " 0% packet loss" in summary
    assert system.sh(RULES) == rules


class TestReload:
    """In this order: what a later test wants was seen to work by an earlier one."""

    def test_no_forbidden_packet_passes_and_none_that_is_allowed_is_lost(
        self, found: tuple[System, System, Controller], record_property: Any
    ) -> None:
        system, neighbour, _controller = found
        system.sh(USER_RULE)
        with flooded(system, neighbour, record_property):
            started = time.monotonic()
            for verb in ("reload", "restart"):
                for _time in range(TIMES):
                    system.sh(f"systemctl {verb} nftables")
            record_property("seconds", time.monotonic() - started)

    def test_nor_in_an_upgrade_of_nftables_by_dpkg_which_restarts_the_service(
        self, found: tuple[System, System, Controller], record_property: Any
    ) -> None:
        system, neighbour, _controller = found
        package = system.newer("nftables")
        before = system.sh(STARTED)
        with flooded(system, neighbour, record_property):
            started = time.monotonic()
            said = system.sh(f"dpkg -i {package}")
            record_property("seconds", time.monotonic() - started)
            assert "table inet filter" in system.sh("nft list tables")
        assert "Unpacking nftables" in said and "Setting up nftables" in said
        assert system.sh(STARTED) != before
        assert system.sh("cnm status") == "project default: as planned\n"

    def test_what_was_flushed_by_hand_is_put_back_by_a_reload_of_our_own_unit(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, _controller = found
        system.sh("nft flush ruleset; systemctl reload cnm-rules")
        assert "192.0.2.66" in system.sh(RULES)

    def test_a_rule_of_the_users_outlives_stop_and_start_a_reboot_and_a_power_cut(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, controller = found
        rules = system.sh(RULES)
        system.sh("systemctl stop nftables; systemctl start nftables")
        assert system.sh(RULES) == rules
        system.reboot()
        assert system.sh(RULES) == rules
        controller.settled("n1", VARIABLES)
        system.kill()
        system.start()
        assert system.sh(RULES) == rules

    @pytest.mark.parametrize(
        "conf",
        [
            "table inet mine {{ chain c {{ }}\n }}",  # no flush
            "flush ruleset\ntable inet cnm {{ chain forward {{ type filter hook forward priority -1; }}\n }}",  # a dump
            'flush ruleset\ninclude "/etc/nftables.d/*.nft"\ndefine x = 10.0.0.0/8\n',
        ],
        ids=["no-flush", "a-dump-of-ours", "includes"],
    )
    def test_any_conf_is_loaded_as_it_stands_and_ours_beside_it(
        self, found: tuple[System, System, Controller], conf: str
    ) -> None:
        system, _neighbour, _controller = found
        rules = system.sh(RULES)
        system.sh("cp /etc/nftables.conf /root/nftables.conf")
        system.write("/etc/nftables.conf", conf.replace("{{", "{").replace("}}", "}"))
        for verb in ("reload", "restart"):
            system.sh(f"systemctl {verb} nftables")
            assert system.sh(RULES) == rules, verb
        system.sh("cp /root/nftables.conf /etc/nftables.conf; systemctl restart nftables")

    def test_a_conf_that_nft_refuses_fails_as_it_does_without_us_and_leaves_ours(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, _controller = found
        rules = system.sh(RULES)
        system.sh("cp /etc/nftables.conf /root/nftables.conf; echo nonsense >>/etc/nftables.conf")
        assert system.status("systemctl reload nftables") != 0
        assert system.sh(RULES) == rules
        system.sh("cp /root/nftables.conf /etc/nftables.conf; systemctl restart nftables")
        assert system.sh(RULES) == rules

    def test_rules_of_ours_that_nft_refuses_cost_the_host_none_of_its_own(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, _controller = found
        rules = system.sh(RULES)
        system.sh("cp /var/lib/cnm/default/rules.nft /root; echo nonsense >>/var/lib/cnm/default/rules.nft")
        system.sh("systemctl restart nftables")
        assert "table inet filter" in system.sh("nft list tables")
        system.until(f"[ \"$({RULES})\" = '{rules.strip()}' ]")  # by the unit that follows
        system.sh("cp /root/rules.nft /var/lib/cnm/default/")

    def test_what_a_warning_advises_instead_of_a_flush_is_loaded_as_it_stands_and_leaves_ours(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, controller = found
        by_hand = {**VARIABLES, "cnm_boot": False}
        warning = r"/etc/nftables\.conf has `flush ruleset`.*? Write `([^`]*)` for each of its tables instead"
        advice = re.search(warning, " ".join(controller.run("site", by_hand).output.split()))
        assert advice
        rules = system.sh(RULES)
        system.sh("cp /etc/nftables.conf /root/nftables.conf")
        conf = f"{system.sh('cat /etc/nftables.conf')}\ntable inet mine {{\n\tset s {{ type ipv4_addr; }}\n}}\n"
        advised = "\n".join(advice[1].replace("NAME", name) for name in re.findall(r"^table inet (\w+)", conf, re.M))
        conf, count = re.subn(r"^flush ruleset$", advised, conf, flags=re.M)
        assert count == 1
        system.write("/etc/nftables.conf", conf)
        for load in ("nft -f /etc/nftables.conf", "nft -f /etc/nftables.conf", "systemctl reload nftables"):
            system.sh(load)
            assert system.sh(RULES) == rules, load
            assert system.sh("nft list tables").split("\n").count("table inet filter") == 1
            assert system.sh("nft list table inet filter").count("hook forward") == 1
            assert system.sh("nft list table inet mine").count("set s") == 1
        assert "flush ruleset" not in controller.run("site", by_hand).output
        system.sh("cp /root/nftables.conf /etc/nftables.conf; nft delete table inet mine")
        controller.run("site", VARIABLES)
        assert system.sh(RULES) == rules

    def test_a_service_that_somebody_has_changed_is_followed_instead(
        self, found: tuple[System, System, Controller]
    ) -> None:
        system, _neighbour, controller = found
        rules = system.sh(RULES)
        system.write(
            "/etc/systemd/system/nftables.service.d/zz.conf",
            "[Service]\nExecReload=\nExecReload=/bin/sh -c 'nft -f /etc/nftables.conf'",
        )
        system.sh("systemctl daemon-reload")
        assert controller.run("site", VARIABLES).changed("n1")
        assert system.status("test -e /etc/systemd/system/nftables.service.d/cnm.conf")
        for verb in ("reload", "restart"):
            system.sh(f"systemctl {verb} nftables")
            system.until(f"[ \"$({RULES})\" = '{rules.strip()}' ]")

    def test_a_teardown_leaves_the_service_as_it_was(self, found: tuple[System, System, Controller]) -> None:
        system, _neighbour, controller = found
        system.sh("rm /etc/systemd/system/nftables.service.d/zz.conf; systemctl daemon-reload")
        controller.run("site", VARIABLES)
        assert "/var/lib/cnm" in system.sh("systemctl show -p ExecReload nftables")
        controller.run("teardown", VARIABLES)
        assert system.status("test -e /etc/systemd/system/nftables.service.d/cnm.conf")
        assert "/var/lib/cnm" not in system.sh("systemctl show -p ExecReload nftables")
        system.sh("systemctl restart nftables")
