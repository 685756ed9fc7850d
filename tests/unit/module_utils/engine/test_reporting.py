# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What --diff shows: objects as lines, and of an object that changes only what differs."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.engine.reporting import diff, report
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Address, Fdb
from ansible_collections.cnm.fabric.plugins.module_utils.plan.encryption import Xfrm
from ansible_collections.cnm.fabric.plugins.module_utils.plan.frr import Frr
from ansible_collections.cnm.fabric.plugins.module_utils.plan.links import Link, Namespace
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File, Sysctl
from ansible_collections.cnm.fabric.plugins.module_utils.resources.base import Difference, Operation
from ansible_collections.cnm.fabric.plugins.module_utils.resources.frr import FrrKind

LINK = Link("c1", "eth0", "dummy", role="endpoint/front/c1", mtu=1500)
FORWARDING = Sysctl("", "net.ipv4.ip_forward", "1")


def test_created_and_removed_objects_are_a_line_each() -> None:
    entries = {f"02:42:00:00:00:{number:02x}": "192.0.2.1" for number in range(40)}
    made = [
        Operation("create", LINK),
        Operation("create", Address("c1", "eth0", "10.0.0.2/24")),
        Operation("create", Fdb("n", "vx", entries)),
        Operation("delete", Namespace("c2", "sandbox/c2")),
    ]
    assert diff(made) == {
        "before": "namespace c2  role=sandbox/c2\n",
        "after": "link c1/eth0  mtu=1500 role=endpoint/front/c1 type=dummy\n"
        "address c1/eth0/10.0.0.2/24\n"
        "fdb n/vx  entries=(40 entries)\n",
    }


def test_a_change_shows_what_only_one_side_has() -> None:
    sets = Difference("set peers", ["a", "b", "d"], ["a", "c"])
    files = Difference("hosts", "127.0.0.1 localhost\n10.0.0.2 c1\n", "127.0.0.1 localhost\n")
    changes = [
        Operation("change", FORWARDING, FORWARDING, (Difference("value", "1", "0"),)),
        Operation("change", File("/etc/netns/c1"), None, (sets, files)),
    ]
    assert diff(changes) == {
        "before": "sysctl net.ipv4.ip_forward\n  value: 0\nfile /etc/netns/c1\n  set peers: c\n",
        "after": "sysctl net.ipv4.ip_forward\n  value: 1\nfile /etc/netns/c1\n  set peers: b\n  set peers: d\n"
        "  hosts: 10.0.0.2 c1\n",
    }


def test_a_replacement_says_why() -> None:
    other = Operation("replace", LINK, LINK, (Difference("type", "dummy", "veth"),), ("type",))
    assert diff([other])["after"].endswith(
        "  type: dummy\n  recreated because the kernel cannot change the type of a link in place\n"
    )


def test_by_what_is_shown_nobody_can_try_secrets() -> None:
    item, other = (Frr(65000, "192.0.2.1", fingerprint=print_) for print_ in ("0badc0de", "deadbeef"))
    changes = FrrKind().differences(item, other)
    assert [each.attribute for each in changes] == ["fingerprint"]
    shown = str(
        [
            diff([Operation("create", item), Operation("change", item, other, tuple(changes))]),
            diff([Operation("create", Xfrm("192.0.2.1", epoch=1, fingerprint="0badc0de"))]),
            report([Operation("change", item, other, tuple(changes))]),
        ]
    )
    assert "frr" in shown
    assert "0badc0de" not in shown
    assert "deadbeef" not in shown


def test_what_was_found_is_made_printable() -> None:
    bad = Operation("change", FORWARDING, None, (Difference("value", "1", "0\x1b[2J\u202e"),))
    assert diff([bad])["before"] == "sysctl net.ipv4.ip_forward\n  value: 0\\x1b[2J\\u202e\n"
