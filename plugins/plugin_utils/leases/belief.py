# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Decides which of the leases that hosts report are accepted.  Pure.

* Leases with the store's own signature of a later revision than the store's: the store was restored from a backup.
  They replace the store's leases of that host, and those of networks and services that span hosts.
* Other leases are only the host's claim.  They are accepted for networks of that host alone.  For networks that span
  hosts they are accepted only if the store does not know them: addresses of the host's own sandboxes that nobody else
  has, and subnets, VNIs and tasks on which the hosts of the network agree.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Optional

from ...module_utils.plan.records import dataclass
from .base import (
    OF_HOSTS,
    OVERLAYS,
    SERVICES,
    SPANNING,
    AddressLease,
    Leases,
    join,
    kept_by,
    no_part,
    section_of,
    split,
)

_SHOWN = 3
_HOST_ITSELF = "@host"


@dataclass(frozen=True)
class Claim:
    """What a host reports: its revision, its leases, and the revision of this store that signed them, or None."""

    revision: int
    leases: Leases
    given: Optional[int] = None


@dataclass(frozen=True)
class Part:
    """The shared objects that a host is declared to use: its sandboxes by network that spans hosts, and services."""

    sandboxes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    services: frozenset[str] = frozenset()

    def has(self, network: str, sandbox: str) -> bool:
        """Whether a sandbox, or a task, is declared to be the host's on a network that spans hosts."""
        if network not in self.sandboxes:
            return False
        service, _dot, task = sandbox.rpartition(".")
        of_service = service in self.services and task.isascii() and task.isdigit()
        return sandbox in self.sandboxes[network] or sandbox == _HOST_ITSELF or of_service


@dataclass
class Belief:
    """The accepted document, its revision, and by host warnings about ignored leases, and reasons to refuse it."""

    revision: int
    leases: Leases
    warnings: dict[str, list[str]] = field(default_factory=dict)
    refusals: dict[str, list[str]] = field(default_factory=dict)


def believe(
    revision: int,
    stored: Leases,
    claims: Mapping[str, Claim],
    part_of: Callable[[str], Part],
    shared: Callable[[], frozenset[str]],
    signed: bool,
    complete: bool = True,
) -> Belief:
    """The stored document, completed by what hosts report.

    ``part_of`` returns the `Part` of a host, ``shared`` the networks that span hosts; both are called only if needed.
    ``signed``: whether the store has a key.  ``complete``: false if these hosts are planned without the others.  Their
    own leases are then accepted even if the store is newer, as only other hosts' changes may have made it so.
    """
    ours = {host: claim for host, claim in claims.items() if claim.given is not None and claim.given > revision}
    result = Belief(max((revision, *(claim.given or 0 for claim in ours.values()))), _replaced(stored, ours))
    theirs = {
        host: claim
        for host, claim in sorted(claims.items())
        if host not in ours and (not complete or (claim.given is None and claim.revision > revision))
    }
    if theirs:
        _add(result, theirs, part_of, shared(), signed)
    if result.revision == revision and result.leases != stored:
        result.revision += 1
    return result


def _replaced(leases: Leases, ours: Mapping[str, Claim]) -> Leases:
    """The document with signed leases of later revisions; for shared objects the latest one is used."""
    if not ours:
        return leases
    parts, spanning = split(leases)
    for host, claim in sorted(ours.items(), key=lambda item: (item[1].given or 0, item[0])):
        parts[host] = no_part()
        for section in OF_HOSTS:
            section_of(parts[host], section).update(claim.leases.get(section, {}))
        for section in SPANNING:
            section_of(spanning, section).update(claim.leases.get(section, {}))
    return join(parts, spanning)


