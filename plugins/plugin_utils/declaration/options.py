# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Driver options of networks: Docker's own keys, each checked and put in one form.

Options of other collections' drivers are their drivers' matter.  An empty option is one that is not set, as in Docker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Optional

from ...module_utils.plan.families import family_of
from .addresses import read_address, why_unusable
from .errors import VarPath
from .names import LINK, LINK_PREFIX, name
from .ports import why_no_binding
from .topology import Network, Pairs
from .validation import did_you_mean
from .values import scalar

Reader = Callable[[str, VarPath], str]
"""The option's text in one form, empty if it is wrong, which is noted."""

_SMALLEST_MTU, _LARGEST_MTU = 68, 65535
_TRUE, _FALSE = ("1", "t", "true", "yes"), ("0", "f", "false", "no")
_MODES = ("nat", "nat-unprotected", "routed", "isolated")


def _boolean(text: str, path: VarPath) -> str:
    if text.lower() in (*_TRUE, *_FALSE):
        return "true" if text.lower() in _TRUE else "false"
    path.wrong("This must be true or false.", "Write true or false.", text)
    return ""


def _number(smallest: int, largest: int) -> Reader:
    def read(text: str, path: VarPath) -> str:
        if text.isascii() and text.isdigit() and len(text) < 9 and smallest <= int(text) <= largest:
            return str(int(text))
        path.wrong(f"This is a number from {smallest} to {largest}.", f"Write for example {largest}.", text)
        return ""

    return read


def _mtu(text: str, path: VarPath) -> str:
    if text.isascii() and text.isdigit() and len(text) < 9:
        number = int(text)
        if number == 0 or _SMALLEST_MTU <= number <= _LARGEST_MTU:
            return str(number)
    path.wrong(f"An MTU is a number from {_SMALLEST_MTU} to {_LARGEST_MTU}, or 0 for the default.", "Write 1500.", text)
    return ""


def _link(text: str, path: VarPath) -> str:
    return name(text, LINK, path) or ""


def _links(text: str, path: VarPath) -> str:
    found = [name(part, LINK, path) for part in text.split(":")]
    return ":".join(dict.fromkeys(link for link in found if link))


def _prefix(text: str, path: VarPath) -> str:
    return name(text, LINK_PREFIX, path) or ""


def _mode(text: str, path: VarPath) -> str:
    if text in _MODES:
        return text
    path.wrong("There is no such gateway mode.", did_you_mean(text, _MODES, f"It is {' or '.join(_MODES)}."), text)
    return ""


def _binding(text: str, path: VarPath) -> str:
    address = read_address(text.removeprefix("[").removesuffix("]"), path, 0)
    reason = why_no_binding(address) if address else ""
    if reason:
        path.wrong(reason, "Write an address of the host, `127.0.0.1`, or leave it out for all addresses.", text)
    return str(address) if address and not reason else ""


def _source(family: int) -> Reader:
    def read(text: str, path: VarPath) -> str:
        address = read_address(text, path, family)
        reason = why_unusable(address) if address else ""
        if reason:
            path.wrong(f"No packet can leave the host with this address: {reason}.", "Write one the host has.", text)
        return str(address) if address and not reason else ""

    return read


_NET = "com.docker.network."
_B = _NET + "bridge."
BINDING = _B + "host_binding_ipv4"
MODE = {family: f"{_B}gateway_mode_ipv{family}" for family in (4, 6)}
SOURCE = {family: f"{_NET}host_ipv{family}" for family in (4, 6)}
ENABLE = {family: f"{_NET}enable_ipv{family}" for family in (4, 6)}

BRIDGE_OPTIONS: dict[str, Reader] = {
    _B + "name": _link,
    _B + "enable_ip_masquerade": _boolean,
    _B + "enable_icc": _boolean,
    BINDING: _binding,
    MODE[4]: _mode,
    MODE[6]: _mode,
    _B + "inhibit_ipv4": _boolean,
    _B + "trusted_host_interfaces": _links,
    "com.docker.network.driver.mtu": _mtu,
    "com.docker.network.container_iface_prefix": _prefix,
    SOURCE[4]: _source(4),
    SOURCE[6]: _source(6),
    ENABLE[4]: _boolean,
    ENABLE[6]: _boolean,
    _NET + "advertise_addr_nmsgs": _number(0, 3),
    _NET + "advertise_addr_ms": _number(100, 2000),
}
"""What a bridge network understands, and how its text is checked and put in one form."""


def _vni(text: str, path: VarPath) -> str:
    if "," in text:
        path.wrong("An overlay has one VNI, whatever number of subnets it has.", "Write the first of them alone.", text)
        return ""
    return _number(1, 2**24 - 1)(text, path)


def _encrypted(text: str, path: VarPath) -> str:
    path.wrong("Encryption is a key of the network itself.", "Write `encrypted: true` beside driver_opts.", text)
    return ""


VNI = _NET + "driver.overlay.vxlanid_list"
MTU = _NET + "driver.mtu"

OVERLAY_OPTIONS: dict[str, Reader] = {
    VNI: _vni,
    "encrypted": _encrypted,
    **{key: BRIDGE_OPTIONS[key] for key in (MTU, "com.docker.network.container_iface_prefix", ENABLE[4], ENABLE[6])},
}
"""The same of an overlay; its MTU is that of the underlay, as in Docker."""

