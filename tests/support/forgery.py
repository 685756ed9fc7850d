# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""VXLAN that no VXLAN link has sent, whether it is heard, and the rules against it, for the two machines on a wire."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from host import run_command
from machines import Machine
from overlay_resources import VNI, VTEPS, addresses_of, mac_of

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import (
    DATA_PATH_PORT,
    encrypted_data_path_port,
    table_name,
)
from ansible_collections.cnm.fabric.plugins.module_utils.plan.nftables import Nftables
from ansible_collections.cnm.fabric.plugins.plugin_utils.firewall.overlays import overlay_chains, overlay_sets

PORT = 7777
"""Where a sandbox listens."""

SECRET_PORT = encrypted_data_path_port(DATA_PATH_PORT)
"""By which encrypted overlays travel."""

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def rules_about_vxlan(
    machine: Machine, project: str, vnis: Sequence[int] = (VNI,), encrypted: Sequence[int] = (), underlay: int = 4
) -> Nftables:
    """The host's table with nothing else in it; what the host would fill in is there: the other machine's VTEP."""
    vteps = dict(enumerate(VTEPS[underlay][:2]))
    networks: list[Any] = []
    for vni in vnis:
        network = SimpleNamespace(encrypted=vni in encrypted)
        tunnel = SimpleNamespace(vni=vni, port=SECRET_PORT if network.encrypted else 4789, vteps=vteps)
        shared = SimpleNamespace(table=str(vni))
        networks.append(SimpleNamespace(tunnel=tunnel, shared=shared, network=network, host=machine.number))
    known = tuple(f"{vni} . {vteps[1 - machine.number]}" for vni in vnis)
    sets = [
        replace(item, tables=(), elements=known if item.name == f"vteps{underlay}" else item.elements)
        for item in overlay_sets(networks)
    ]
    chains = tuple(overlay_chains(project, networks, f"w{machine.number}"))
    return Nftables("", "inet", table_name(project), "host", tuple(sets), chains)


def vxlan_frame(vni: int, box: str, payload: bytes = b"forged") -> bytes:
    """VXLAN's header and, in its frame, a datagram from sandbox a."""
    udp = struct.pack(">HHHH", 9, PORT, 8 + len(payload), 0) + payload
    sender, target = (socket.inet_aton(addresses_of(name)[0]) for name in ("a", box))
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + sender + target
    total = sum(struct.unpack(">10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack(">H", ~(total + (total >> 16)) & 0xFFFF) + header[12:]
    frame = b"".join(bytes.fromhex(mac_of(name).replace(":", "")) for name in (box, "a")) + b"\x08\x00"
    return struct.pack(">BBHI", 8, 0, 0, vni << 8) + frame + header + udp


def sending(
    machine: Machine,
    box: str = "c",
    *,
    source: str = "",
    target: str = "",
    port: int = 0,
    vni: int = VNI,
    underlay: int = 4,
    payload: bytes = b"forged",
    to_port: int = 4789,
) -> Callable[[], None]:
    """What sends such a datagram from the machine to the other, by an ordinary socket of root."""
    source = source or VTEPS[underlay][machine.number]
    target = target or VTEPS[underlay][1 - machine.number]

    def send() -> None:
        with socket.socket(FAMILIES[underlay], socket.SOCK_DGRAM) as outside:
            outside.bind((source, port))
            outside.sendto(vxlan_frame(vni, box, payload), (target, to_port))

    return lambda: machine.run(send)


def heard(machine: Machine, send: Callable[[], None], box: str = "c", payload: bytes = b"forged") -> bool:
    """Whether the datagram reaches the sandbox."""

    def listen() -> socket.socket:
        return socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    with Host(machine.project, run_command) as host, host.run_in(box, listen) as listener:
        listener.bind(("0.0.0.0", PORT))
        listener.settimeout(1)
        send()
        try:
            return listener.recv(65535) == payload
        except socket.timeout:
            return False
