# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Forwarding tables of VXLAN links.

An entry has two halves: the link's own (``self permanent dst VTEP``) and, if the link is a bridge port, the bridge's
(``master static sticky``; without ``sticky`` it moves to any port that claims the address).  The text of a complete
entry is the VTEP.  That of an incomplete one says what exists: ``VTEP self``, ``VTEP loose`` if the bridge's half is
not sticky, or ``master``.  Entries of the kernel or of a routing daemon are not ours.

A port that is no tunnel has entries of the bridge alone, not sticky: a routing daemon tells other hosts of them, and
lets them move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..kernel import netlink
from ..kernel.host import Host
from ..plan.addresses import Fdb
from ..plan.base import Key
from ..plan.marks import EVPN_NAMESPACE, PORT, role_of
from .base import Difference, Found
from .entry_table import TableKind, compare_entries, shortened

_EVEN = bytes(range(0, 256, 2))
_EVERYTHING_ELSE = bytes(6)
_ELSEWHERE = _EVERYTHING_ELSE.hex(":")
_TUNNELS = ("vxlan", "geneve")
_SELF, _LOOSE, _MASTER = "self", "loose", "master"


def _read(index: int) -> list[netlink.Alike]:
    with netlink.Netlink() as socket:
        return socket.fdb_alike(index)


def _sorted(texts: Iterable[str]) -> tuple[str, ...]:
    """VTEPs or MAC addresses in the order of a plan."""
    return tuple(sorted(texts))


def _table(namespace: str, link: Mapping[str, Any], groups: Iterable[netlink.Alike]) -> Fdb:
    own: dict[bytes, str] = {}
    lists: dict[bytes, list[str]] = {}
    static: dict[bool, set[bytes]] = {True: set(), False: set()}
    for group in groups:
        first = group.first
        # The kernel keeps the flag of an entry that is put behind a port, as when a sandbox comes from another host.
        if first["extern_learn"] and link["kind"] in _TUNNELS:
            continue
        if first["self"] and first["permanent"]:
            vteps = list(set(group.addresses))
            text_of = dict(zip(vteps, netlink.address_texts(vteps)))
            texts = map(text_of.__getitem__, group.addresses)
            if _each_has_one(group.macs):
                own.update(zip(group.macs, texts))
                continue
            for mac, vtep in zip(group.macs, texts):
                if _each_has_one([mac]):
                    own[mac] = vtep
                else:
                    lists.setdefault(mac, []).append(vtep)
        elif first["master"] and first["static"] and not first["vlan"]:
            static[first["sticky"]].update(group.macs)
    if link["kind"] not in _TUNNELS:
        return Fdb(namespace, link["name"], static=_sorted(mac.hex(":") for mac in static[False] | static[True]))
    flood = _sorted(lists.pop(_EVERYTHING_ELSE, ()))
    own.update((mac, ",".join(sorted(vteps))) for mac, vteps in lists.items())
    if static[False] or (link["master"] and own.keys() != static[True]):
        _mark_incomplete(own, static[True], static[False])
    return Fdb(namespace, link["name"], {mac.hex(":"): text for mac, text in own.items()}, flood)


def _each_has_one(macs: Sequence[bytes]) -> bool:
    """Whether each has at most one remote end; all-zero and multicast entries may have several."""
    first_octets = b"".join(macs)[::6]
    return _EVERYTHING_ELSE not in macs and not first_octets.translate(None, _EVEN)


def _mark_incomplete(own: dict[bytes, str], sticky: set[bytes], loose: set[bytes]) -> None:
    """Say in the texts in ``own`` which half is missing, and add entries that only the bridge has."""
    for mac in own.keys() - sticky:
        own[mac] += f" {_LOOSE if mac in loose else _SELF}"
    own.update(dict.fromkeys((sticky | loose) - own.keys(), _MASTER))


def _halves(text: str) -> tuple[list[str], str]:
    """The remote ends in an entry's text, and its bridge half: "" for none, ``sticky`` or `_LOOSE`."""
    vteps, _space, note = text.partition(" ")
    if text == _MASTER:
        return [], _LOOSE
    return vteps.split(","), {"": "sticky", _SELF: ""}.get(note, note)