MACVLAN_MODES = ("bridge", "private", "vepa", "passthru")
IPVLAN_MODES = ("l2", "l3", "l3s")
IPVLAN_FLAGS = ("bridge", "private", "vepa")
PARENT, MACVLAN_MODE, IPVLAN_MODE, IPVLAN_FLAG = "parent", "macvlan_mode", "ipvlan_mode", "ipvlan_flag"
HOST_ACCESS = "host_access"
_LARGEST_VLAN = 4094


def _word(noun: str, words: tuple[str, ...]) -> Reader:
    def read(text: str, path: VarPath) -> str:
        if text in words:
            return text
        path.wrong(f"There is no such {noun}.", did_you_mean(text, words, f"It is {' or '.join(words)}."), text)
        return ""

    return read


def _parent(text: str, path: VarPath) -> str:
    if text == "lo":
        path.wrong("The loopback leads to no network.", "Write the link that does, like `eth0`.", text)
        return ""
    base, dot, number = text.rpartition(".")
    if dot and number.isdigit() and not 1 <= int(number) <= _LARGEST_VLAN:
        path.wrong(
            f"There is no VLAN {number[:10]}: their IDs go from 1 to {_LARGEST_VLAN} (IEEE 802.1Q).",
            f"Write a link and a VLAN's ID, like `{base[:10] or 'eth0'}.10`.",
            text,
        )
        return ""
    return name(text, LINK, path) or ""


_LAN_OPTIONS: dict[str, Reader] = {
    PARENT: _parent,
    HOST_ACCESS: _boolean,
    **{
        key: BRIDGE_OPTIONS[key]
        for key in (
            MTU,
            "com.docker.network.container_iface_prefix",
            ENABLE[4],
            ENABLE[6],
            _NET + "advertise_addr_nmsgs",
            _NET + "advertise_addr_ms",
        )
    },
}

_OPTIONS = {
    "bridge": BRIDGE_OPTIONS,
    "overlay": OVERLAY_OPTIONS,
    "macvlan": {**_LAN_OPTIONS, MACVLAN_MODE: _word("macvlan mode", MACVLAN_MODES)},
    "ipvlan": {
        **_LAN_OPTIONS,
        IPVLAN_MODE: _word("ipvlan mode", IPVLAN_MODES),
        IPVLAN_FLAG: _word("ipvlan flag", IPVLAN_FLAGS),
    },
}
"""What a network of each driver understands."""


def read_options(options: Mapping[str, Any], driver: str, path: VarPath) -> Pairs:
    """Options as sorted pairs; wrong ones of a driver whose options are known are noted and left out."""
    found = {key: scalar(value) for key, value in options.items() if value is not None}
    if driver not in _OPTIONS:
        return tuple(sorted(found.items()))
    known, readers = {}, _OPTIONS[driver]
    for key, text in found.items():
        if key not in readers:
            every = f"The options are {', '.join(sorted(readers))}."
            problem = f"A{'n' if driver[0] in 'io' else ''} {driver} network has no such option."
            others = [name for name, options in sorted(_OPTIONS.items()) if key in options]
            elsewhere = f"Leave it out: it is one of the driver {' and '.join(others)}."
            (path / key).wrong(problem, elsewhere if others else did_you_mean(key, readers, every))
        elif text:
            known[key] = readers[key](text, path / key)
    return tuple(sorted((key, text) for key, text in known.items() if text))


def enabled(family: int, options: Pairs, declared: Optional[bool], path: VarPath) -> Optional[bool]:
    """Whether a network is said to have a family, by its key or by the option of the same meaning; None if neither."""
    text = dict(options).get(ENABLE[family])
    if text is None:
        return declared
    if declared is not None and declared != (text == "true"):
        (path / "driver_opts" / ENABLE[family]).wrong(
            f"The option contradicts the network's key enable_ipv{family}.", "Leave the option out.", text
        )
        return declared
    return text == "true"


def check_options(network: Network, path: VarPath) -> None:
    """Note options of a bridge network that contradict each other, or the network."""
    options = dict(network.driver_opts)
    for family, key in MODE.items():
        if options.get(key) == "isolated" and not network.internal:
            (path / key).wrong(
                "Only an internal network can do without a gateway on the host.",
                "Write `internal: true` too, or another gateway mode.",
                "isolated",
            )
        _check_source(network, family, options.get(key, ""), path)
    binding = options.get(BINDING)
    if binding and binding != "0.0.0.0" and not network.has(family_of(binding)):
        (path / BINDING).wrong(
            f"The network has no IPv{family_of(binding)}, so nothing could be published at this address.",
            f"Write an IPv{10 - family_of(binding)} address, or leave it out.",
            binding,
        )
    if not network.firewall:
        _check_unfiltered(network, options, path)


def _check_source(network: Network, family: int, mode: str, path: VarPath) -> None:
    source = network.option(SOURCE[family])
    if source and not network.has(family):
        (path / SOURCE[family]).wrong(f"The network has no IPv{family}.", "Leave the option out.", source)
    elif source and mode == "routed":
        (path / SOURCE[family]).wrong(
            "In gateway mode routed packets leave with the sandbox's own address.",
            f"Leave the option out, or {MODE[family]}.",
            source,
        )


def _check_unfiltered(network: Network, options: Mapping[str, str], path: VarPath) -> None:
    """With ``firewall: none`` there is nothing that could do what these options say."""
    for key, text in options.items():
        if (
            key in (BINDING, _B + "trusted_host_interfaces", *SOURCE.values())
            or (key in MODE.values() and text != "isolated")
            or (key == _B + "enable_ip_masquerade" and text == "true")
        ):
            (path / key).wrong(
                "The network has `firewall: none`, so nothing would do what this option says.",
                "Leave the option out, or the key firewall.",
                text,
            )
