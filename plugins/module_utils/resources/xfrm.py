# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Encryption of overlays: ESP between this host's VTEP and each peer's, for VXLAN packets from one source port.

For each peer there are inbound keys of the previous, the present and the next epoch, and outbound keys of the previous
and the present one; a policy selects one of the two.  So a host can decrypt packets of a peer that enters the next
epoch first, and packets in transit still find their key.  Another policy requires that packets from the peer are
encrypted.  Policies for all other addresses block both directions; they are created before the first peer and removed
after the last.  None of this depends on nftables, whose rules enforce the same a second time.

A process renews states before they run out (``renewal.py``); whether it runs is compared too.

The kernel's state is compared, keys included, but keys are never shown or stored.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from pathlib import Path
from typing import Optional, TypeVar

from .. import renewal
from ..kernel import namespaces
from ..kernel.host import Host
from ..kernel.netlink import Message, NetlinkError
from ..kernel.xfrm import (
    ALLOW,
    BLOCK,
    ESP,
    IN,
    OUT,
    Policy,
    State,
    XfrmSocket,
    delete_policy,
    delete_state,
    ends,
    new_policy,
    new_state,
    selector,
    template,
)
from ..plan.base import Key
from ..plan.constants import MODULES_PACKAGE
from ..plan.encryption import Xfrm
from ..plan.esp import epoch_of, security_index, ways
from ..plan.families import family_of
from ..plan.marks import ENCRYPTED_PORT, request_id
from ..plan.records import dataclass
from .base import Difference, Found, Kind, Operation
from .entry_table import shortened

T = TypeVar("T")

_FIRST, _LAST = 0, 1
"""Priorities: a peer's policy precedes the one for all other addresses; both precede foreign ones, if above 0."""

_EVERYBODY_ELSE, _THIS_HOST = "everybody else", "this host"
_ANY = {4: "0.0.0.0", 6: "::"}
_SOCKETS = Path("/proc/thread-self/net/netlink")
_NETLINK_XFRM = "6"
_GONE = (errno.ENOENT, errno.ESRCH)
_TRIAL = {4: ("192.0.2.1", "192.0.2.2"), 6: ("2001:db8::1", "2001:db8::2")}


@dataclass
class _Content:
    """States and policies by identity, with a description of each by peer."""

    states: dict[object, State] = field(default_factory=dict)
    policies: dict[object, Policy] = field(default_factory=dict)
    about: dict[object, tuple[str, str]] = field(default_factory=dict)
    spi_collisions: list[str] = field(default_factory=list)
    """Peers whose SPIs collide with another's."""

    def add(self, policy: Policy, peer: str, words: str) -> None:
        """Add a policy."""
        self.policies[policy.identity] = policy
        self.about[policy.identity] = (peer, words)


def lacking(family: int) -> Optional[str]:
    """A sentence if the kernel lacks ESP; tried in a temporary namespace."""
    source, destination = _TRIAL[family]
    chosen = selector(source, destination, ENCRYPTED_PORT, 4789)
    trial = State(source, destination, security_index("", source, 0), 1, chosen, bytes(range(20)))
    try:
        namespaces.run_in_new(_try, trial)
    except OSError as error:
        reason = error.message if isinstance(error, NetlinkError) else error.strerror
        return (
            f"this kernel has no ESP with AES-GCM for IPv{family} ({reason}): load its module esp{family} (modprobe "
            f"esp{family}; {MODULES_PACKAGE}), use a kernel that has it, or remove `encrypted` from the networks"
        )
    return None


def _try(state: State) -> None:
    with XfrmSocket() as socket:
        socket.send([new_state(state)])


def _read() -> tuple[list[State], list[Policy]]:
    """All states and policies.  Does not load the kernel's module: without it there are none."""
    if not _is_there():
        return [], []
    with XfrmSocket() as xfrm:
        return xfrm.states(), xfrm.policies()


def _is_there() -> bool:
    """Whether the kernel's module is loaded."""
    lines = _SOCKETS.read_text(encoding="ascii").splitlines()
    return any(line.split()[1] == _NETLINK_XFRM for line in lines)


def _renew(project: str) -> None:
    if _is_there():
        renewal.look(project)