def _add(
    result: Belief, claims: Mapping[str, Claim], part_of: Callable[[str], Part], shared: frozenset[str], signed: bool
) -> None:
    """Add the hosts' own claims."""
    parts, spanning = split(result.leases)
    names = frozenset(shared | spanning[OVERLAYS].keys())
    differing = {}
    for host, claim in claims.items():
        known = kept_by(host, parts.get(host, {}), spanning)
        found = {
            f"{section} {key}"
            for section in ("networks", "endpoints", *SPANNING)
            for key in {*known.get(section, {}), *claim.leases.get(section, {})}
            if known.get(section, {}).get(key) != claim.leases.get(section, {}).get(key)
        }
        if found:
            differing[host] = found
    own = {host: part_of(host) for host in differing}
    of_host = {host: claims[host].leases for host in differing}
    _add_networks(result, of_host, own, spanning)
    _add_tasks(result, of_host, own, spanning)
    holders = dict(_holders(parts, spanning, names))
    claimed: dict[tuple[str, str], tuple[str, str]] = {}
    for host, differs in differing.items():
        part = parts.setdefault(host, no_part())
        left = _Left(host, holders, claimed)
        of_others = {key: entry for key, entry in part["endpoints"].items() if key.split("/")[1] in names}
        part["networks"] = {
            key: entry for key, entry in of_host[host].get("networks", {}).items() if key.split("/")[1] not in names
        }
        part["endpoints"] = {
            **{
                key: entry
                for key, entry in of_host[host].get("endpoints", {}).items()
                if key.split("/")[1] not in names
            },
            **of_others,
        }
        for key, entry in sorted(of_host[host].get("endpoints", {}).items()):
            _host, network, sandbox = key.split("/")
            if network not in names or part["endpoints"].get(key) == entry:
                continue
            if key in part["endpoints"]:
                left.known(key, entry, part["endpoints"][key])
            elif not own[host].has(network, sandbox):
                left.foreign(key)
            elif left.is_free(network, sandbox, entry):
                part["endpoints"][key] = entry
        if claims[host].given is not None:
            continue  # an outdated lease of this store
        if signed:
            result.warnings.setdefault(host, []).append(_caught(result.revision, claims[host], differs))
        if left.warnings:
            result.warnings.setdefault(host, []).extend(left.warnings)
        if left.refusals:
            result.refusals[host] = left.refusals
    result.leases = join(parts, spanning)


def _caught(revision: int, claim: Claim, found: set[str]) -> str:
    names = ", ".join(sorted(found)[:_SHOWN]) + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
    return (
        f"its leases (revision {claim.revision}) are not from this lease store (revision {revision}) and differ from "
        f"it in {names}. Leases of this host alone are accepted, shared ones only if the store does not know them. If "
        "another controller manages this host, set the same cnm_leases for both. Otherwise find out who changed the "
        "host's files"
    )


def _holders(
    parts: Mapping[str, Leases], spanning: Leases, names: frozenset[str]
) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    """``((network, address), (host, sandbox or service))`` of all known addresses on networks that span hosts."""
    for host, part in parts.items():
        for key, entry in part["endpoints"].items():
            _host, network, sandbox = key.split("/")
            if network in names:
                for address in entry.values():
                    yield (network, address), (host, sandbox)
    for network, about in spanning[OVERLAYS].items():
        for service, entry in about.get("vips", {}).items():
            for address in entry.values():
                yield (network, address), ("", service)


