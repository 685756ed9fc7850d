# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Checks what a probe reports against a table of forms.  Pure.

A host is trusted only about itself: only its own keys are read from its kept leases, and leases that affect other hosts
are checked later, in `leases.belief`.  Values that do not fit are dropped with a warning.  If the answer cannot be used
without them, it is refused, and only that host is excluded from the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, Optional

from ...module_utils.plan import forms
from ...module_utils.plan.constants import FRR, LINK_MANAGERS, RESOLVER_FAILURES
from ...module_utils.plan.marks import RESOLVER_USER
from ...module_utils.plan.records import dataclass
from ..declaration.module_objects import ADDRESS_SETS, NETWORKS, kind_of
from ..facts import Facts
from ..forms import (
    Form,
    ReportErrors,
    Unfit,
    address,
    choice,
    flag,
    like,
    listing,
    mapping,
    matching,
    number,
    optional,
    plain,
    prefix,
    printable,
    record,
    shown,
    text,
    words,
)
from ..leases.forms import MTU, NAME, NEWEST, OVERLAY, SERVICE, VNI, of_host
from .models import CHANGES, MODEL, OPERATIONS

_MOST_ERRORS = 5
LINK, _LINK_OR_NONE = like(forms.link_name), like(forms.link_name, empty=True)
_VERSION, _VERSION_KEY = choice(4, 6), choice("4", "6")
_DIGEST, _DIGEST_OR_NONE = like(forms.digest), like(forms.digest, empty=True)


def _destination(value: Any, errors: ReportErrors) -> str:
    return "default" if value == "default" else str(prefix(value, errors))


_LINK_FACTS: dict[str, Form] = {
    "name": LINK,
    "kind": matching("[a-z0-9_.-]{0,32}", 32, "kind of link"),
    "mtu": number(0, 2**32 - 1),
    "up": flag,
    "loopback": flag,
    "ethernet": flag,
    "below": _LINK_OR_NONE,
    "master": _LINK_OR_NONE,
    "ours": text(256),
    "made": flag,
    "single_object": flag,
    "owner": text(256),
}
_ROUTE: dict[str, Form] = {"destination": _destination, "link": LINK, "via": optional(address)}
_ADDRESS: dict[str, Form] = {"address": address, "link": LINK, "mtu": MTU}
_LISTENER: dict[str, Form] = {
    "protocol": choice("tcp", "udp"),
    "address": address,
    "port": number(0, 65535),
    "process": words(64),
}
_LINK_TYPE = matching("[a-z0-9_-]{1,32}", 32, "type of link")
_FOREIGN: dict[str, Form] = {"link": listing(LINK), "namespace": listing(text(255)), "nftables": listing(text(300))}
_OWNER: dict[str, Form] = {
    "owner": choice("docker", "podman", "pid", "machine", "path"),
    "reference": text(4096),
    "problem": words(500),
    "kept": flag,
}
_COUNTS = dict.fromkeys(("passed", "passed_bytes", "dropped", "dropped_bytes"), number(0, 2**64 - 1))
_WAYS = dict.fromkeys(("ingress", "egress"), record(_COUNTS, tuple(_COUNTS)))
_SETTINGS = {
    "servers": listing(address, 64),
    "search": listing(like(forms.search_domain), 64),
    "options": listing(like(forms.resolver_option), 64),
}

