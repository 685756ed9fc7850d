# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The form of each field of a plan: `PLANNED` by kind of resource (or class of a part) and field.

A check takes a JSON value and returns the field's value, or raises `FormError`.  Found resources are written to a run's
journal, and others may have changed them: `FOUND` has the forms that can be restored.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Callable

from . import forms
from .constants import LARGEST_MTU, LARGEST_PORT, LARGEST_VNI, LINK_MANAGERS
from .forms import Form, FormError, number, quoted, word
from .nftables import TASKS, UDP_PORTS

Check = Callable[[Any], Any]

_LARGEST_32 = 0xFFFFFFFF
_SIGNED_32 = 0x7FFFFFFF
_MOST_ITEMS = 1 << 20
_REMEMBERED = 16384


def _flag(value: Any) -> bool:
    if value is not True and value is not False:
        raise FormError(f"{quoted(value)} is neither true nor false")
    return value


def _count(least: int, largest: int, noun: str = "a valid number") -> Check:
    return lambda value: number(value, least, largest, noun)


def _one_of(*choices: str) -> Check:
    return _once(lambda value: word(value, choices, "a valid value"))


def _once(check: Check) -> Check:
    """A cached check of texts, as plans repeat the same names, rules and addresses."""
    return lru_cache(_REMEMBERED)(check)


