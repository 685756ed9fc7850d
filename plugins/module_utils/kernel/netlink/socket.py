# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The netlink socket: sends requests in batches and reads whole tables."""

from __future__ import annotations

import contextlib
import errno as errnos
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Optional, TypeVar

from .bulk import Alike, GroupingDecoder
from .decode import (
    Decode,
    decode_address,
    decode_attributes,
    decode_fdb,
    decode_link,
    decode_namespace_id,
    decode_neighbour,
    decode_route,
    decode_rule,
)
from .format import (
    AF_BRIDGE,
    IFADDRMSG,
    IFINFOMSG,
    NDMSG,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_CAPPED,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGHDR,
    RTGENMSG,
    RTM_GETADDR,
    RTM_GETLINK,
    RTM_GETNEIGH,
    RTM_GETNSID,
    RTM_GETROUTE,
    RTM_GETRULE,
    RTMSG,
    RTN_UNICAST,
    U32,
    Entry,
    Message,
    NetlinkError,
    pack_attribute,
    text_of,
)

N = TypeVar("N", bound="Netlink")

_CHUNK_BYTES, _CHUNK_MESSAGES, _ATTEMPTS = 65536, 200, 10
_SKIP_STATISTICS = pack_attribute(29, U32.encode(8))


def _chunks(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    start = size = 0
    for position, message in enumerate(messages):
        if position > start and (size + len(message.payload) > _CHUNK_BYTES or position - start == _CHUNK_MESSAGES):
            yield messages[start:position]
            start, size = position, 0
        size += len(message.payload)
    if start < len(messages):
        yield messages[start:]


class Netlink:
    """A socket in the network namespace that the calling thread is in; it stays there."""

    _protocol = int(socket.NETLINK_ROUTE)

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, self._protocol)
        # Kernels older than 4.20 lack some of these: their errors say less, and their dumps filter less.
        for option in (11, 10, 12):  # NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK
            with contextlib.suppress(OSError):
                self._socket.setsockopt(270, option, 1)  # SOL_NETLINK
        for option in (33, socket.SO_RCVBUF):  # SO_RCVBUFFORCE: beyond net.core.rmem_max, for root
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, option, 4 << 20)
                break
        self._socket.bind((0, 0))
        self._buffer = bytearray(_CHUNK_BYTES)
        self._view = memoryview(self._buffer)
        self._sequence = 0
        self.most: Optional[int] = None
        """The largest number of entries that is read from a table; a larger table is an error."""

    def close(self) -> None:
        self._socket.close()

    def __enter__(self: N) -> N:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Send in order, in batches of up to 200.  Raises NetlinkError for the first message that failed.

        The rest of its batch was executed nevertheless, later batches were not sent.
        """
        for chunk in _chunks(messages):
            for error in self._exchange(chunk):
                if error is not None:
                    raise error

    def try_send(self, messages: Sequence[Message]) -> list[Optional[NetlinkError]]:
        """Send all in order; returns the error of each message, or None."""
        return [error for chunk in _chunks(messages) for error in self._exchange(chunk)]

    def links(self) -> list[Entry]:
        """All links.

        index, name, mac ("" if none), mtu, up, running, carrier, loopback, master, link (0 if none), link_netnsid (or
        None), alias, group, kind ("" for physical ones), data and port (as `new_link` and `set_link` take them),
        slave (the kind of link it is a port of, or ""),
        forwarding4, rp_filter, route_localnet, forwarding6, accept_ra, disable_ipv6, addr_gen_mode (None without that
        family).
        """
        return self._dump(RTM_GETLINK, IFINFOMSG.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS, "list of links", decode_link)

    def link(self, name: str) -> Optional[Entry]:
        """One of `links`, by its name; None if there is none."""
        body = IFINFOMSG.pack(0, 0, 0, 0, 0) + _SKIP_STATISTICS + pack_attribute(3, os.fsencode(name) + b"\0")
        try:
            found = self._ask(RTM_GETLINK, NLM_F_ACK, body, f"look-up of link {name}", decode_link)
        except NetlinkError as error:
            if error.errno == errnos.ENODEV:
                return None
            raise
        return found[0] if found else None

    def namespace_id(self, descriptor: int) -> Optional[int]:
        """The ``link_netnsid`` of the network namespace of an open file; None if it has no number yet."""
        body = RTGENMSG + pack_attribute(3, U32.encode(descriptor))
        (found,) = self._ask(RTM_GETNSID, NLM_F_ACK, body, "look-up of a namespace's number", decode_namespace_id) or [
            -1
        ]
        return found if found >= 0 else None

    def addresses(self) -> list[Entry]:
        """All addresses: index, address (``10.0.0.2/24``), family, scope, permanent, flags."""
        return self._dump(RTM_GETADDR, IFADDRMSG.pack(0, 0, 0, 0, 0), "list of addresses", decode_address)

    def routes(self) -> list[Entry]:
        """The unicast routes of all tables but the local one; one with several next hops has neither via nor dev.

        destination (``default`` or ``10.0.0.0/24``), family, via, dev, protocol, table, metric, scope, source, type.
        """
        return self._dump(RTM_GETROUTE, RTMSG.pack(0, 0, 0, 0, 0, 0, 0, RTN_UNICAST, 0), "list of routes", decode_route)

    def rules(self) -> list[Entry]:
        """The rules of policy routing: family, priority, iif, destination, table (0 for none), action, protocol."""
        return self._dump(RTM_GETRULE, RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0), "list of rules", decode_rule)

    def neighbours(self) -> list[Entry]:
        """The ARP and ND tables: index, address, mac ("" while unknown), state, permanent."""
        return self._dump(RTM_GETNEIGH, NDMSG.pack(0, 0, 0, 0, 0), "list of neighbours", decode_neighbour)

    def fdb(self, index: int = 0) -> list[Entry]:
        """Forwarding entries: index, mac, dst, master, vlan (or None), self, permanent, static, sticky, extern_learn.

        With an ``index`` only that link's own entries, and the entries for it in the bridge it is a port of.
        """
        body = NDMSG.pack(AF_BRIDGE, index, 0, 0, 0)
        entries = self._dump(RTM_GETNEIGH, body, "list of forwarding entries", decode_fdb)
        return [entry for entry in entries if entry["index"] == index] if index else entries

    def neighbours_alike(self) -> list[Alike]:
        """`neighbours` in groups, which is faster for large tables."""
        return self._dump(
            RTM_GETNEIGH, NDMSG.pack(0, 0, 0, 0, 0), "list of neighbours", GroupingDecoder(decode_neighbour)
        )

    def fdb_alike(self, index: int = 0) -> list[Alike]:
        """`fdb` in groups, which is faster for large tables."""
        body = NDMSG.pack(AF_BRIDGE, index, 0, 0, 0)
        entries = self._dump(RTM_GETNEIGH, body, "list of forwarding entries", GroupingDecoder(decode_fdb))
        return [entry for entry in entries if not index or entry.first.get("index") == index]

    def _receive(self) -> bytes:
        """One datagram."""
        size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        if size > len(self._buffer):
            raise NetlinkError(errnos.EMSGSIZE, "the kernel's answer is too large")
        return bytes(self._view[:size])

    def _exchange(self, chunk: Sequence[Message]) -> list[Optional[NetlinkError]]:
        """Send a chunk; the kernel answers each message that fails, and the last one, which asks for it."""
        first = self._sequence + 1
        request = bytearray(b"".join([message.payload for message in chunk]))
        at = 0
        for message in chunk:
            self._sequence += 1
            struct.pack_into("=I", request, at + 8, self._sequence)
            at += len(message.payload)
        last = at - len(chunk[-1].payload) + 6
        struct.pack_into("=H", request, last, NLM_F_ACK | struct.unpack_from("=H", request, last)[0])
        self._socket.send(request)
        errors: list[Optional[NetlinkError]] = [None] * len(chunk)
        answered = False
        while not answered:
            for sequence, error in self._answers(first, [message.text for message in chunk]):
                errors[sequence - first] = error
                answered = sequence == self._sequence
        return errors

    def _answers(self, first: int, texts: Sequence[str]) -> Iterator[tuple[int, Optional[NetlinkError]]]:
        """The answers in a datagram: sequence number, from ``first`` on, and error or None."""
        data, at = self._receive(), 0
        while (header := _header(data, at)) is not None:
            end, kind, flags, sequence = header
            if kind == NLMSG_ERROR and first <= sequence < first + len(texts):
                yield sequence, _error(data, flags, at + 16, end, texts[sequence - first])
            at = (end + 3) & ~3

    def _dump(self, kind: int, body: bytes, text: str, decode: Decode) -> list[Any]:
        for _attempt in range(_ATTEMPTS):
            entries = self._ask(kind, NLM_F_DUMP, body, text, decode)
            if entries is not None:
                return entries
        raise NetlinkError(errnos.EAGAIN, f"the table changed during each of {_ATTEMPTS} reads", text)

    def _ask(self, kind: int, flags: int, body: bytes, text: str, decode: Decode) -> Optional[list[Any]]:
        """The entries of the answer, or None if the kernel says the dump was interrupted."""
        self._sequence += 1
        self._socket.send(NLMSGHDR.pack(16 + len(body), kind, flags | NLM_F_REQUEST, self._sequence, 0) + body)
        entries: list[Any] = []
        seen = 0
        while True:
            data, at = self._receive(), 0
            while (header := _header(data, at)) is not None:
                end, answer, answer_flags, sequence = header
                start, at = at + 16, (end + 3) & ~3
                if sequence != self._sequence:
                    continue  # left unread by an interrupted call
                seen |= answer_flags
                if answer in (NLMSG_DONE, NLMSG_ERROR):
                    error = _error(data, answer_flags, start, end, text)
                    if error is not None:
                        raise error
                    return None if seen & NLM_F_DUMP_INTR else entries
                entry = decode(data, start, end)
                if isinstance(entry, Alike):
                    at = start - 16 + (at - start + 16) * entry.size
                if entry is not None:
                    entries.append(entry)
            if self.most is not None and len(entries) > self.most:
                raise NetlinkError(errnos.E2BIG, f"there are more than {self.most:,} entries", text)


def _header(data: bytes, at: int) -> Optional[tuple[int, int, int, int]]:
    """End, type, flags and sequence number of the message that begins there; None if there is none."""
    if at + 16 > len(data):
        return None
    length, kind, flags, sequence, _port = NLMSGHDR.unpack_from(data, at)
    return (at + length, kind, flags, sequence) if length >= 16 else None


def _error(data: bytes, flags: int, at: int, end: int, text: str) -> Optional[NetlinkError]:
    """The error in an acknowledgement or at the end of a dump; None for success."""
    (code,) = struct.unpack_from("=i", data, at)
    if code >= 0:
        return None
    words = ""
    if flags & NLM_F_ACK_TLVS:
        # After the code comes the request's header and, unless capped, the rest of the request.
        echoed = 16 if flags & NLM_F_CAPPED else (NLMSGHDR.unpack_from(data, at + 4)[0] + 3) & ~3
        words = decode_attributes({1: ("words", text_of)}, data, at + 4 + echoed, end).get("words", "")
    return NetlinkError(-code, words, text)