_NEEDED = ("routes", "addresses", "links", "kept")
"""Required facts: if values were missing from them, planning would treat used addresses and links as free."""
_ROUTES = 1_000_000
_PROBE: dict[str, tuple[Form, Any]] = {
    "routes": (listing(record(_ROUTE, tuple(_ROUTE)), _ROUTES), ()),
    "addresses": (listing(record(_ADDRESS, tuple(_ADDRESS))), ()),
    "vnis": (listing(VNI), ()),
    "links": (listing(record(_LINK_FACTS, tuple(_LINK_FACTS))), ()),
    "reached_by": (listing(LINK), ()),
    "bridges": (listing(LINK), ()),
    "resolvers": (record(_SETTINGS), {}),
    "failing_resolvers": (mapping(address, choice(*RESOLVER_FAILURES), 64), {}),
    "forwarding_before": (listing(_VERSION, 2), ()),
    "forwarding_links": (mapping(_VERSION_KEY, listing(LINK)), {}),
    "ra_links": (listing(LINK), ()),
    "neighbour_tables": (mapping(matching(r"ipv[46]\.gc_thresh[123]", 20, "setting"), number(0, 2**31 - 1)), {}),
    "listeners": (listing(record(_LISTENER, tuple(_LISTENER))), ()),
    "dropping": (listing(words(200), 1000), ()),
    "closed": (listing(words(200), 1000), ()),
    "front_ends": (listing(choice("ufw", "firewalld"), 2), ()),
    "let_by": (listing(words(80)), ()),
    "flushing": (optional(matching(r"/[!-~]{1,254}", 255, "path")), None),
    "filters_bridges": (flag, False),
    "rejects_bridged": (flag, False),
    "ipvs": (flag, False),
    "no_esp": (mapping(_VERSION_KEY, words(500)), {}),
    "missing_links": (listing(_LINK_TYPE, 32), ()),
    "missing_shaping": (listing(choice("netem", "police", "tbf"), 3), ()),
    "foreign": (record(_FOREIGN), {}),
    "absent_owners": (listing(record(_OWNER, tuple(_OWNER)), 4096), ()),
    "occupied": (mapping(NAME, words(300), 4096), {}),
    "docker_user": (listing(_VERSION, 2), ()),
    "has_frr": (flag, False),
    "has_table": (flag, False),
    "link_managers": (listing(choice(*LINK_MANAGERS), 3), ()),
    "systemd": (flag, False),
    "dnsmasq_confined": (flag, False),
    "missing": (listing(choice("nft", "dnsmasq", "conntrack", FRR, RESOLVER_USER), 5), ()),
    "distribution": (listing(matching(r"[A-Za-z0-9._-]{1,64}", 64, "word"), 64), ()),
    "settled": (flag, False),
    "seen": (_DIGEST_OR_NONE, ""),
    "drift": (OPERATIONS, ()),
    "repairs": (CHANGES, ()),
    "policy_counts": (mapping(NAME, record(_WAYS, tuple(_WAYS))), {}),
}
_LIVE = ("drift", "repairs", "policy_counts")
"""Facts that only a probe with ``live`` reads."""
PROBE_KEYS = (*_PROBE, "kept")

_ENTRY = plain()
_PAIRS = listing(plain(), 4096)
_MODULE_STATE: dict[str, Form] = {
    "cnm_networks": mapping(NAME, _ENTRY, 4096),
    "cnm_sandboxes": mapping(NAME, _ENTRY),
    "endpoints": mapping(NAME, _PAIRS),
    "cnm_services": mapping(NAME, _ENTRY, 4096),
}
_DECLARED = mapping(matching(r"cnm_[A-Za-z0-9_]{1,200}", 204, "variable"), plain())
_KEPT: dict[str, tuple[Form, Any]] = {
    "digest": (_DIGEST_OR_NONE, ""),
    "signature": (matching(r"(?:[0-9]{1,16}:[0-9a-f]{64})?", 81, "signature"), ""),
    "shared": (listing(_DIGEST), ()),
    "model": (MODEL, {}),
}


@dataclass
class Report:
    """The usable part of a host's report: ``data`` with the probe's own keys, and the same as `Facts`."""

    data: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    refusal: str = ""
    """Why the host is excluded from the run; ``data`` is then empty."""

    @property
    def facts(self) -> Optional[Facts]:
        """None if the host is refused."""
        return None if self.refusal else Facts.from_probe(self.data)


def read_probe(host: str, answer: Any) -> Report:
    """Read a probe's answer.  Reading its result again gives the same result."""
    if not isinstance(answer, Mapping):
        return Report(refusal=_refused("", "it is not a mapping"))
    errors: ReportErrors = []
    data: dict[str, Any] = {}
    for key, (form, default) in _PROBE.items():
        if key not in answer and key not in _NEEDED:
            if key not in _LIVE:
                data[key] = default
            continue
        try:
            data[key] = _section(key, form, answer.get(key), errors)
        except Unfit as problem:
            if key in _NEEDED:
                return Report(refusal=_refused(key, str(problem)))
            errors.append((key, str(problem)))
            data[key] = default
    data["resolvers"] = {"servers": [], "search": [], "options": [], **data["resolvers"]}
    try:
        data["kept"] = _kept(host, answer.get("kept"), errors)
    except Unfit as problem:
        return Report(refusal=_refused("kept", str(problem)))
    return Report(data, _warnings(errors))


def _section(key: str, form: Form, value: Any, errors: ReportErrors) -> Any:
    found: ReportErrors = []
    result = form(value, found)
    errors += [(f"{key}{path}", why) for path, why in found]
    return result