class _Left:
    """Decides about one host's claims on shared networks, and collects warnings about ignored ones."""

    def __init__(
        self,
        host: str,
        holders: Mapping[tuple[str, str], tuple[str, str]],
        claimed: dict[tuple[str, str], tuple[str, str]],
    ) -> None:
        self._host = host
        self._holders = holders
        self._claimed = claimed
        self.warnings: list[str] = []
        self.refusals: list[str] = []

    def known(self, key: str, entry: Mapping[str, str], leased: Mapping[str, str]) -> None:
        """Warn that the store has the endpoint with another address."""
        here, there = (", ".join(sorted(item.values())) for item in (leased, entry))
        self.warnings.append(f"it reports {there} for {key}, but the lease store has {here}: ignored")

    def foreign(self, key: str) -> None:
        """Warn that the endpoint is not declared on this host."""
        self.warnings.append(f"it reports a lease of {key}, which is not declared on it: ignored")

    def is_free(self, network: str, sandbox: str, entry: Mapping[str, str]) -> bool:
        """Whether all addresses are free; otherwise add a warning or refusal that names the holder."""
        claimed = [(network, address) for address in entry.values()]
        for claim in claimed:
            holder = self._holders.get(claim)
            if holder is not None and holder != (self._host, sandbox):
                who = f"{holder[1]} on {holder[0]}" if holder[0] else f"the service {holder[1]}"
                self.warnings.append(
                    f"it reports {claim[1]} on {network} for its {sandbox}, but the lease store has that address for "
                    f"{who}: ignored"
                )
                return False
        for claim in claimed:
            other = self._claimed.setdefault(claim, (self._host, sandbox))
            if other != (self._host, sandbox):
                self.refusals.append(
                    f"{self._host} and {other[0]} both report {claim[1]} on {network}, for {sandbox} and {other[1]}, "
                    f"and the lease store knows neither. {other[0]} keeps it. Run again to give {sandbox} another "
                    "address, or set both addresses in the variables first."
                )
                return False
        return True


def _add_networks(result: Belief, reported: Mapping[str, Leases], own: Mapping[str, Part], spanning: Leases) -> None:
    """Add networks that the store does not know, as most of their hosts report them."""
    found: dict[str, dict[str, list[str]]] = {}
    vips: dict[str, dict[str, AddressLease]] = {}
    for host, leases in reported.items():
        for name, entry in leases.get(OVERLAYS, {}).items():
            if name in spanning[OVERLAYS] or name not in own[host].sandboxes:
                if name not in own[host].sandboxes:
                    sentence = f"it reports leases of {name}, which is not declared on it: ignored"
                    result.warnings.setdefault(host, []).append(sentence)
                continue
            text = json.dumps({key: value for key, value in entry.items() if key not in ("created", "vips")})
            found.setdefault(name, {}).setdefault(text, []).append(host)
            for service, addresses in entry.get("vips", {}).items():
                if service in own[host].services:
                    vips.setdefault(name, {}).setdefault(service, addresses)
    for name, groups in found.items():
        text, hosts = min(groups.items(), key=lambda item: (-len(item[1]), item[1]))
        times = [reported[host][OVERLAYS][name].get("created") for host in hosts]
        created = next((time for time in times if time), None)
        spanning[OVERLAYS][name] = {
            **json.loads(text),
            **({"created": created} if created else {}),
            **({"vips": vips[name]} if name in vips else {}),
        }
        for other, losers in groups.items():
            for host in losers if other != text else ():
                result.warnings.setdefault(host, []).append(
                    f"{host} and {hosts[0]} report {name} differently ({other[:200]} and {text[:200]}), and the lease "
                    f"store does not know it: the report of {hosts[0]} is used"
                )


def _add_tasks(result: Belief, reported: Mapping[str, Leases], own: Mapping[str, Part], spanning: Leases) -> None:
    """Add the hosts of services' tasks that the store does not know, as each host reports its own."""
    found: dict[str, dict[str, str]] = {}
    for host, leases in reported.items():
        for service, entry in leases.get(SERVICES, {}).items():
            if service in spanning[SERVICES] or service not in own[host].services:
                continue
            tasks = found.setdefault(service, {})
            for number, task_host in entry["tasks"].items():
                if task_host == host and tasks.setdefault(number, host) != host:
                    result.warnings.setdefault(host, []).append(
                        f"{host} and {tasks[number]} both report the task {service}.{number}, and the lease store does "
                        f"not know it: it stays on {tasks[number]}"
                    )
    spanning[SERVICES].update({service: {"tasks": tasks} for service, tasks in found.items()})
