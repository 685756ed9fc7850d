# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""nftables by netlink, in the calling thread's network namespace: lists tables and base chains, copies whole tables
from one of our namespaces to another, and removes tables.

Foreign tables are read here and not by libnftables, which crashes on sets written by a newer version (1.0.6 on those of
1.1.2).  Numbers and layouts are those of nf_tables.h and nfnetlink.h in the kernel's uapi headers.
"""

from __future__ import annotations

import contextlib
import errno as errnos
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional

from ..plan.families import NFT_PROTOCOL
from .netlink import Message, Netlink, NetlinkError, attributes, pack_attribute, pack_message, text_of

_SUBSYSTEM = 10 << 8
_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _GETCHAIN, _NEWRULE, _GETRULE = 0, 1, 2, 3, 4, 6, 7
_NEWSET, _GETSET, _NEWSETELEM, _GETSETELEM, _GETGEN = 9, 10, 12, 13, 16
_BATCH_BEGIN, _BATCH_END = 16, 17
_ACK, _CREATE, _APPEND = 0x4, 0x400, 0x800
_NETNS_COOKIE, _SO_SNDBUFFORCE = 71, 32
_HEADER = struct.Struct("=BBH")  # family, version, resource
_NUMBER = struct.Struct(">I")

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_FAMILY_NUMBERS = {name: number for number, name in FAMILIES.items()}
_HOOKS = ("prerouting", "input", "forward", "output", "postrouting")
_ARP_HOOKS = ("input", "output", "forward")

_NAME = 1
"""The attribute of every message that names its table."""
_TABLE_FLAGS, _TABLE_USERDATA, _TABLE_OWNER = 2, 6, 7
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE = 3, 4, 5, 7
_SET_NAME, _SET_FLAGS, _SET_ID = 2, 3, 10
_ELEMENT_SET, _ELEMENTS, _ELEMENT_SET_ID = 2, 3, 4
_INTERVAL, _KEY_END = 0x4, 10
_KEY, _EXPIRATION, _EXPRESSION, _EXPRESSIONS = 1, 5, 7, 11
_VALUE, _EXPRESSION_NAME, _EXPRESSION_DATA = 1, 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_COMMENT = 0
_COPIED: dict[int, tuple[int, ...]] = {
    _NEWCHAIN: (3, 4, 5, 7, 12),  # name, hook, policy, type, userdata
    _NEWSET: (2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 15, 17, 18),  # all but its number, handle and counts
    _NEWRULE: (2, 4, 7),  # chain, expressions, userdata
}
"""By message type, the attributes that define an object, as opposed to its state."""
_CHUNK_BYTES = 16384


class Table(NamedTuple):
    """A table without its content."""

    family: str
    name: str
    comment: str
    owned: bool
    """Whether a process owns it (``flags owner``): nobody else can then change or remove it."""


class BaseChain(NamedTuple):
    """A base chain: one with a hook."""

    family: str
    table: str
    name: str
    type: str
    hook: str
    drops: bool
    """Whether its policy is to drop."""


class Count(NamedTuple):
    """What an element of a set has counted."""

    packets: int
    bytes: int
    expires: int
    """Milliseconds until it goes; 0 if it stays."""


class Copy(NamedTuple):
    """A complete table, to be created elsewhere; ``parts`` are message types with flags and attributes."""

    family: str
    flags: bytes
    parts: tuple[tuple[int, int, bytes], ...]


def _items(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each attribute, in order: unlike a dict by number, this keeps repeated attributes."""
    at = 0
    while at + 4 <= len(data):
        length, number = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield number & 0x3FFF, data[at : at + ((length + 3) & ~3)]
        at += (length + 3) & ~3


def _text(name: str) -> bytes:
    return name.encode(errors="surrogateescape") + b"\0"


def _body(family: int, *values: tuple[int, bytes]) -> bytes:
    return _HEADER.pack(family, 0, 0) + b"".join(pack_attribute(number, value) for number, value in values)


