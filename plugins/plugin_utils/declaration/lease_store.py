# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Where leases are kept: ``cnm_leases`` and ``cnm_leases_options`` → `LeaseStore`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any, Optional

from .errors import VarPath
from .keys import did_you_mean
from .names import DNS_NAME
from .topology import LeaseStore
from .values import flag

SQLITE, ETCD, ZOOKEEPER, CONSUL = "sqlite", "etcd", "zookeeper", "consul"
PORTS = {ETCD: 2379, ZOOKEEPER: 2181, CONSUL: 8500}
"""The stores that are reached over the network, with their usual ports."""
KINDS = (SQLITE, *PORTS)
DEFAULT_PREFIX = "cnm"
_URL = re.compile(r"([a-z]+)://(.*)", re.DOTALL)
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::([^:]*))?")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_LONGEST_PREFIX = 200
_TLS = ("ca_cert", "client_cert", "client_key")
_ACCOUNT = ("username", "password")
_SECRETS = ("password", "token")
_OPTIONS = {
    SQLITE: (),
    ETCD: (*_TLS, *_ACCOUNT, "timeout"),
    ZOOKEEPER: (*_TLS, *_ACCOUNT, "sasl", "timeout"),
    CONSUL: (*_TLS, "token", "timeout"),
}
_INSTEAD = {
    (ETCD, "sasl"): "etcd has users: `username` and `password` are enough.",
    (ETCD, "token"): "etcd has users: write `username` and `password`.",
    (ZOOKEEPER, "token"): "ZooKeeper has digests: write `username` and `password`.",
    (CONSUL, "username"): "Consul has tokens: write `token`.",
    (CONSUL, "password"): "Consul has tokens: write `token`.",
}


def read_lease_store(url: Any, options: Any, path: VarPath, options_path: VarPath) -> LeaseStore:
    """Read both; every error is noted at its variable, and what is returned then is of no use."""
    kind, addresses, where = _url(str(url), path) if url is not None else (SQLITE, (), "")
    if kind is None:
        return LeaseStore(url=str(url))  # there is an error
    given = {key: value for key, value in (options or {}).items() if value is not None}
    for key in given:
        if key not in _OPTIONS[kind]:
            instead = _INSTEAD.get((kind, key)) or "Leave it out."
            problem = f"A store of {kind} has no such option." if kind != SQLITE else "A SQLite store has no options."
            (options_path / key).wrong(problem, instead)
    _check_options(given, options_path)
    texts = {key: str(value) for key, value in given.items() if key not in ("sasl", "timeout")}
    timeout, sasl = given.get("timeout", LeaseStore.timeout), flag(given.get("sasl"), False)
    return LeaseStore(kind, addresses, where, url=str(url or ""), sasl=sasl, timeout=int(timeout), **texts)


def _check_options(given: Mapping[str, Any], path: VarPath) -> None:
    if flag(given.get("sasl"), False) and "username" not in given:
        (path / "sasl").wrong("There is no `username` beside it.", "Write `username` and `password`, or leave it out.")
    for one, other in (("client_cert", "client_key"), ("client_key", "client_cert"), _ACCOUNT, _ACCOUNT[::-1]):
        if one in given and other not in given:
            (path / one).wrong(f"There is no `{other}` beside it.", f"Write both, `{one}` and `{other}`, or neither.")
    for key, value in given.items():
        text = str(value)
        if not text:
            (path / key).wrong("This is empty.", "Leave it out, or write what it is.")
        elif not text.isprintable() or (key in _SECRETS and not text.isascii()):
            (path / key).wrong("This has characters that can not be sent.", "Choose one of printable ASCII characters.")
    if ":" in str(given.get("username", "")):
        (path / "username").wrong("A name with a colon in it can not be told from the password.", "Choose another.")


def _url(url: str, path: VarPath) -> tuple[Optional[str], tuple[tuple[str, int], ...], str]:
    """Kind, addresses, and a path (SQLite) or prefix; the kind is None if it cannot be used."""
    wrong: tuple[None, tuple[()], str] = (None, (), "")
    match = _URL.fullmatch(url)
    if not match:
        path.wrong("This is not the URL of a lease store.", "Write `sqlite:///` and a path.", url)
        return wrong
    kind, rest = match.groups()
    if kind not in KINDS:
        near = did_you_mean(kind, KINDS, "Write `sqlite:///` and a path.")
        path.wrong("There is no such lease store.", near, url)
        return wrong
    if not url.isprintable():
        path.wrong("The path has characters that can not be printed.", "Choose a plain path.", url)
        return wrong
    if kind == SQLITE:
        if rest.startswith("/"):
            return kind, (), rest[1:]
        path.wrong(
            "A SQLite store is a file here: three slashes stand before its path, four if the path is absolute.",
            f"Write `sqlite:///{rest[:60]}`.",
            url,
        )
        return wrong
    if "@" in rest:
        path.wrong(
            "A URL is shown and logged: no name and no password may stand in it.",
            "Write them in `cnm_leases_options`, from a vault.",
            url,
        )
        return wrong
    hosts, _slash, prefix = rest.partition("/")
    addresses = [_address(item, PORTS[kind]) for item in hosts.split(",")]
    bad = next((item for item, found in zip(hosts.split(","), addresses) if found is None), None)
    example = f"`{kind}://store1:{PORTS[kind]},store2:{PORTS[kind]}/{DEFAULT_PREFIX}`"
    if bad is not None:
        said = f"`{bad[:60]}` is not an address and a port" if bad else "An address is missing"
        rule = "a name, an IPv4 or a [IPv6] address, and a port from 1 to 65535."
        path.wrong(f"{said}: {rule}", f"Write {example}.", url)
        return wrong
    found = [item for item in addresses if item is not None]
    if len(set(found)) != len(found):
        path.wrong("An address stands there twice.", "Write each once.", url)
        return wrong
    prefix = prefix.rstrip("/") or DEFAULT_PREFIX
    if not _PREFIX.fullmatch(prefix) or len(prefix) > _LONGEST_PREFIX:
        path.wrong(
            "The part behind the addresses is below what the store keeps all: names of letters, digits, `_`, `.` and "
            "`-`, not beginning with `.`, with slashes between them.",
            f"Write {example}.",
            url,
        )
        return wrong
    return kind, tuple(found), prefix


def _address(text: str, port: int) -> Optional[tuple[str, int]]:
    match = _ADDRESS.fullmatch(text)
    if not match:
        return None
    host, number = match.groups()
    if number is not None:
        if not (number.isascii() and number.isdigit() and len(number) < 6 and 1 <= int(number) <= 65535):
            return None
        port = int(number)
    if host.startswith("["):
        try:
            return f"[{ip_address(host[1:-1])}]", port
        except ValueError:
            return None
    return (host, port) if DNS_NAME.pattern.fullmatch(host) and len(host) <= DNS_NAME.longest else None
