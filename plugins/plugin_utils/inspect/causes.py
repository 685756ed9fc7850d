# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Groups failed checks of all hosts by the smallest cause that explains them.  Pure.

Explanations are tried one after the other, those with evidence of the kernel first, and each takes the misses that it
explains.  So each miss is told once.  A host's evidence counts for that host alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from .case import SITE, Case, Cause, few, in_order, packet_words
from .drift_causes import as_not_planned, without_plan
from .ends import GATEWAY, SANDBOX, SERVICE
from .findings import Box, Drop, Findings, Miss

_LOOK_AT_RULES = "look for rules that drop {}: nft list ruleset"


def causes_of(findings: Mapping[str, Findings], unasked: Mapping[str, str]) -> list[Cause]:
    """The causes of all misses, those that explain most first; ``unasked`` are hosts that gave no answer, and why."""
    case = Case(findings, unasked)
    found = [cause for explain in _EXPLANATIONS for cause in explain(case)]
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
        pairs = {miss.hosts for miss in case.of("reach") if host in miss.hosts and miss.hosts in case.dead_pairs}
        if drop is None or drop.sure is not sure or not pairs:
            continue
        found = case.take(miss for miss in case.of("reach", "mtu") if miss.hosts in pairs)
        others = sorted({name for pair in pairs for name in pair} - {host}, key=in_order)
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
    for host in case.findings:
        drop = case.drop(host, "icmp", "ipv6-icmp")
        missed = [miss for miss in case.of("reach") if miss.end and miss.end.kind == GATEWAY and miss.end.host == host]
        if drop is not None and missed:
            text = f"{host} does not answer its own sandboxes: {_drops(drop)}"
            remedy = _let_pass(drop, "its bridges")
            yield Cause(text, case.take(missed), f"rule: {drop.rule}", remedy, frozenset({host}))
        for port in sorted({_port(miss) for miss in case.of("connect") if _is_port_of(miss, host)}):
            drop = case.drop(host, f"tcp {port}")
            if drop is not None:
                found = case.take(m for m in case.of("connect") if _is_port_of(m, host) and _port(m) == port)
                text = f"port {port} of {host} does not answer: {_drops(drop)}"
                yield Cause(text, found, f"rule: {drop.rule}", _let_pass(drop), frozenset({host}))


def _answering_nobody(case: Case) -> Iterator[Cause]:
    """Hosts and sandboxes of which nothing arrived that was tried: who explains most, one after the other."""
    while True:
        candidates = [*_dead_hosts(case), *_dead_sandboxes(case)]
        if not candidates:
            return
        _number, _rank, best = max(candidates, key=lambda found: found[:2])
        case.take(best.misses)
        yield best


def _dead_hosts(case: Case) -> Iterator[tuple[int, int, Cause]]:
    missed = [miss for miss in case.of("reach", "mtu") if miss.hosts]
    for host in sorted({name for pair in case.dead_pairs for name in pair}, key=in_order):
        pairs = {pair for pair in case.dead_pairs if host in pair}
        found = tuple(miss for miss in missed if miss.hosts in pairs)
        if not found or not len(pairs) == len(case.partners(host)) > 1:
            continue
        address, askers = case.vtep(host), case.who_misses_a_ping(host)
        if askers:
            text = f"{host} answers nobody, neither by {_tunnel(found)} nor a ping to {address}"
            remedy = f"look at its link and routes, and at what is between: ping {address} from {askers[0]}"
        else:
            text = f"{host} answers nobody by {_tunnel(found)}, though {address} answers a ping"
            remedy = _look_between(found, host, "the others", address)
        yield len(found), 2 if askers else 0, Cause(text, found, "", remedy, frozenset().union(*pairs))


def _tunnel(misses: Iterable[Miss]) -> str:
    return few({miss.tunnel for miss in misses})


def _look_between(misses: Iterable[Miss], one: str, other: str, address: str) -> str:
    where = f"between {one} and {other} (a cloud's security group, a firewall in between)"
    return f"find what drops {_tunnel(misses)} {where}: tcpdump -ni any host {address}"


def _dead_sandboxes(case: Case) -> Iterator[tuple[int, int, Cause]]:
    missed: Counter[Box] = Counter()
    for item in case.findings.values():
        for miss in item.misses:
            if miss.check == "reach":
                missed.update(box for box in (miss.source, miss.other) if box is not None)
    left = case.of("reach")
    for box in sorted({box for miss in left for box in (miss.source, miss.other) if box is not None}):
        if not missed[box] >= case.tried.at[box] > 1:
            continue
        host, name = box
        found = tuple(miss for miss in left if box in (miss.source, miss.other))
        text = f"{host}: {name} reaches nobody and nobody reaches it"
        remedy = f"look at its routes and rules: cnm exec {name} ip route; cnm exec {name} nft list ruleset"
        evidence = _errors(miss for miss in found if miss.source == box)
        yield len(found), 1, Cause(text, found, evidence, remedy, frozenset({host}))


def _errors(misses: Iterable[Miss]) -> str:
    """Why the kernel sent nothing, if it said so."""
    errors = {miss.found for miss in misses} - {"none"}
    return f"the kernel says: {few(errors)}" if errors else ""


def _between_hosts(case: Case) -> Iterator[Cause]:
    for found in case.grouped("reach", lambda miss: miss.hosts or _whom(miss)):
        if not found[0].hosts:
            yield _locally(found)
            continue
        one, other = sorted(found[0].hosts, key=in_order)
        what = "do not reach each other" if found[0].hosts in case.dead_pairs else "lose packets"
        silent = [name for name in (one, other) if {one, other} & set(case.who_misses_a_ping(name))]
        addresses = ", ".join(f"{name} at {case.vtep(name)}" for name in silent)
        evidence = f"no answer to a ping: {addresses}" if silent else ""
        remedy = _look_between(found, one, other, case.vtep(other))
        yield Cause(f"{one} and {other} {what} by {_tunnel(found)}", found, evidence, remedy, found[0].hosts)


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
        pair = sorted(found[0].hosts or {found[0].host}, key=in_order)
        where = f"between {' and '.join(pair)}" if len(pair) > 1 else f"on {pair[0]}"
        remedy = "lower com.docker.network.driver.mtu of the network, or raise the MTU of the links in between"
        yield Cause(f"packets as large as the MTU are lost {where}", found, "", remedy, frozenset(pair))


def _unresolved(case: Case) -> Iterator[Cause]:
    asked = {
        (item.host, check["sandbox"]): len(check["names"])
        for item in case.findings.values()
        for check in item.checks
        if check["sandbox"]
    }
    silent = Counter(miss.source for miss in case.of("resolve") if miss.found == "no answer")
    dead = {box for box, number in silent.items() if number >= asked.get(box, 0)}
    for host in sorted({host for host, _name in dead}, key=in_order):
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


_EXPLANATIONS: Sequence[Callable[[Case], Iterator[Cause]]] = (
    _unasked,
    without_plan,
    partial(_dropped_between_hosts, sure=True),
    as_not_planned,
    partial(_dropped_between_hosts, sure=False),
    _dropped_at_the_host,
    _answering_nobody,
    _between_hosts,
    _too_large,
    _unresolved,
    _open,
    _ways_out,
    _ports,
    _others,
)