def _message(kind: int, flags: int, family: str, table: str, more: bytes, text: str) -> Message:
    body = _body(_FAMILY_NUMBERS[family], (_NAME, _text(table))) + more
    return pack_message(_SUBSYSTEM | kind, flags, body, text)


def new_table(family: str, name: str, comment: str = "", flags: bytes = b"") -> Message:
    """Create a table, or none if it exists; a comment has at most 127 octets."""
    more = pack_attribute(_TABLE_FLAGS, flags) if flags else b""
    if comment:
        more += pack_attribute(_TABLE_USERDATA, bytes([_COMMENT, len(_text(comment))]) + _text(comment))
    return _message(_NEWTABLE, _CREATE, family, name, more, f"new table {family} {name}")


def del_table(family: str, name: str) -> Message:
    """Remove a table with its content; ENOENT if there is none, EPERM if a process owns it."""
    return _message(_DELTABLE, 0, family, name, b"", f"removal of table {family} {name}")


def as_messages(copy: Copy, name: str, comment: str, replace: bool) -> list[Message]:
    """Messages that create the table under a name; with ``replace``, instead of an existing one."""
    family = copy.family
    gone = [new_table(family, name), del_table(family, name)] if replace else []
    made = [
        _message(kind, flags, family, name, more, f"new part of table {family} {name}")
        for kind, flags, more in copy.parts
    ]
    return [*gone, new_table(family, name, comment, copy.flags), *made]


