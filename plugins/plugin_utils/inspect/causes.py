# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Groups failed checks of all hosts by the smallest cause that explains them.  Pure.

Explanations are tried one after the other, those with evidence of the kernel first, and each takes the misses that it
explains.  So each miss is told once.  A host's evidence counts for that host alone.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from .case import SITE, Case, Cause, few, packet_words
from .drift_causes import as_not_planned, without_plan
from .ends import GATEWAY, SANDBOX, SERVICE
from .findings import Box, Drop, Findings, Miss
from .health import natural

_LOOK_AT_RULES = "look for rules that drop {}: nft list ruleset"


def causes_of(findings: Mapping[str, Findings], unasked: Mapping[str, str]) -> list[Cause]:
    """The causes of all misses, those that explain most first; ``unasked`` are hosts that gave no answer, and why."""
    case = Case(findings, unasked)
    found = [cause for explain in _OF_PLACES for cause in explain(case)]
    found = [_with_services(case, cause) for cause in found]
    found += [cause for explain in _OF_CHECKS for cause in explain(case)]
    return sorted(found, key=lambda cause: -len(cause.misses))


def _unasked(case: Case) -> Iterator[Cause]:
    for host, why in sorted(case.unasked.items()):
        found = case.take(miss for miss in case.left if host in miss.hosts or _is_port_of(miss, host))
        text = f"{host} could not be verified: {why}"
        yield Cause(text, found, "", "make it reachable and verify again", frozenset({host}))


def _is_port_of(miss: Miss, host: str) -> bool:
    return miss.check == "connect" and miss.end is not None and miss.end.host == host


def _port(miss: Miss) -> str:
    return miss.target.rpartition(" ")[2]


def _drops(drop: Drop, whose: str = "its") -> str:
    return f"{whose} firewall {'drops' if drop.sure else 'may drop'} {packet_words(drop)} (chain {drop.chain})"


def _let_pass(drop: Drop, whom: str = "") -> str:
    known = next((name for name in ("ufw", "firewalld") if name in drop.chain), "")
    more = f"; docs/firewalls.md has the commands of {known}" if known else ""
    return f"let {packet_words(drop)}{f' from {whom}' if whom else ''} pass there{more}"


def _dropped_between_hosts(case: Case, sure: bool) -> Iterator[Cause]:
    """Hosts whose rules drop (or may drop) what overlays are carried in, and whom other hosts do not reach."""
    for host in case.findings:
        drop = case.drop(host, "udp", "esp")
        if drop is None or drop.sure is not sure:
            continue
        pairs = {miss.hosts for miss in case.of("reach") if host in miss.hosts and miss.hosts in case.dead_pairs}
        if not pairs:
            continue
        found = case.take(miss for miss in case.of("reach", "mtu") if miss.hosts in pairs)
        others = sorted({name for pair in pairs for name in pair} - {host}, key=natural)
        alone = set(others) == case.partners(host)
        what = "answers nobody" if alone else f"and {few(others)} do not reach each other"
        whose = "its" if alone else f"{host}'s"
        remedy = _let_pass(drop, few(case.vtep(name) or name for name in others))
        yield Cause(
            f"{host} {what} by {_tunnel(found)}: {_drops(drop, whose)}",
            found,
            f"rule: {drop.rule}",
            remedy,
            frozenset({host, *others}),
        )


def _dropped_at_the_host(case: Case) -> Iterator[Cause]:
    """Hosts whose rules drop echo requests of sandboxes to their gateways, or connections to ports of services."""
    for host in (host for host, item in case.findings.items() if item.drops):
        drop = case.drop(host, "icmp", "ipv6-icmp")
        missed = [miss for miss in case.of("reach") if miss.end and miss.end.kind == GATEWAY and miss.end.host == host]
        if drop is not None and missed:
            text = f"{host} does not answer its own sandboxes: {_drops(drop)}"
            remedy = _let_pass(drop, "its bridges")
            yield Cause(text, case.take(missed), f"rule: {drop.rule}", remedy, frozenset({host}))
        for port in sorted({_port(miss) for miss in case.of("connect") if _is_port_of(miss, host)}):
            drop = case.drop(host, f"tcp {port}", forwarded=True)
            if drop is not None:
                found = case.take(m for m in case.of("connect") if _is_port_of(m, host) and _port(m) == port)
                text = f"port {port} of {host} does not answer: {_drops(drop)}"
                yield Cause(text, found, f"rule: {drop.rule}", _let_pass(drop), frozenset({host}))