def _send(messages: Iterable[Message]) -> None:
    with XfrmSocket() as xfrm:
        xfrm.send(list(messages))


def _send_later(messages: Iterable[Message]) -> None:
    """Send the messages after the packets that are being sent now have left.

    Closing a packet socket waits for that (``packet_release`` in the kernel: ``synchronize_net``).
    """
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    _send(messages)


def _remove(messages: Iterable[Message]) -> None:
    with XfrmSocket() as xfrm:
        for error in xfrm.try_send(list(messages)):
            if error is not None and error.errno not in _GONE:
                raise error


def _shown(state: State) -> bool:
    """Whether the kernel shows the key; a kernel locked down for confidentiality shows zeros."""
    return any(state.key)


def _same_state(wanted: State, found: State) -> bool:
    """Treat a hidden key as the right one."""
    right = wanted.key == found.key or not wanted.key or not _shown(found)
    return right and wanted == found and bool(wanted.limit) == bool(found.limit) and found.sent < renewal.WORN


class XfrmKind(Kind[Xfrm]):
    """ESP with the project's reqid, as ``ip xfrm state`` and ``ip xfrm policy`` list it."""

    name = "xfrm"
    stages = (8,)

    def __init__(self) -> None:
        self._seen: dict[tuple[str, int], bytes] = {}
        """Keys at the start of the run by destination and SPI, for undoing: the host cannot derive them again."""

    # --- wanted ---

    def _content(self, host: Host, item: Xfrm) -> _Content:
        result = _Content()
        reqid, anybody = request_id(host.project), _ANY[family_of(item.local)]
        # Their templates have no effect; the reqid in them marks the policies as ours.
        templates = (template(item.local, anybody, 0, reqid),)
        rest = selector(anybody, anybody, ENCRYPTED_PORT, item.port)
        result.add(Policy(rest, BLOCK, _LAST, templates), _EVERYBODY_ELSE, "policy that blocks sending")
        rest = selector(anybody, anybody, 0, item.port)
        result.add(Policy(rest, BLOCK, _LAST, templates, IN), _EVERYBODY_ELSE, "policy that blocks clear text")
        for peer in item.peers:
            for state, words in self._states(host, item, peer):
                if state.identity in result.states:
                    result.spi_collisions.append(peer)
                result.states[state.identity] = state
                result.about[state.identity] = (peer, words)
            spi = security_index(host.project, item.local, item.epoch)
            chosen = selector(item.local, peer, ENCRYPTED_PORT, item.port)
            sending = Policy(chosen, ALLOW, _FIRST, (template(item.local, peer, spi, reqid),))
            result.add(sending, peer, "policy to encrypt")
            chosen = selector(peer, item.local, ENCRYPTED_PORT, item.port)
            hearing = Policy(chosen, ALLOW, _FIRST, (template(peer, item.local, 0, reqid),), IN)
            result.add(hearing, peer, "policy that requires encryption")
        return result

    def _states(self, host: Host, item: Xfrm, peer: str) -> Iterator[tuple[State, str]]:
        reqid = request_id(host.project)
        for way in ways(item.local, peer, item.epoch):
            chosen = selector(way.source, way.destination, ENCRYPTED_PORT, item.port)
            spi = security_index(host.project, way.source, way.epoch)
            key = host.pair_keys.get(way) or self._seen.get((way.destination, spi), b"")
            sends = way.source == item.local
            words = f"key to {'send' if sends else 'receive'} in epoch {way.epoch}"
            limit = renewal.LOOK if sends else 0
            yield State(way.source, way.destination, spi, reqid, chosen, key, limit=limit), words

    # --- found ---

    @staticmethod
    def _own_content(host: Host) -> _Content:
        """The kernel's states and policies with the project's reqid."""
        reqid = request_id(host.project)
        states, policies = host.run_in("", _read)
        return _Content(
            {item.identity: item for item in states if item.reqid == reqid and item.protocol == ESP},
            {item.identity: item for item in policies if reqid in item.reqids},
        )

    def observe(self, host: Host, wanted: Sequence[Xfrm]) -> dict[Key, Found[Xfrm]]:
        own = self._own_content(host)
        for state in own.states.values():
            if _shown(state):
                self._seen.setdefault((state.destination, state.spi), state.key)
        renewed = host.run_in("", renewal.is_running, host.project)
        if not own.states and not own.policies and not renewed:
            return {}
        found = _described(own, wanted[0] if wanted else Xfrm(_ANY[4]))
        flaws = _flaws(self._content(host, found), own, found.local)
        if not renewed:
            flaws[_THIS_HOST] = "no process that renews its keys"
        return {found.key: Found(replace(found, flaws=flaws))}

    def differences(self, wanted: Xfrm, found: Xfrm) -> list[Difference]:
        result = [
            Difference(name, getattr(wanted, name), getattr(found, name))
            for name in ("local", "port", "epoch")
            if getattr(wanted, name) != getattr(found, name)
        ]
        want, have = set(wanted.peers), set(found.peers)
        if want != have:
            result.append(Difference("peers", shortened(want - have), shortened(have - want)))
        if found.flaws:
            texts = [f"{peer}: {words}" for peer, words in found.flaws.items()]
            result.append(Difference("flaws", [], shortened(texts)))
        return result

    def check_dependencies(self, host: Host, wanted: Sequence[Xfrm]) -> Optional[str]:
        for item in wanted:
            missing = lacking(family_of(item.local))
            if missing is not None:
                return missing
            content, own = self._content(host, item), self._own_content(host)
            absent = {
                content.about[identity][0]
                for identity, state in content.states.items()
                if not state.key and identity not in own.states
            }
            if absent:
                who = ", ".join(shortened(absent))
                return f"the keys of the encrypted networks for {who} were not sent: run cnm.fabric.site"
            problem = self._in_the_way(host, content, own)
            if problem is not None:
                return problem
        return None

    @staticmethod
    def _in_the_way(host: Host, content: _Content, own: _Content) -> Optional[str]:
        """Foreign states and policies that conflict with ours."""
        if content.spi_collisions:
            return (
                f"the SPIs derived from the address {content.spi_collisions[0]} are the same as those of another peer: "
                "set another cnm_underlay_address for one of the two hosts"
            )
        states, policies = host.run_in("", _read)
        for state in states:
            if state.identity in content.states and state.identity not in own.states:
                return f"the {state.text} is not this project's and has an SPI that this project needs: remove it"
        for policy in policies:
            if policy.identity in content.policies and policy.identity not in own.policies:
                return (
                    f"the {policy.text} is not this project's and conflicts with one of this project: remove it, or "
                    "set another cnm_data_path_port if it belongs to another project on this host"
                )
        return None

    # --- changes ---

    def create(self, host: Host, resources: Sequence[Xfrm]) -> None:
        for item in resources:
            self._apply_content(host, self._content(host, item))
            host.run_in("", renewal.start, host.project)

    def change(self, host: Host, operations: Sequence[Operation[Xfrm]]) -> None:
        self.create(host, [operation.resource for operation in operations])

    def delete(self, host: Host, resources: Sequence[Xfrm]) -> None:
        if resources:
            host.run_in("", renewal.stop, host.project)
            self._apply_content(host, _Content())

    def _apply_content(self, host: Host, wanted: _Content) -> None:
        """Apply changes in an order that never sends clear text and never drops packets that have a right key.

        Packets that use a wrong key are blocked while it is recreated.
        """
        host.run_in("", _renew, host.project)
        found = self._own_content(host)
        blocks, peers = _divided(wanted.policies)
        blocking, peering = _divided(found.policies)
        # States whose key is no longer known can be left out: their epoch precedes the one that is restored.
        right = {identity: state for identity, state in wanted.states.items() if state.key}
        spoilt = {
            identity
            for identity, state in found.states.items()
            if identity in right and not _same_state(right[identity], state)
        }
        ways = {(found.states[identity].destination, found.states[identity].spi) for identity in spoilt}
        stopped = {
            identity
            for identity, policy in peering.items()
            if any((ends(policy.selector)[1], spi) in ways for spi in policy.spis)
        }
        host.run_in("", _send, _writing(blocks, blocking))
        host.run_in("", _remove, [delete_policy(peering[identity]) for identity in stopped])
        host.run_in("", _remove, [delete_state(found.states[identity]) for identity in spoilt])
        there = found.states.keys() - spoilt
        host.run_in("", _send, [new_state(state) for identity, state in right.items() if identity not in there])
        left = {identity: policy for identity, policy in peering.items() if identity not in stopped}
        host.run_in("", _send, _writing(peers, left))
        # A packet that was routed during the change may have left a route with the old key in IPv6's cache, and Linux
        # 6.1 believes that entry to be new.  It would be used until the key is removed, which the peer does earlier.
        # Setting the policies once more invalidates the entry.
        again = _writing({identity: policy for identity, policy in peers.items() if identity in left}, left)
        if again:
            host.run_in("", _send_later, again)
        host.run_in("", _remove, [delete_policy(policy) for identity, policy in left.items() if identity not in peers])
        stale = [state for identity, state in found.states.items() if identity not in wanted.states]
        host.run_in("", _remove, [delete_state(state) for state in stale])
        host.run_in(
            "", _remove, [delete_policy(policy) for identity, policy in blocking.items() if identity not in blocks]
        )