class Netfilter(Netlink):
    """A socket to nftables in the calling thread's namespace."""

    _protocol = 12  # NETLINK_NETFILTER

    def generation(self) -> Optional[tuple[int, int]]:
        """See `generation`."""
        cookie = self._socket.getsockopt(socket.SOL_SOCKET, _NETNS_COOKIE, 8)
        found = self._ask(_SUBSYSTEM | _GETGEN, _ACK, bytes(4), "generation of nftables", _decode_generation)
        return (int.from_bytes(cookie, sys.byteorder), found[0]) if found else None

    def tables(self) -> list[Table]:
        """All tables."""
        return self._dump(_SUBSYSTEM | _GETTABLE, _body(0), "list of tables", _decode_table)

    def base_chains(self) -> list[BaseChain]:
        """All chains with a hook."""
        return self._dump(_SUBSYSTEM | _GETCHAIN, _body(0), "list of chains", _decode_chain)

    def chain_names(self, family: str, table: str) -> list[str]:
        """Names of the table's chains."""
        found = self._raw(_GETCHAIN, _FAMILY_NUMBERS[family], "list of chains")
        return [text_of(item[_CHAIN_NAME]) for _family, item in found if text_of(item[_NAME]) == table]

    def counts(self, family: str, table: str, of_set: str) -> dict[str, Count]:
        """By link, what the elements of a set or map of names of links have counted; ENOENT if there is none."""
        body = _body(_FAMILY_NUMBERS[family], (_NAME, _text(table)), (_ELEMENT_SET, _text(of_set)))
        found = self._dump(_SUBSYSTEM | _GETSETELEM, body, "elements of a set", _decode_attributes)
        items = (item[4:] for _family, message in found for _number, item in _items(message.get(_ELEMENTS, b"")))
        return dict(map(_decode_count, items))

    def copies(self) -> dict[str, Copy]:
        """Every table by name; the names must be unique."""
        tables = self._raw(_GETTABLE, 0, "list of tables")
        parts: dict[bytes, list[tuple[int, int, bytes]]] = {item[_NAME]: [] for _family, item in tables}
        for _family, item in self._raw(_GETCHAIN, 0, "list of chains"):
            parts[item[_NAME]].append(_part(_NEWCHAIN, _CREATE, item))
        sets = self._raw(_GETSET, 0, "list of sets")
        for number, (_family, item) in enumerate(sets, start=1):
            kind, flags, more = _part(_NEWSET, _CREATE, item)
            parts[item[_NAME]].append((kind, flags, more + pack_attribute(_SET_ID, _NUMBER.pack(number))))
        for number, (family, item) in enumerate(sets, start=1):
            parts[item[_NAME]] += self._elements(family, item, number)
        for _family, item in self._raw(_GETRULE, 0, "list of rules"):
            parts[item[_NAME]].append(_part(_NEWRULE, _CREATE | _APPEND, item))
        return {
            text_of(item[_NAME]): Copy(FAMILIES[family], item.get(_TABLE_FLAGS, b""), tuple(parts[item[_NAME]]))
            for family, item in tables
        }

    def _elements(self, family: int, of: Mapping[int, bytes], number: int) -> Iterator[tuple[int, int, bytes]]:
        body = _body(family, (_NAME, of[_NAME]), (_ELEMENT_SET, of[_SET_NAME]))
        found = self._dump(_SUBSYSTEM | _GETSETELEM, body, "elements of a set", _decode_attributes)
        elements = [item for _family, message in found for _number, item in _items(message.get(_ELEMENTS, b""))]
        if int.from_bytes(of.get(_SET_FLAGS, b""), "big") & _INTERVAL and not _has_end(elements[:1]):
            elements.reverse()  # the kernel lists ranges in descending order, and accepts them in ascending order
        head = pack_attribute(_ELEMENT_SET, of[_SET_NAME])
        head += pack_attribute(_ELEMENT_SET_ID, _NUMBER.pack(number))
        for chunk in _chunks(elements):
            yield _NEWSETELEM, _CREATE, head + pack_attribute(_ELEMENTS, chunk)

    def _raw(self, kind: int, family: int, text: str) -> list[tuple[int, dict[int, bytes]]]:
        return self._dump(_SUBSYSTEM | kind, _body(family), text, _decode_attributes)

    def transact(self, messages: Sequence[Message]) -> None:
        """Send all as one transaction: all are applied or none; NetlinkError is the first failure."""
        begin, end = (
            pack_message(kind, 0, _HEADER.pack(0, 0, socket.htons(10)), "a transaction of nftables")
            for kind in (_BATCH_BEGIN, _BATCH_END)
        )
        requests = [begin, *messages, end]
        first = self._sequence + 1
        last = first + len(messages)
        self._sequence = last + 1
        text = bytearray()
        for number, message in enumerate(requests, start=first):
            at = len(text)
            text += message.payload
            struct.pack_into("=I", text, at + 8, number)
            if number == last:
                struct.pack_into("=H", text, at + 6, _ACK | struct.unpack_from("=H", text, at + 6)[0])
        # A transaction has to be sent in one piece.
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, max(1 << 20, 2 * len(text)))
        self._socket.send(text)
        self._hear(first, last, requests)

    def _hear(self, first: int, last: int, requests: Sequence[Message]) -> None:
        failed: list[tuple[int, NetlinkError]] = []
        heard = -1
        while heard < last and not (heard == first and failed):
            for heard, error in self._answers(first, [message.text for message in requests]):
                if error is not None:
                    failed.append((heard, error))
        if failed:
            raise min(failed, key=lambda item: item[0])[1]


def _chunks(elements: Iterable[bytes]) -> Iterator[bytes]:
    chunk = b""
    for element in elements:
        if len(chunk) + len(element) > _CHUNK_BYTES:
            yield chunk
            chunk = b""
        chunk += element
    if chunk:
        yield chunk


def _has_end(elements: Sequence[bytes]) -> bool:
    """Whether the elements contain the end of their range, so that no separate end element follows."""
    return any(number == _KEY_END for element in elements for number, _text in _items(element[4:]))


def _part(kind: int, flags: int, item: Mapping[int, bytes]) -> tuple[int, int, bytes]:
    return kind, flags, b"".join(pack_attribute(number, item[number]) for number in _COPIED[kind] if number in item)


def _decode_attributes(data: bytes, at: int, end: int) -> tuple[int, dict[int, bytes]]:
    return data[at], {number & 0x3FFF: value for number, value in attributes(data, at + 4, end).items()}