class _Suspect(NamedTuple):
    """A host or a sandbox (else "") of which nothing arrived that was tried, and where its misses are in a list."""

    rank: int
    host: str
    sandbox: str
    places: list[int]


def _answering_nobody(case: Case) -> Iterator[Cause]:
    """Hosts and sandboxes of which nothing arrived that was tried: who explains most, one after the other."""
    misses = case.of("reach", "mtu")
    suspects = [*_dead_hosts(case, misses), *_dead_sandboxes(case, misses)]
    order = [(-len(item.places), -item.rank, number) for number, item in enumerate(suspects)]
    heapq.heapify(order)
    explained: set[int] = set()
    boxes: dict[str, dict[str, list[Miss]]] = {}
    while order:
        count, rank, number = heapq.heappop(order)
        suspect = suspects[number]
        left = [place for place in suspect.places if place not in explained]
        if left and len(left) < -count:
            heapq.heappush(order, (-len(left), rank, number))
        elif left:
            explained.update(left)
            found = tuple(misses[place] for place in left)
            if suspect.sandbox:
                boxes.setdefault(suspect.host, {})[suspect.sandbox] = list(found)
            else:
                yield _dead_host(case, suspect.host, found)
    case.take(misses[place] for place in explained)
    for host, each in boxes.items():
        yield _dead_boxes(host, each)


def _dead_hosts(case: Case, misses: Sequence[Miss]) -> Iterator[_Suspect]:
    places: dict[frozenset[str], list[int]] = {}
    for place, miss in enumerate(misses):
        if miss.hosts in case.dead_pairs:
            places.setdefault(miss.hosts, []).append(place)
    pairs: dict[str, list[frozenset[str]]] = {}
    for pair in case.dead_pairs:
        for host in pair:
            pairs.setdefault(host, []).append(pair)
    for host in sorted(pairs, key=natural):
        if len(pairs[host]) == len(case.partners(host)) > 1:
            rank = 2 if case.who_misses_a_ping(host) else 0
            yield _Suspect(rank, host, "", [place for pair in pairs[host] for place in places.get(pair, ())])


def _dead_host(case: Case, host: str, found: tuple[Miss, ...]) -> Cause:
    address, askers = case.vtep(host), case.who_misses_a_ping(host)
    if askers:
        text = f"{host} answers nobody, neither by {_tunnel(found)} nor a ping to {address}"
        remedy = f"look at its link and routes, and at what is between: ping {address} from {askers[0]}"
    else:
        text = f"{host} answers nobody by {_tunnel(found)}, though {address} answers a ping"
        remedy = _look_between(found, host, "the others", address)
    return Cause(text, found, "", remedy, frozenset({host}) | case.partners(host))


def _tunnel(misses: Iterable[Miss]) -> str:
    return few({miss.tunnel for miss in misses})


def _look_between(misses: Iterable[Miss], one: str, other: str, address: str) -> str:
    where = f"between {one} and {other} (a cloud's security group, a firewall in between)"
    return f"find what drops {_tunnel(misses)} {where}: tcpdump -ni any host {address}"


def _dead_sandboxes(case: Case, misses: Sequence[Miss]) -> Iterator[_Suspect]:
    missed: Counter[Box] = Counter()
    for item in case.findings.values():
        for miss in item.misses:
            if miss.check == "reach":
                missed.update(box for box in (miss.source, miss.other) if box is not None)
    places: dict[Box, list[int]] = {}
    for place, miss in enumerate(misses):
        for box in (miss.source, miss.other) if miss.check == "reach" else ():
            if box is not None and missed[box] >= case.tried.at[box] > 1:
                places.setdefault(box, []).append(place)
    for box, found in sorted(places.items()):
        yield _Suspect(1, *box, found)