def _divided(policies: Mapping[object, Policy]) -> tuple[dict[object, Policy], dict[object, Policy]]:
    """Policies for all other addresses, and those of peers."""
    blocks = {identity: policy for identity, policy in policies.items() if ends(policy.selector)[1] in _ANY.values()}
    return blocks, {identity: policy for identity, policy in policies.items() if identity not in blocks}


def _peer(policy: Policy) -> str:
    source, destination, _port = ends(policy.selector)
    return destination if policy.direction == OUT else source


def _writing(wanted: Mapping[object, Policy], found: Mapping[object, Policy]) -> list[Message]:
    return [
        new_policy(policy, replace=identity in found)
        for identity, policy in wanted.items()
        if policy != found.get(identity)
    ]


def _described(own: _Content, wanted: Xfrm) -> Xfrm:
    """The resource that most of the kernel's content corresponds to, with the epoch nearest to the wanted one."""
    blocks, peering = _divided(own.policies)
    addresses = [address for state in own.states.values() for address in (state.source, state.destination)]
    leaving = [policy for policy in own.policies.values() if policy.direction == OUT]
    senders = [sender for policy in leaving for sender in policy.senders]
    everything = blocks or peering or own.states
    local = _most(senders or addresses, wanted.local)
    sending = [policy for policy in leaving if policy.identity in peering]
    peers = {*addresses, *map(_peer, peering.values())}
    return Xfrm(
        local,
        _most([ends(item.selector)[2] for item in everything.values()], wanted.port),
        _most([epoch_of(spi, wanted.epoch) for item in sending for spi in item.spis], wanted.epoch),
        peers=tuple(sorted(peers - {local})),
    )


