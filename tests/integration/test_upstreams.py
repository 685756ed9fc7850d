# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which of a host's upstream resolvers resolve nothing, asked of real ones."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

from asking import Upstream
from host import on_a_host, run_command, sh
from waiting import until

from ansible_collections.cnm.fabric.plugins.module_utils import entrypoints
from ansible_collections.cnm.fabric.plugins.module_utils.plan.constants import RESOLVER_FAILURES
from ansible_collections.cnm.fabric.plugins.module_utils.probe.upstreams import PATIENCE_S, failing

FIRST, SECOND, THIRD, SIXTH = "192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8:53::1"
FAR = "203.0.113.53"
"""There is no route to it."""


def address(*places: str) -> None:
    for place in places:
        sh(f"ip address add {place}/{128 if ':' in place else 32} dev lo nodad")


def refusing(place: str, *options: str) -> None:
    """A dnsmasq that has no server to forward to, and so refuses what it does not know."""
    address(place)
    sh(
        f"dnsmasq --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --user=root --listen-address={place} "
        f"--pid-file=/run/refusing-{place}.pid {' '.join(options)}"
    )


@contextlib.contextmanager
def answering(place: str, *datagrams: bytes, pause: float = 0) -> Iterator[None]:
    """A server that sends these for each question; IDID stands for the question's identifier."""
    address(place)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((place, 53))

        def work() -> None:
            with contextlib.suppress(OSError):
                while True:
                    query, sender = opened.recvfrom(512)
                    if not query:
                        return
                    for data in datagrams:
                        opened.sendto(data.replace(b"IDID", query[:2]), sender)
                        time.sleep(pause)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it wakes the thread all the same
                opened.shutdown(socket.SHUT_RDWR)
            thread.join()


@on_a_host
def test_of_each_that_resolves_nothing_there_is_a_reason_within_a_second() -> None:
    refusing(FIRST)
    address(SECOND, THIRD, SIXTH)
    with Upstream(SECOND, code="SERVFAIL").serving(), Upstream(SIXTH, silent=True).serving() as silent:
        started = time.monotonic()
        found = failing([FIRST, SECOND, THIRD, FAR, SIXTH, FIRST, "127.0.0.53", "fe80::1"], [])
        took = time.monotonic() - started
    words = dict(zip(("REFUSED", "SERVFAIL", "unreachable", "silent"), RESOLVER_FAILURES, strict=True))
    assert found == {
        FIRST: words["REFUSED"],
        SECOND: words["SERVFAIL"],
        THIRD: words["unreachable"],
        FAR: words["unreachable"],
        SIXTH: words["silent"],
    }
    assert silent.asked == [("", "NS"), ("", "NS")]
    assert PATIENCE_S <= took < PATIENCE_S + 0.3


@on_a_host
def test_one_that_answers_is_enough_and_nothing_else_is_waited_for() -> None:
    address(FIRST, SECOND)
    with Upstream(FIRST, silent=True).serving() as silent, Upstream(SECOND).serving() as fine:
        started = time.monotonic()
        assert failing([FIRST, SECOND], ["corp.example"]) == {}
        assert time.monotonic() - started < 0.3
        assert fine.asked == [("", "NS")]
        until(lambda: silent.asked)  # its thread may not have run yet
        assert len(silent.asked) == 1


@on_a_host
def test_refusals_and_errors_of_all_are_known_at_once() -> None:
    refusing(FIRST)
    address(SECOND)
    started = time.monotonic()
    assert failing([FIRST, SECOND], ["corp.example"]) == {FIRST: "REFUSED", SECOND: "unreachable"}
    assert time.monotonic() - started < 0.3
    assert failing([], []) == failing(["127.0.0.1"], []) == {}


@on_a_host
def test_one_that_a_router_says_is_unreachable_is_known_at_once() -> None:
    sh(
        "ip netns add router; ip link add up0 type veth peer name down0 netns router; "
        "ip address add 10.0.0.2/24 dev up0; ip link set up0 up; ip -n router address add 10.0.0.1/24 dev down0; "
        "ip -n router link set down0 up; ip netns exec router sysctl -q -w net.ipv4.ip_forward=1; "
        f"ip -n router route add unreachable {FAR}/32; ip route add default via 10.0.0.1"
    )
    started = time.monotonic()
    assert failing([FAR], []) == {FAR: "unreachable"}
    assert time.monotonic() - started < 0.3


@on_a_host
def test_one_that_serves_only_the_hosts_own_domain_answers() -> None:
    refusing(FIRST, "--local=/corp.example/")
    assert failing([FIRST], ["corp.example."]) == {}
    assert failing([FIRST], ["other.example"]) == {FIRST: "REFUSED"}
    for no_name in (".", "a..b", "é.example", "x" * 64, "a." * 127 + "a"):
        assert failing([FIRST], [no_name]) == {FIRST: "REFUSED"}


@on_a_host
def test_what_is_no_answer_is_passed_over_and_does_not_prolong_it() -> None:
    others = (b"", b"x", b"IDID\x80", b"\xff\xff\x80\x00", b"IDID\x01\x00", b"\0" * 400)
    with answering(FIRST, *others):
        assert failing([FIRST], []) == {FIRST: "silent"}
    with answering(SECOND, *others, b"IDID\x81\x85"):
        assert failing([SECOND], []) == {SECOND: "REFUSED"}
    with answering(THIRD, *[b"\xff\xff\x80\x00"] * 4000, pause=0.001):
        started = time.monotonic()
        assert failing([THIRD], []) == {THIRD: "silent"}
        assert time.monotonic() - started < PATIENCE_S + 0.3


@on_a_host
def test_a_probe_asks_only_if_it_is_told_to() -> None:
    refusing(FIRST)
    sh(f"echo nameserver {FIRST} >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf")
    assert entrypoints.probe("default", False, False, run_command)["failing_resolvers"] == {}
    found = entrypoints.probe("default", False, False, run_command, ask_resolvers=True)["failing_resolvers"]
    assert found == {FIRST: "REFUSED"}