def _dead_boxes(host: str, found: Mapping[str, Sequence[Miss]]) -> Cause:
    """The sandboxes of a host of which nothing arrived, and the misses that each explains."""
    many = len(found) > 1
    text = f"{host}: {few(found)} reach{'' if many else 'es'} nobody and nobody reaches {'them' if many else 'it'}"
    first = min(found, key=natural)
    remedy = f"look at its routes and rules: cnm exec {first} ip route; cnm exec {first} nft list ruleset"
    evidence = _errors(miss for name, misses in found.items() for miss in misses if miss.source == (host, name))
    return Cause(text, tuple(m for misses in found.values() for m in misses), evidence, remedy, frozenset({host}))


def _errors(misses: Iterable[Miss]) -> str:
    """Why the kernel sent nothing, if it said so."""
    errors = {miss.found for miss in misses} - {"none"}
    return f"the kernel says: {few(errors)}" if errors else ""


def _between_hosts(case: Case) -> Iterator[Cause]:
    for found in case.grouped("reach", lambda miss: miss.hosts):
        pair = found[0].hosts
        one, other = sorted(pair, key=natural)
        what = "do not reach each other" if pair in case.dead_pairs else "lose packets"
        silent = [name for name in (one, other) if {one, other} & set(case.who_misses_a_ping(name))]
        addresses = ", ".join(f"{name} at {case.vtep(name)}" for name in silent)
        evidence = f"no answer to a ping: {addresses}" if silent else ""
        remedy = _look_between(found, one, other, case.vtep(other))
        yield Cause(f"{one} and {other} {what} by {_tunnel(found)}", found, evidence, remedy, pair)


def _with_services(case: Case, cause: Cause) -> Cause:
    """The cause, also of the misses at virtual addresses and ports that are balanced among tasks it is about."""
    lost = [miss for miss in cause.misses if miss.check == "reach" and miss.other is not None]
    boxes = {box for miss in lost for box in (miss.source, miss.other)}
    cut = {name for name, tasks in case.tasks.items() if tasks & boxes}
    found = case.take(miss for miss in case.left if not cut.isdisjoint(_services_at(case, miss))) if cut else ()
    return replace(cause, misses=(*cause.misses, *found)) if found else cause


def _services_at(case: Case, miss: Miss) -> Collection[str]:
    """The services that answer at the virtual address or the port that was tried."""
    if miss.check == "connect":
        return case.services_at.get(_port(miss), ())
    return (miss.end.name,) if miss.check == "reach" and miss.end is not None and miss.end.kind == SERVICE else ()


def _unreached(case: Case) -> Iterator[Cause]:
    for found in case.grouped("reach", _whom):
        yield _locally(found)


def _whom(miss: Miss) -> tuple[str, str, str]:
    """By what misses without a tunnel are grouped: kind, host ("" if it is not of one host) and name."""
    if miss.end is None:
        return "", miss.host, miss.target
    kind, name, host, network = miss.end
    return kind, host if host == miss.host else "", network if kind == SANDBOX else name


def _locally(found: Sequence[Miss]) -> Cause:
    kind, host, name = _whom(found[0])
    if kind == SERVICE:
        text = f"the virtual address of service {name} does not answer {few(miss.sandbox for miss in found)}"
        remedy = "cnm ps on a host shows its tasks; look at the routes of who misses it"
    elif kind == GATEWAY:
        text = f"{host}: its address on network {name} does not answer its sandboxes"
        remedy = _LOOK_AT_RULES.format("echo requests to the host")
    elif kind == SANDBOX:
        text = f"{host}: " if host else ""
        text += f"sandboxes of network {name} do not reach each other"
        remedy = _LOOK_AT_RULES.format("bridged or forwarded packets")
    else:
        text, remedy = f"{host}: {name} does not answer", "look at the routes of the sandboxes"
    return Cause(text, tuple(found), _errors(found), remedy, frozenset(miss.host for miss in found))


def _too_large(case: Case) -> Iterator[Cause]:
    for found in case.grouped("mtu", lambda miss: miss.hosts or miss.host):
        pair = sorted(found[0].hosts or {found[0].host}, key=natural)
        where = f"between {' and '.join(pair)}" if len(pair) > 1 else f"on {pair[0]}"
        remedy = "lower com.docker.network.driver.mtu of the network, or raise the MTU of the links in between"
        yield Cause(f"packets as large as the MTU are lost {where}", found, "", remedy, frozenset(pair))