def _is_complete(text: str) -> bool:
    return text != _MASTER and " " not in text and "," not in text


class FdbKind(TableKind[Fdb]):
    """A VXLAN link's entries, as ``bridge fdb show brport`` lists them."""

    name = "fdb"

    def observe(self, host: Host, wanted: Sequence[Fdb]) -> dict[Key, Found[Fdb]]:
        wanted_by = {item.key: item for item in wanted}
        result: dict[Key, Found[Fdb]] = {}
        for namespace in host.observed_namespaces:
            links = {link["index"]: link for link in host.snapshot(namespace).links.values()}
            roles = {index: role_of(link["alias"], host.project) for index, link in links.items()}
            tunnels = {index for index, role in roles.items() if role is not None and links[index]["kind"] == "vxlan"}
            # Only there a routing daemon reads bridges of ours.
            is_read = not namespace or namespace.startswith(EVPN_NAMESPACE)
            bridges = {links[index]["master"] for index in tunnels} if is_read else set()
            for index, link in links.items():
                role = roles[index]
                want = wanted_by.get((self.name, namespace, link["name"]))
                is_port = link["master"] in bridges and (role or "").startswith(PORT)
                if want is None and not (index in tunnels or is_port):
                    continue
                found = _table(namespace, link, host.run_in(namespace, _read, link["index"]))
                if want is not None and want.routed:
                    found = replace(found, flood=(), routed=True)
                nothing = want is not None and not (want.entries or want.flood or want.static)
                if is_port:
                    found = replace(found, sandbox=(role or "").rpartition("/")[2])
                if found.entries or found.flood or found.static or nothing:
                    # A link that a run was killed at has no mark yet.
                    ours = role is not None or namespace in host.own_namespaces or found.routed or bool(found.static)
                    result[found.key] = Found(found, ours, stale=host.prunes(role))
        return result

    def differences(self, wanted: Fdb, found: Fdb) -> list[Difference]:
        result = compare_entries("entries", wanted.entries, found.entries)
        for name in ("flood", "static"):
            want, have = set(getattr(wanted, name)), set(getattr(found, name))
            if want != have:
                result.append(Difference(name, shortened(want - have), shortened(have - want)))
        return result

    def nothing(self, table: Fdb) -> Fdb:
        return replace(table, entries={}, flood=(), static=())

    def writing(self, index: int, link: Mapping[str, Any], wanted: Fdb, found: Fdb) -> list[netlink.Message]:
        have, bridged = found.entries, bool(link["master"])
        messages = []
        for mac, text in wanted.entries.items():
            if have.get(mac) == text:
                continue
            vteps, half = _halves(text)
            messages += [netlink.new_fdb(index, mac, dst=vtep) for vtep in vteps]
            if bridged and half:
                messages.append(netlink.new_fdb(index, mac, master=True, static=True, sticky=half != _LOOSE))
        ports = _sorted(set(wanted.static) - set(found.static))
        messages += [netlink.new_fdb(index, mac, master=True, static=True) for mac in ports]
        lists = set(wanted.flood) - set(found.flood)
        return messages + [netlink.new_fdb(index, _ELSEWHERE, dst=vtep) for vtep in _sorted(lists)]

    def removing(self, index: int, wanted: Fdb, found: Fdb) -> list[netlink.Message]:
        """Entries that are not wanted, and those that writing does not completely replace."""
        messages = []
        for mac, text in found.entries.items():
            want = wanted.entries.get(mac)
            if want == text or (want is not None and _is_complete(want) and "," not in text):
                continue
            vteps, half = _halves(text)
            messages += [netlink.del_fdb(index, mac)] if vteps else []
            messages += [netlink.del_fdb(index, mac, master=True)] if half else []
        messages += [
            netlink.del_fdb(index, mac, master=True) for mac in _sorted(set(found.static) - set(wanted.static))
        ]
        lists = set(found.flood) - set(wanted.flood)
        return messages + [netlink.del_fdb(index, _ELSEWHERE, dst=vtep) for vtep in _sorted(lists)]