def _most(values: Sequence[T], preferred: T) -> T:
    """The most frequent value; the preferred one if several are, or if there is none."""
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], value != preferred, str(value)), default=preferred)


def _flaws(wanted: _Content, found: _Content, local: str) -> dict[str, str]:
    """For each peer, a text that says what is missing, wrong or superfluous."""
    problems: dict[str, list[str]] = {}
    for identity, (peer, words) in wanted.about.items():
        problem = _flaw(words, wanted, found, identity)
        if problem:
            problems.setdefault(peer, []).append(problem)
    for state in found.states.values():
        if state.identity not in wanted.states:
            peer = state.destination if state.source == local else state.source
            problems.setdefault(peer, []).append(f"a key that is not planned (SPI {state.spi:#x})")
    for policy in found.policies.values():
        if policy.identity not in wanted.policies:
            problems.setdefault(_peer(policy), []).append("a policy that is not planned")
    return {peer: ", ".join(problems[peer]) for peer in sorted(problems)}


def _flaw(words: str, wanted: _Content, found: _Content, identity: object) -> str:
    if identity in wanted.policies:
        have = found.policies.get(identity)
        right = have == wanted.policies[identity]
        return "" if right else f"another {words}" if have is not None else f"no {words}"
    state = found.states.get(identity)
    if state is None:
        return f"no {words}"
    if _same_state(wanted.states[identity], state):
        return ""
    return f"a worn {words}" if state.sent >= renewal.WORN else f"another {words}"