def _unresolved(case: Case) -> Iterator[Cause]:
    if not case.of("resolve"):
        return
    asked = {
        (item.host, check["sandbox"]): len(check["names"])
        for item in case.findings.values()
        for check in item.checks
        if check["sandbox"]
    }
    silent = Counter(miss.source for miss in case.of("resolve") if miss.found == "no answer")
    dead = {box for box, number in silent.items() if number >= asked.get(box, 0)}
    for host in sorted({host for host, _name in dead}, key=natural):
        found = case.take(miss for miss in case.of("resolve") if miss.host == host and miss.source in dead)
        names = {miss.sandbox for miss in found}
        what = "resolvers of {} answer" if len(names) > 1 else "resolver of {} answers"
        text = f"{host}: the {what.format(few(names))} nothing"
        remedy = "the process runs: look at the sandbox's rules for 127.0.0.11, and whether dnsmasq is stopped"
        yield Cause(text, found, "", remedy, frozenset({host}))
    for found in case.grouped("resolve", lambda miss: (miss.target, miss.wanted, miss.found)):
        name, wanted, answer = found[0].target, found[0].wanted, found[0].found
        how = f"resolves to {answer} instead of" if answer != "no answer" else "does not resolve; it should resolve to"
        hosts = frozenset(miss.host for miss in found)
        remedy = SITE.format(",".join(sorted(hosts)))
        yield Cause(f"the name {name} {how} {wanted}", found, "", remedy, hosts)


def _open(case: Case) -> Iterator[Cause]:
    for found in case.grouped("refuse", lambda miss: (miss.host, miss.end.network if miss.end else miss.target)):
        host, network = found[0].host, found[0].end.network if found[0].end else found[0].target
        text = f"{host}: sandboxes on network {network} are reached by some that must not reach them"
        remedy = "look for what lets it pass: nft list chain inet cnm user_forward, and routes of the sandboxes"
        yield Cause(text, found, "", remedy, frozenset({host}))


def _ways_out(case: Case) -> Iterator[Cause]:
    for found in case.grouped("egress", lambda miss: (miss.host, miss.target, miss.found)):
        host, family = found[0].host, found[0].target.rpartition(" ")[2]
        has = "no default route" if found[0].found == "none" else "a default route that is not declared"
        names = few(miss.sandbox for miss in found)
        text = f"{host}: {names} {'have' if len(found) > 1 else 'has'} {has} for {family}"
        remedy = f"look at ip route in them; {SITE.format(host)} if it is planned"
        yield Cause(text, found, "", remedy, frozenset({host}))


def _ports(case: Case) -> Iterator[Cause]:
    for found in case.grouped("connect", lambda miss: (miss.end, _port(miss))):
        whose = found[0].end.host if found[0].end else found[0].target
        text = f"port {_port(found[0])} of {whose} does not answer {few(miss.host for miss in found)}"
        remedy = "cnm ps there shows the tasks behind it; a firewall in between may drop it"
        yield Cause(text, found, _errors(found), remedy, frozenset({whose, *(miss.host for miss in found)}))


def _others(case: Case) -> Iterator[Cause]:
    for miss in case.take(case.left):
        where = miss.host if miss.sandbox == "host" else f"{miss.host}: {miss.sandbox}"
        text = f"{where}: {miss.target}: wanted {miss.wanted}, found {miss.found}"
        yield Cause(text, (miss,), "", "", frozenset({miss.host}))


_OF_PLACES: Sequence[Callable[[Case], Iterator[Cause]]] = (
    _unasked,
    without_plan,
    partial(_dropped_between_hosts, sure=True),
    as_not_planned,
    partial(_dropped_between_hosts, sure=False),
    _dropped_at_the_host,
    _answering_nobody,
    _between_hosts,
)
"""Hosts, sandboxes and ways between them of which something is known."""

_OF_CHECKS: Sequence[Callable[[Case], Iterator[Cause]]] = (
    _unreached,
    _too_large,
    _unresolved,
    _open,
    _ways_out,
    _ports,
    _others,
)
