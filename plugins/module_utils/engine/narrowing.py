# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Which part of a host a run looks at, if the host was as its kept plan just before: what the new plan changes.

`seen` is what the probe leaves to the run that follows it: a digest of what can be read in one look at the host's own
namespace.  If it is still the same, the sandboxes are taken to be as the probe found them, and the run looks only at
those of which the two plans say different things, at the host itself, and at what depends on either.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Optional

from ..kernel import namespaces
from ..kernel.host import Host
from ..plan.base import Key, Resource
from ..plan.codec import content_digest, decode, to_text
from ..plan.kinds import shared_by
from ..plan.links import Link, Namespace
from ..plan.plan import PlanText
from ..plan.records import dataclass
from ..state.files import ETC_NETNS, boot_id
from .reporting import namespaces_of

_UNBOUNDED = ("xfrm", "frr")
"""Kinds that a probe does not compare as a run does: it does not have the keys."""
_BESIDE = ("file", "resolver", "target")
"""Kinds whose objects are looked at from outside the sandbox."""
_LINK = ("index", "name", "kind", "alias", "master", "group", "mac", "mtu", "up", "link", "link_netnsid")
_ETC = f"{ETC_NETNS}/"


@dataclass(frozen=True)
class Scope:
    """What a run looks at and changes, in all namespaces that it enters and beside them."""

    texts: frozenset[str]
    """The texts of the new plan's resources in it; see `PlanText`."""
    keys: frozenset[Key]
    """Their keys, and those of what the kept plan alone has."""
    namespaces: frozenset[str]
    """Which namespaces it enters, besides the host's own."""
    shared: frozenset[str]
    """Digests of all shared texts that the new plan names."""


def seen(host: Host, digest: str) -> str:
    """What is seen of a host that is as its kept plan, of that digest, in one look; "" if the kernel does not say
    whether its tables of nftables have changed.
    """
    snapshot = host.snapshot("")
    if snapshot.generation is None:
        return ""
    links = [[link[name] for name in _LINK] for link in snapshot.links.values()]
    addresses = [[entry["index"], entry["address"]] for entry in snapshot.addresses]
    there = [boot_id(), digest, snapshot.generation, sorted(links), sorted(addresses), namespaces.numbers()]
    return content_digest(to_text(there))


def scope(before: PlanText, after: PlanText) -> Optional[Scope]:
    """What two plans of a host say different things of, with what depends on it; None if that is not bounded.  Pure.

    Raises PlanError if what differs cannot be read.
    """
    known, wanted = dict(before.resources), dict(after.resources)
    try:
        raws = [*known.values(), *(raw for text, raw in after.resources if text not in known)]
        return None if any(raw["kind"] in _UNBOUNDED for raw in raws) else _scope(known, wanted, raws)
    except (AttributeError, LookupError, TypeError):
        return None  # whoever reads the whole plan says what is wrong with it


def _scope(known: Mapping[str, Any], wanted: Mapping[str, Any], raws: Sequence[Mapping[str, Any]]) -> Optional[Scope]:
    new = {text: decode(raw) for text, raw in wanted.items() if text not in known}
    changed = [*(decode(raw) for text, raw in known.items() if text not in wanted), *new.values()]
    links = [raw for raw in raws if raw["kind"] in ("link", "fdb")]
    entered = _entered(changed, links)
    if any(raw["kind"] == "namespace" and raw.get("owner") and raw["name"] in entered for raw in raws):
        return None  # an owner's namespace must not be another sandbox's too, so all of them are looked at
    inside = {
        text: raw
        for text, raw in wanted.items()
        if text in new or not (where := _namespace_of(raw)) or where in entered
    }
    keys = {item.key for item in changed} | {decode(raw).key for text, raw in inside.items() if text not in new}
    return Scope(frozenset(inside), frozenset(keys), frozenset(entered), _digests(wanted))


def _entered(changed: Iterable[Resource], links: Sequence[Mapping[str, Any]]) -> set[str]:
    """The namespaces of what changes and of links that it is the bridge or the parent of, with their other ends."""
    result = {
        name
        for item in changed
        if item.kind not in _BESIDE
        for name in ([item.name] if isinstance(item, Namespace) else namespaces_of(item))
    }
    below = {(item.namespace, item.name) for item in changed if isinstance(item, Link)}
    size = -1
    while size != len(result) + len(below):
        size = len(result) + len(below)
        for raw in links:
            own, other = _ends(raw)
            if raw["kind"] == "link" and not below.isdisjoint(_under(raw)):
                below.add((own, str(raw["name"])))
                result.add(own)
            if own and own in result:
                result.add(other)
    return result - {""}


def _ends(raw: Mapping[str, Any]) -> tuple[str, str]:
    """The namespace of a link and that of its other end; of entries for a sandbox's port the sandbox, and where they
    are.
    """
    where = str(raw.get("namespace", ""))
    if raw["kind"] == "fdb":
        return str(raw.get("sandbox", "")), where
    return where, str((raw.get("peer") or {}).get("namespace", ""))


def _namespace_of(raw: Mapping[str, Any]) -> str:
    """The namespace that a resource is in or serves; "" for the host's."""
    if raw["kind"] == "namespace":
        return str(raw["name"])
    if raw["kind"] == "file":
        directory = str(raw["directory"])
        return directory[len(_ETC) :] if directory.startswith(_ETC) else ""
    return str(raw.get("namespace", ""))


def _under(raw: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Namespace and name of the links that a link is a port of, or is on."""
    result = []
    peer, port, parent = (raw.get(name) for name in ("peer", "port", "parent"))
    if peer and peer.get("master"):
        result.append((str(peer.get("namespace", "")), str(peer["master"])))
    if port:
        result.append((str(raw.get("namespace", "")), str(port["master"])))
    if parent:
        result.append(("", str(parent["link"])))
    return result


def _digests(wanted: Mapping[str, Any]) -> frozenset[str]:
    # Most resources name none: the texts are looked at before anything is decoded, whatever their quotes are.
    named = (decode(raw) for text, raw in wanted.items() if "table" in text or "shared" in text)
    return frozenset(digest for item in named for digest in shared_by(item))