def _decode_generation(data: bytes, at: int, end: int) -> int:
    return int.from_bytes(attributes(data, at + 4, end)[1], "big")


def _comment(userdata: bytes) -> str:
    """The comment in userdata, which is a list of type, length and that many octets."""
    at = 0
    while at + 2 <= len(userdata):
        kind, length = userdata[at], userdata[at + 1]
        if kind == _COMMENT:
            return text_of(userdata[at + 2 : at + 2 + length])
        at += 2 + length
    return ""


def _decode_table(data: bytes, at: int, end: int) -> Table:
    family, found = _decode_attributes(data, at, end)
    comment = _comment(found.get(_TABLE_USERDATA, b""))
    return Table(FAMILIES.get(family, str(family)), text_of(found.get(_NAME, b"")), comment, _TABLE_OWNER in found)


def _decode_chain(data: bytes, at: int, end: int) -> Optional[BaseChain]:
    number, found = _decode_attributes(data, at, end)
    if _CHAIN_HOOK not in found:
        return None
    family = FAMILIES.get(number, str(number))
    hooks = _ARP_HOOKS if family == "arp" else _HOOKS
    hook_number = _NUMBER.unpack(attributes(found[_CHAIN_HOOK], 0, len(found[_CHAIN_HOOK]))[1])[0]
    hook = hooks[hook_number] if hook_number < len(hooks) and family != "netdev" else "ingress"
    table, name, kind = (text_of(found.get(item, b"")) for item in (_NAME, _CHAIN_NAME, _CHAIN_TYPE))
    return BaseChain(family, table, name, kind, hook, found.get(_CHAIN_POLICY) == bytes(4))


def _decode_count(element: bytes) -> tuple[str, Count]:
    """The link and what was counted of it."""
    found = _nested(element)
    counter: dict[int, bytes] = {}
    expressions = [item[4:] for _number, item in _items(found.get(_EXPRESSIONS, b""))]
    for expression in map(_nested, [found.get(_EXPRESSION, b""), *expressions]):
        if text_of(expression.get(_EXPRESSION_NAME, b"")) == "counter":
            counter = _nested(expression.get(_EXPRESSION_DATA, b""))
    numbers = (counter.get(_COUNTER_PACKETS), counter.get(_COUNTER_BYTES), found.get(_EXPIRATION))
    link = _nested(found.get(_KEY, b"")).get(_VALUE, b"").rstrip(b"\0")
    return link.decode(errors="replace"), Count(*(int.from_bytes(item or b"", "big") for item in numbers))


def _nested(data: bytes) -> dict[int, bytes]:
    return {number & 0x3FFF: value for number, value in attributes(data, 0, len(data)).items()}


def generation() -> Optional[tuple[int, int]]:
    """The cookie of the thread's namespace and the number of its last transaction: while both stay the same, no table
    there has changed.

    Every program's transactions raise the number (``nf_tables_commit`` in the kernel), and no two namespaces have the
    same cookie until the next boot (``SO_NETNS_COOKIE``, Linux 5.14).  None if the kernel lacks either.
    """
    try:
        with Netfilter() as netfilter:
            return netfilter.generation()
    except OSError:
        return None


def tables() -> dict[tuple[str, str], Table]:
    """All tables by family and name; none if the kernel lacks nftables."""
    try:
        with Netfilter() as netfilter:
            return {(table.family, table.name): table for table in netfilter.tables()}
    except NetlinkError as error:
        if error.errno in (errnos.EINVAL, errnos.EPROTONOSUPPORT):
            return {}
        raise
    except OSError:
        return {}


def put(messages: Sequence[Message]) -> None:
    """`Netfilter.transact` with a socket of its own."""
    with Netfilter() as netfilter:
        netfilter.transact(messages)


def has_iptables_chain(family: int, name: str) -> bool:
    """Whether the table ``filter`` of iptables on nftables has a chain; False if it cannot be read."""
    with contextlib.suppress(OSError), Netfilter() as netfilter:
        return name in netfilter.chain_names(NFT_PROTOCOL[family], "filter")
    return False
