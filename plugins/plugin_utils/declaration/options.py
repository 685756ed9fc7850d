# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Reads driver options: how their texts are checked and put in one form.  Which options there are, drivers say.

An empty option is one that is not set, as in Docker.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ...module_utils.plan.constants import LARGEST_MTU, SMALLEST_MTU
from .addresses import read_address, why_unusable
from .driver import DeclaredDriver, Drivers, Option, Reader
from .errors import VarPath
from .keys import did_you_mean
from .names import LINK, LINK_PREFIX, name
from .ports import why_no_binding
from .topology import LINK_NAMES, MTU, Pairs
from .values import scalar

_NET = "com.docker.network."
ENABLE = {family: f"{_NET}enable_ipv{family}" for family in (4, 6)}
VNI = f"{_NET}driver.overlay.vxlanid_list"
"""Docker's option for an overlay's VNI, by which ``network inspect`` shows it."""

_TRUE, _FALSE = ("1", "t", "true", "yes"), ("0", "f", "false", "no")


def boolean(text: str, path: VarPath) -> str:
    """``true`` or ``false``, which Docker lets one write in several ways."""
    if text.lower() in (*_TRUE, *_FALSE):
        return "true" if text.lower() in _TRUE else "false"
    path.wrong("This must be true or false.", "Write true or false.", text)
    return ""


def number(smallest: int, largest: int) -> Reader:
    """A whole number in these bounds."""

    def read(text: str, path: VarPath) -> str:
        if text.isascii() and text.isdigit() and len(text) < 9 and smallest <= int(text) <= largest:
            return str(int(text))
        path.wrong(f"This is a number from {smallest} to {largest}.", f"Write for example {largest}.", text)
        return ""

    return read


def mtu(text: str, path: VarPath) -> str:
    """An MTU, or 0 for the default."""
    if text.isascii() and text.isdigit() and len(text) < 9:
        value = int(text)
        if value == 0 or SMALLEST_MTU[4] <= value <= LARGEST_MTU:
            return str(value)
    path.wrong(
        f"An MTU is a number from {SMALLEST_MTU[4]} to {LARGEST_MTU}, or 0 for the default.", "Write 1500.", text
    )
    return ""


def link(text: str, path: VarPath) -> str:
    """The name of a link."""
    return name(text, LINK, path) or ""


def links(text: str, path: VarPath) -> str:
    """Names of links with colons between them, each once."""
    found = [name(part, LINK, path) for part in text.split(":")]
    return ":".join(dict.fromkeys(item for item in found if item))


def link_prefix(text: str, path: VarPath) -> str:
    """What names of links can begin with."""
    return name(text, LINK_PREFIX, path) or ""


def word(noun: str, words: tuple[str, ...]) -> Reader:
    """One of these words; ``noun`` says what they are."""

    def read(text: str, path: VarPath) -> str:
        if text in words:
            return text
        path.wrong(f"There is no such {noun}.", did_you_mean(text, words, f"It is {' or '.join(words)}."), text)
        return ""

    return read


def host_binding(text: str, path: VarPath) -> str:
    """An address of the host that ports can be published at."""
    address = read_address(text.removeprefix("[").removesuffix("]"), path, 0)
    reason = why_no_binding(address) if address else ""
    if reason:
        path.wrong(reason, "Write an address of the host, `127.0.0.1`, or leave it out for all addresses.", text)
    return str(address) if address and not reason else ""


def source(family: int) -> Reader:
    """An address that packets of the family can leave the host with."""

    def read(text: str, path: VarPath) -> str:
        address = read_address(text, path, family)
        reason = why_unusable(address) if address else ""
        if reason:
            path.wrong(f"No packet can leave the host with this address: {reason}.", "Write one the host has.", text)
        return str(address) if address and not reason else ""

    return read


ANY_NETWORK: dict[str, Option] = {
    MTU: Option(mtu, "The MTU of the network's links."),
    LINK_NAMES: Option(link_prefix, "What the names of the sandboxes' links begin with.", "eth"),
    **{
        key: Option(boolean, f"Whether the network has IPv{family}; the same as the key `enable_ipv{family}`.")
        for family, key in ENABLE.items()
    },
}
"""Options that networks of every driver can have."""


def read_options(options: Mapping[str, Any], driver: DeclaredDriver, drivers: Drivers, path: VarPath) -> Pairs:
    """A network's options as sorted pairs; wrong ones are noted and left out."""
    found = {key: scalar(value) for key, value in options.items() if value is not None}
    known = {}
    for key, text in found.items():
        if key in driver.options:
            value = driver.options[key].read(text, path / key) if text else ""
            known.update({key: value} if value else {})
            continue
        problem = f"A{'n' if driver.name[0] in 'aio' else ''} {driver.name} network has no such option."
        every = f"The options are {', '.join(sorted(driver.options))}." if driver.options else "Leave it out."
        others = drivers.with_option(key)
        elsewhere = f"Leave it out: it is one of the driver {' and '.join(others)}."
        (path / key).wrong(problem, elsewhere if others else did_you_mean(key, driver.options, every))
    return tuple(sorted(known.items()))


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