def _or_nothing(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _or_empty(check: Check) -> Check:
    return _once(lambda value: "" if value == "" else check(value))


def _each(check: Check) -> Check:
    def each(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > _MOST_ITEMS:
            raise FormError(f"{quoted(value)} is not a list")
        return tuple(map(check, value))

    return each


def _by(key: Check, check: Check) -> Check:
    def by(value: Any) -> dict[str, Any]:
        if not isinstance(value, dict) or len(value) > _MOST_ITEMS:
            raise FormError(f"{quoted(value)} is not a mapping")
        return dict(zip(map(key, value), map(check, value.values())))

    return by


def _never(value: Any) -> Any:
    if value:
        raise FormError(f"{quoted(value)} is only valid in a journal, not in a plan")
    return value


_SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh")
_namespace = _or_empty(forms.namespace_name)
_link = _or_empty(forms.link_name)
_some_link = _once(forms.link_name)
_address = _or_empty(forms.address)
_some_address = _once(forms.address)
_mac = _once(forms.mac)
_digest = _or_empty(forms.digest)
_digests = _each(forms.digest)
_family = _count(4, 6, "an IP version, 4 or 6")
_names = _by(_one_of("resolv.conf", "hosts"), forms.lines)


def reference(value: Any) -> str:
    """An owner's name for a namespace, in any of the forms in `forms.OWNERS`."""
    if value != "" and not any(form.fits(value) for form in forms.OWNERS.values()):
        raise FormError(f"{quoted(value)} is not a container, process, machine or path")
    return value  # type: ignore[no-any-return]


PLANNED: dict[str, dict[str, Check]] = {
    "namespace": {
        "name": _once(forms.namespace_name),
        "role": _once(forms.role),
        "loopback_up": _flag,
        "owner": _one_of("", *forms.OWNERS),
        "reference": reference,
        "attached": _flag,
        "files": _names,
        "no_forwarding": _each(_family),
    },
    "link": {
        "namespace": _namespace,
        "name": _some_link,
        "type": _one_of("bridge", "veth", "vxlan", "geneve", "macvlan", "ipvlan", "vlan", "ifb", "dummy"),
        "role": _once(forms.role),
        "mac": _or_nothing(_mac),
        "mtu": _or_nothing(_count(0, LARGEST_MTU, "an MTU")),
        "up": _flag,
        "disable_ipv6": _or_nothing(_flag),
        "accept_ra": _or_nothing(_count(0, 2)),
        "rp_filter": _or_nothing(_count(0, 2)),
        "addr_gen_mode": _or_nothing(_one_of("eui64", "none", "stable_secret", "random")),
        "group": _or_nothing(_count(0, _LARGEST_32, "a link group")),
        "route_localnet": _or_nothing(_flag),
        "announcements": _count(0, 1000),
        "announcement_ms": _count(0, 60_000),
        "adopts_existing": _flag,
        "learns_from_reserved": _or_nothing(_flag),
    },
    "VethPeer": {
        "namespace": _namespace,
        "name": _link,
        "master": _link,
        "isolated": _flag,
        "up": _flag,
        "group": _or_nothing(_count(0, _LARGEST_32, "a link group")),
        "hairpin": _flag,
        "learning": _flag,
    },
    "BridgePort": {
        "master": _some_link,
        **dict.fromkeys(("neigh_suppress", "learning", "flood", "mcast_flood", "bcast_flood"), _flag),
    },
    "Vxlan": {
        "id": _count(1, LARGEST_VNI, "a VNI"),
        "local": _some_address,
        "port": _count(1, LARGEST_PORT, "a port"),
        "learning": _flag,
        "outside": _flag,
        "source_port": _count(0, LARGEST_PORT, "a port"),
        "proxy": _flag,
    },
    "Geneve": {
        "id": _count(1, LARGEST_VNI, "a VNI"),
        "remote": _some_address,
        "port": _count(1, LARGEST_PORT, "a port"),
    },
    "Parent": {
        "link": _some_link,
        "mode": _one_of("", "bridge", "private", "vepa", "passthru", "l2", "l3", "l3s"),
        "flag": _one_of("", "bridge", "private", "vepa"),
        "vlan": _count(0, 4094, "a VLAN"),
    },
    "address": {"namespace": _namespace, "link": _some_link, "address": forms.interface, "connected": _flag},
    "route": {
        "namespace": _namespace,
        "destination": forms.destination,
        "family": _family,
        "via": _or_nothing(_some_address),
        "link": _link,
        "single_object": _flag,
    },
    "rule": {
        "namespace": _namespace,
        "family": _family,
        "priority": _count(1, _LARGEST_32, "a priority"),
        "incoming": _link,
        "destination": _or_empty(forms.prefix),
        "table": _count(0, _LARGEST_32, "a table of routes"),
    },
    "fdb": {
        "namespace": _namespace,
        "link": _some_link,
        "entries": _by(_mac, _some_address),
        "flood": _each(_some_address),
        "table": _digest,
        "flooded": _flag,
        "static": _each(_mac),
        "sandbox": _namespace,
        "routed": _flag,
    },
    "shaping": {
        "namespace": _namespace,
        "link": _link,
        "sandbox": _namespace,
        "end": _link,
        **dict.fromkeys(("ingress", "egress", "rate"), _count(0, 2**40)),
        **dict.fromkeys(("delay_us", "jitter_us"), _count(0, 3600 * 10**6)),
        "loss_ppm": _count(0, 10**6),
    },
    "neighbour": {
        "namespace": _namespace,
        "link": _some_link,
        "entries": _by(_some_address, _mac),
        "table": _digest,
    },
    "sysctl": {
        "namespace": _namespace,
        "name": _once(forms.sysctl_name),
        "value": forms.sysctl_value,
        "held": _flag,
        "former": _or_nothing(forms.sysctl_value),
        "links": _each(forms.link_name),
        "optional": _flag,
    },
    "nftables": {
        "namespace": _namespace,
        "family": _one_of("inet", "bridge"),
        "name": _once(forms.nft_name),
        "role": _once(forms.role),
        "flags": _never,
        "users": _never,
    },
    "NftSet": {
        "name": _once(forms.nft_name),
        "declaration": _once(forms.nft_declaration),
        "elements": _each(_once(forms.nft_element)),
        "tracks": _one_of("", UDP_PORTS, *TASKS),
        "family": _count(0, 6, "an IP version, 4 or 6, or 0"),
        "tables": _digests,
    },
    "Chain": {
        "name": _once(forms.nft_name),
        "hook": _once(forms.nft_hook),
        "rules": _each(_once(forms.nft_statement)),
        "user": _flag,
    },
    "docker_user": {"family": _family},
    "xfrm": {
        "local": _some_address,
        "port": _count(1, LARGEST_PORT, "a port"),
        "epoch": _count(1, _SIGNED_32, "an epoch"),
        "fingerprint": Form("a fingerprint", "hexadecimal digits", "[0-9a-f]*", 128),
        "peers": _each(_some_address),
        "tables": _digests,
        "flaws": _never,
    },
    "ipvs": {
        "namespace": _namespace,
        "family": _family,
        "mark": _count(0, _LARGEST_32, "a mark"),
        "protocol": _one_of("", "tcp", "udp", "sctp"),
        "address": _address,
        "port": _count(0, LARGEST_PORT, "a port"),
        "scheduler": _one_of(*_SCHEDULERS),
        "flags": _each(_one_of("fallback", "port", "one_packet")),
        "persistence": _count(0, _SIGNED_32),
        "prefix": _count(0, 128),
    },
    "RealServer": {
        "address": _some_address,
        "weight": _count(0, _SIGNED_32, "a weight"),
        "port": _count(0, LARGEST_PORT, "a port"),
        "method": _one_of("masquerade", "direct", "tunnel"),
        "upper": _count(0, _LARGEST_32),
        "lower": _count(0, _LARGEST_32),
    },
    "ipvs_timeouts": {
        "namespace": _namespace,
        **dict.fromkeys(("tcp", "tcp_fin", "udp"), _count(0, _SIGNED_32, "a number of seconds")),
    },
    "file": {
        "directory": forms.directory,
        "role": _once(forms.role),
        "files": _by(_once(forms.file_name), forms.lines),
        "hidden": _never,
        "shared": _by(_once(forms.file_name), _digests),
    },
    "resolver": {
        "namespace": _namespace,
        "config": _each(_once(forms.config_line)),
        "running": _flag,
        "supervised": _flag,
        "outdated": _never,
        "lan": _flag,
    },
    "resolved": {"link": _some_link, "server": _address, "domain": _or_empty(forms.dns_name)},
    "names": {"directory": _once(forms.names_directory), "loaded": _by(_once(forms.file_name), _digest)},
    "link_manager": {
        "manager": _one_of(*LINK_MANAGERS),
        "links": _each(_once(forms.plain_link_name)),
        "rules": _flag,
        "edited": _never,
    },
    "boot": {
        "keep_keys": _flag,
        "awaited": _each(_some_link),
        "owners": _each(_once(forms.watched_owner)),
        "flaws": _never,
    },
    "frr": {
        "asn": _count(1, _LARGEST_32 - 1, "an AS number"),
        "local": _some_address,
        "reflectors": _each(_some_address),
        "clients": _each(_once(forms.prefix)),
        "fingerprint": Form("a fingerprint", "hexadecimal digits", "[0-9a-f]*", 128),
        "namespace": _namespace,
        "flaws": _never,
    },
    "target": {"namespace": _once(forms.namespace_name), "active": _flag},
}

_any_number = _count(-_SIGNED_32 - 1, _LARGEST_32)
_any_role = Form("a role", "at most 255 characters", r"[^\0]*", 255)
_any_link = Form("a link's name", "one that the kernel can have", r"(?!\.{1,2}\Z)[^\0/\s]{1,60}", 60)
_any_word = Form("a word", "small letters, digits, `_`, `-` and spaces", "[a-z0-9_ -]*", 64)


def _any_text(value: Any) -> str:
    if not isinstance(value, str):
        raise FormError(f"{quoted(value)} is not a text")
    return value


_EASED: dict[str, dict[str, Check]] = {
    "namespace": {"role": _any_role, "files": _by(_one_of("resolv.conf", "hosts"), _any_text)},
    "link": {
        "name": _any_link,
        "type": _any_word,
        "role": _any_role,
        "mac": _or_nothing(Form("a hardware address", "hexadecimal digits", "[0-9a-f:]*", 96)),
        "mtu": _or_nothing(_any_number),
        "accept_ra": _or_nothing(_any_number),
    },
    "VethPeer": {name: _or_empty(_any_link) for name in ("name", "master")},
    "BridgePort": {"master": _any_link},
    "Vxlan": {"id": _any_number, "local": _address, "port": _any_number},
    "Geneve": {"id": _any_number, "remote": _address, "port": _any_number},
    "Parent": {"link": _or_empty(_any_link), "mode": _any_word, "flag": _any_word, "vlan": _any_number},
    "address": {"link": _any_link},
    "route": {"link": _or_empty(_any_link)},
    "rule": {"incoming": _or_empty(_any_link), "priority": _any_number},
    "fdb": {"link": _any_link},
    "neighbour": {"link": _any_link},
    "shaping": {
        "link": _any_link,
        "end": _or_empty(_any_link),
        **dict.fromkeys(("ingress", "egress", "rate", "delay_us", "jitter_us", "loss_ppm"), _count(0, 2**64)),
    },
    "sysctl": {"value": forms.one_line, "former": _or_nothing(forms.one_line)},
    "nftables": {"flags": _any_word, "users": _or_empty(forms.nft_block)},
    "NftSet": {"declaration": _once(forms.nft_any_declaration), "elements": _each(forms.nft_any_element)},
    "xfrm": {"flaws": _by(_any_text, _any_text)},
    "ipvs": {"scheduler": _any_word},
    "RealServer": {"method": _any_word, "weight": _any_number},
    "file": {"role": _any_role, "files": _by(_once(forms.file_name), forms.text), "hidden": _each(forms.file_name)},
    "resolver": {"config": _each(forms.one_line), "outdated": _flag},
    "resolved": {"server": _once(forms.one_line), "domain": _once(forms.one_line)},
    "link_manager": {"edited": _flag},
    "frr": {"flaws": _by(_any_text, _any_text)},
    "boot": {"awaited": _each(_any_link), "owners": _each(_any_text), "flaws": _by(_any_text, _any_text)},
}

FOUND: dict[str, dict[str, Check]] = {name: {**checks, **_EASED.get(name, {})} for name, checks in PLANNED.items()}


# --- the other sections of a plan, and peer tables --------------------------------------------------------------------


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise FormError(f"{quoted(value)} is not a mapping")
    return value


ENVELOPE: dict[str, Check] = {
    "host": forms.host_name,
    "project": forms.project,
    **dict.fromkeys(("model", "leases", "declared", "module_state"), _mapping),
}


def _endpoint(value: Any) -> tuple[str, str, str, tuple[str, ...], tuple[str, ...]]:
    if not isinstance(value, (list, tuple)) or len(value) != 5:
        raise FormError(f"{quoted(value)} is not an endpoint: host, sandbox, MAC address, addresses and names")
    host, sandbox, mac, addresses, names = value
    return (
        forms.host_name(host),
        forms.host_name(sandbox),  # followed by its host's name if several hosts have a sandbox of that name
        _mac(mac),
        _each(_some_address)(addresses),
        _each(forms.dns_name)(names),
    )


PEER_TABLE: dict[str, Check] = {
    "network": forms.object_name,
    "vni": _count(0, LARGEST_VNI, "a VNI"),
    "vteps": _by(forms.host_name, _address),
    "endpoints": _each(_endpoint),
}


def checked(checks: Mapping[str, Check], data: Any) -> dict[str, Any]:
    """The fields of JSON data, checked.  Raises FormError that begins with the field's name.

    An unknown field is an error; a missing one gets its default.
    """
    try:
        return {name: checks[name](value) for name, value in data.items()}
    except (AttributeError, LookupError, TypeError, FormError):
        return _checked_with_care(checks, data)


def _checked_with_care(checks: Mapping[str, Check], data: Any) -> dict[str, Any]:
    """The same, but slower: for data with an error, to find which field it is in."""
    if not isinstance(data, dict):
        raise FormError(f"{quoted(data)} is not a mapping of fields")
    result = {}
    for name, value in data.items():
        if name not in checks:
            raise FormError(f"{quoted(name)} is not a field that this version knows")
        try:
            result[name] = checks[name](value)
        except FormError as error:
            raise FormError(f"{name}: {error}") from error
        except TypeError as error:  # unhashable, so not a text
            raise FormError(f"{name}: {quoted(value)} has the wrong type") from error
    return result


def part_of(cls: Callable[..., Any], checks: Mapping[str, Check], several: bool) -> Check:
    """A check of a field that holds a part of a resource, or a list of parts."""

    def one(value: Any) -> Any:
        return cls(**checked(checks, value))

    return _each(one) if several else _or_nothing(one)