def _kept(host: str, kept: Any, errors: ReportErrors) -> dict[str, Any]:
    """The section ``kept``.  Raises Unfit if a plan without the invalid values could damage the host's networks."""
    if not isinstance(kept, Mapping):
        raise Unfit(f"it is {shown(kept)}, not a mapping")
    result: dict[str, Any] = {}
    for key, need in _KEPT_COMPLETE.items():
        try:
            if key in kept or key == "revision":
                result[key] = need(kept.get(key, 0))
        except Unfit as problem:
            raise Unfit(f"`{key}`: {problem}") from None
    result.setdefault("module_state", {})
    for key, (form, default) in _KEPT.items():
        if key in kept:
            try:
                result[key] = _section(f"kept.{key}", form, kept[key], errors)
            except Unfit as problem:
                errors.append((f"kept.{key}", str(problem)))
                result[key] = default
    result["leases"] = _leases(host, kept.get("leases", {}), errors)
    return result


def _module_state(value: Any) -> dict[str, Any]:
    """The objects that modules made."""
    found: ReportErrors = []
    result: dict[str, Any] = record(_MODULE_STATE)(value, found)
    for name, pairs in result.get("endpoints", {}).items():
        if not all(_is_pair(pair) for pair in pairs):
            found.append((f".endpoints.{name}", "it is not a list of pairs of a name and options"))
    return _complete(result, found)


def _declared(value: Any) -> dict[str, Any]:
    """The variables that the kept plan was made from."""
    found: ReportErrors = []
    return _complete(_DECLARED(value, found), found)


def _complete(result: dict[str, Any], found: ReportErrors) -> dict[str, Any]:
    """Accept all of it or refuse the host: a dropped object would be removed from the host."""
    for variable, entries in result.items():
        kind = kind_of(variable)
        if kind is not None and not isinstance(entries, Mapping):
            found.append((f".{variable}", "it is not a mapping"))
            continue
        for name, entry in entries.items() if kind is not None else ():
            if kind == ADDRESS_SETS:
                if not isinstance(entry, list):
                    found.append((f".{variable}.{name}", "it is not a list"))
            elif entry is not None and not isinstance(entry, Mapping):
                found.append((f".{variable}.{name}", "it is not a mapping"))
            elif kind != NETWORKS and not _has_networks(entry or {}):
                found.append(
                    (f".{variable}.{name}.networks", "it is neither a list of names nor of pairs of a name and options")
                )
    if found:
        path, why = found[0]
        raise Unfit(f"it cannot be read ({path[1:]}: {why})")
    return result


_KEPT_COMPLETE: dict[str, Callable[[Any], Any]] = {
    "revision": lambda value: number(0, NEWEST)(value, []),
    "module_state": _module_state,
    "declared": _declared,
}
"""Sections of `kept` that must be valid as a whole; otherwise the host is refused."""


def _has_networks(entry: Mapping[str, Any]) -> bool:
    """Whether a sandbox's networks have the form of `declaration.module_objects`: names, or pairs in link order."""
    networks = entry.get("networks")
    if networks is None:
        return True
    if not isinstance(networks, list):
        return False
    return all(isinstance(item, str) for item in networks) or all(_is_pair(item) for item in networks)


def _is_pair(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return isinstance(value[0], str) and (value[1] is None or isinstance(value[1], dict))


def _leases(host: str, value: Any, errors: ReportErrors) -> dict[str, Any]:
    forms = {**of_host(host), "overlays": mapping(NAME, OVERLAY), "services": mapping(NAME, SERVICE)}
    try:
        result: dict[str, Any] = _section("kept.leases", record(forms), value, errors)
    except Unfit as problem:
        errors.append(("kept.leases", str(problem)))
        return {}
    return result


def _refused(key: str, why: str) -> str:
    what = f"`{key}` of its answer" if key else "its answer"
    return (
        f"{what} cannot be used: {printable(why, 400)}. Nothing is changed on this host. Check its Python and its "
        "files in /var/lib/cnm"
    )


def _warnings(errors: ReportErrors) -> list[str]:
    found = [f"ignored {printable(path, 120)} in its answer: {printable(why, 200)}" for path, why in errors]
    more = len(found) - _MOST_ERRORS
    return [*found[:_MOST_ERRORS], *([f"ignored {more} more invalid values in its answer"] if more > 0 else [])]
