# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Resource: how fast, how late and with what losses a sandbox's endpoint is reached (tc(8))."""

from __future__ import annotations

from typing import ClassVar

from .base import Key, Resource
from .records import dataclass


@dataclass(frozen=True)
class Shaping(Resource):
    """The queueing disciplines and the policer of an endpoint, at its end outside the sandbox.

    0 is no limit.  ``ingress`` and ``egress`` are as the sandbox sees them.
    """

    kind: ClassVar[str] = "shaping"
    namespace: str
    link: str
    """The end outside the sandbox."""
    sandbox: str = ""
    end: str = ""
    """The end in the sandbox."""
    ingress: int = 0
    """Octets a second to the sandbox; more waits (tc-tbf(8)) and is dropped after 50 ms."""
    egress: int = 0
    """Octets a second from the sandbox; more is dropped (tc-matchall(8) with the action police)."""
    delay_us: int = 0
    jitter_us: int = 0
    """By how much the delay of packets to the sandbox varies, in microseconds (tc-netem(8))."""
    loss_ppm: int = 0
    """How many of a million packets to the sandbox are lost."""
    rate: int = 0
    """Octets a second of the emulated link to the sandbox: what is sent faster waits."""

    @property
    def key(self) -> Key:
        return (self.kind, self.namespace, self.link)

    @property
    def parents(self) -> tuple[Key, ...]:
        if not self.sandbox:
            return ()
        return (("namespace", self.sandbox), ("link", self.sandbox, self.end))

    @property
    def label(self) -> str:
        return f"{self.sandbox}/{self.end}" if self.sandbox else "/".join(filter(None, (self.namespace, self.link)))

    @property
    def emulates(self) -> bool:
        """Whether a link is emulated (netem)."""
        return bool(self.delay_us or self.jitter_us or self.loss_ppm or self.rate)


TIMES = {"us": 1, "ms": 10**3, "s": 10**6}
"""Microseconds,"""
RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
"""and bits a second, of the units of tc(8), the smallest first."""


def quantity(attribute: str, value: int) -> str:
    """A value of `Shaping` in the words of tc(8) and of the variables: ``100mbit``, ``20ms``, ``1%``."""
    if not value:
        return "none"
    if attribute == "loss_ppm":
        return f"{value / 10**4:g}%"
    units = TIMES if attribute.endswith("_us") else RATES
    value = value if units is TIMES else value * 8
    unit, scale = next(item for item in reversed(units.items()) if value >= item[1])
    return f"{value / scale:.6g}{unit}"
