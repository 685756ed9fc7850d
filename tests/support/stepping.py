# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Options taken step by step through a host, many at a time: without it, with it, spelled otherwise, changed, without.

Each option lives in networks and sandboxes of its own, so that they do not see each other.  A table is written in words
that are the same for all of them, and that are put into each option's own, and back, here: sandboxes ``a``, ``b`` and
networks ``n``, ``m``, the prefixes ``10.0.0.`` and ``fd00:``, and the hosts' addresses ``node1``, ``node1v6``, ….
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from fleet import Fleet, Run
from sampling import WHOLE
from traffic import answers, serving

from ansible_collections.cnm.fabric.plugins.module_utils.plan.marks import identifier
from ansible_collections.cnm.fabric.plugins.plugin_utils.ipam.identifiers import bridge_name

PREDEFINED = ("bridge", "host", "none")
STEPS = ("without", "set", "alike", "changed", "removed")
_AT_ONCE = 16
_POOLS = [{"base": "172.30.0.0/16", "size": 24}, {"base": "fd41::/48", "size": 64}]
_CHOSEN = {r"172\.30\.\d+\.": "chosen.", r"fd41:(?:0:0:[0-9a-f]+:)?:": "chosen:"}
"""Prefixes of subnets that were chosen, and their word in the table."""


@dataclass(frozen=True)
class Declared:
    """What a host's variables say, in the table's words."""

    networks: Mapping[str, Any]
    sandboxes: Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """One option, or one value of it, with what proves it."""

    name: str
    without: Declared
    set: Declared
    alike: Declared
    """The same as ``set`` in other words."""
    changed: Declared
    proofs: Sequence[tuple[Any, ...]] = ()
    """Of each a `Look`, and what it sees without the option, with it, and with it changed."""
    announced: tuple[str, str, str] = ("", "", "")
    """What is made, removed or made anew, each ``link a/eth0``, when it is set, changed and removed; all else stays."""
    serves: Mapping[str, str] = field(default_factory=dict)
    """Servers in sandboxes: ``{"a": "tcp/80 udp/53"}``."""
    kept: bool = False
    """Whether what was chosen last stays when it is not said any more: nobody moves without need."""


class View:
    """A host as one option sees it."""

    def __init__(self, fleet: Fleet, option: Option, number: int) -> None:
        self.fleet = fleet
        self.option = option
        self._short = f"o{number}"
        self.documents: Callable[[], list[dict[str, Any]]] = list
        declared = (option.without, option.set, option.changed)
        self._boxes = {name for item in declared for name in item.sandboxes}
        self._networks = {name for item in declared for name in item.networks}
        node = {
            f"{name}{suffix}": fleet.lab.address(name, family) for name in fleet.hosts for family, suffix in _SUFFIX
        }
        self._words = {
            **dict(sorted(node.items(), reverse=True)),
            "10.0.0.": f"10.40.{number}.",
            "fd00:": f"fd40:{number}:",
        }

    def _own(self, name: str) -> str:
        return name if name in PREDEFINED else f"{self._short}{name}"

    def bridge(self, network: str) -> str:
        """The bridge of a network that names none."""
        return bridge_name(identifier("network", "default", "node1", self._own(network)))

    def box(self, name: str) -> str:
        """A sandbox as the host has it."""
        return self._own(name)

    def real(self, value: Any) -> Any:
        """What the table says, for the host."""
        if isinstance(value, dict):
            return {self.real(key): self.real(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.real(item) for item in value]
        if isinstance(value, str):
            for word, own in self._words.items():
                value = value.replace(word, own)
        return value

    def word(self, text: str) -> str:
        """What the host says, in the table's words."""
        for name in self._networks:
            text = text.replace(self.bridge(name), name)
        for word, own in self._words.items():
            text = text.replace(own, word)
        for chosen, word in _CHOSEN.items():
            text = re.sub(chosen, word, text)
        return re.sub(rf"\b{self._short}([a-z]+)\b", r"\1", text)

    def declared(self, step: str) -> Declared:
        """The option's variables for a host at a step."""
        said: Declared = getattr(self.option, "without" if step == "removed" else step)
        networks = {self._own(name): self.real(value) for name, value in said.networks.items()}
        sandboxes = {self._own(name): self._sandbox(value) for name, value in said.sandboxes.items()}
        return Declared(networks, sandboxes)

    def _sandbox(self, said: Mapping[str, Any]) -> dict[str, Any]:
        value: dict[str, Any] = self.real(dict(said))
        networks = value.get("networks")
        if isinstance(networks, dict):
            value["networks"] = {self._own(name): options for name, options in networks.items()}
        elif networks:
            value["networks"] = [self._own(name) for name in networks]
        return value

    def has(self, name: str) -> bool:
        """Whether a thing of the host, in the table's words, is the option's: ``link a/eth0``, ``address n/…``."""
        kind, _space, rest = name.partition(" ")
        owner = rest.partition("/")[0]
        return owner in self._boxes or (kind in ("link", "address") and owner in self._networks | self._named())

    def _named(self) -> set[str]:
        """Bridges with names of their own."""
        declared = (self.option.without, self.option.set, self.option.changed)
        every = [network for item in declared for network in item.networks.values() if network]
        return {str((network.get("driver_opts") or {}).get("com.docker.network.bridge.name", "")) for network in every}

    def sh(self, place: str, script: str) -> str:
        """What a script prints in a sandbox, on ``host`` or on node2.

        ``{n}`` is the bridge of the network n, ``{a}`` the sandbox a.
        """
        for name in self._networks:
            script = script.replace(f"{{{name}}}", self.bridge(name))
        for name in self._boxes:
            script = script.replace(f"{{{name}}}", self._own(name))
        script = self.real(script)
        argv = ["sh", "-c", script]
        if place in self._boxes:
            argv = ["ip", "netns", "exec", self._own(place), *argv]
        node = place if place.startswith("node") else "node1"
        done = self.fleet.lab.run(node, argv, check=False)
        return self.word(done.stdout).strip()

    @property
    def document(self) -> dict[str, Any]:
        """What inspect shows of the network n."""
        return next(item for item in self.documents() if item["Name"] == self._own("n"))

    def calls(self, caller: str, wanted: Sequence[str]) -> list[Any]:
        """What ``tcp 10.0.0.2 80`` and so on are answered with, in the table's words."""
        node, inside = ("node1", self._own(caller)) if caller in self._boxes else (caller.replace("host", "node1"), "")
        parts = [self.real(text).split() for text in wanted]
        found = answers(self.fleet, node, inside, [(kind, address, int(port)) for kind, address, port in parts])
        return [None if answer is None else self.word(answer) for answer in found]


Look = Callable[[View], Any]
_SUFFIX = ((4, ""), (6, "v6"))


def says(place: str, script: str) -> Look:
    """Look at what a script prints."""
    return lambda view: view.sh(place, script)


def calls(caller: str, *wanted: str) -> Look:
    """Look at who answers: each call's answer is the caller's address as the server saw it, None if there is none."""
    return lambda view: view.calls(caller, wanted)


@dataclass
class Record:
    """What came of one option at one step."""

    seen: list[Any]
    announced: set[str]
    """What was made, removed or made anew, by what the run said of it."""
    remade: set[str]
    """Links, namespaces and resolvers that are not those they were before, by what the kernel says."""
    picture: str


@dataclass
class History:
    """What came of all options."""

    records: dict[str, dict[str, Record]] = field(default_factory=dict)
    again: dict[str, list[str]] = field(default_factory=dict)
    """Of each step, what a second run still found to do."""
    alike: list[str] = field(default_factory=list)
    """What a run found to do whose variables said the same in other words."""
    first: list[str] = field(default_factory=list)
    last: list[str] = field(default_factory=list)
    """The host at the first and the last step."""


_IDENTITIES = r"""
ip -o link | sed -n 's/^\([0-9]*\): \([^:@]*\).*/link \2 \1/p'
for name in $(ls /run/netns); do
  echo "namespace $name $(stat -L -c %i /run/netns/$name)"
  ip -n $name -o link | sed -n "s/^\([0-9]*\): \([^:@]*\).*/link $name\/\2 \1/p"
done
for file in /run/cnm/default/resolvers/*.pid; do echo "resolver $(basename $file .pid) $(head -n 1 $file)"; done
"""

_PICTURE = r"""
echo "--- $name"
in() { ip netns exec $name "$@"; }
ip -n $name -d link | sed 's/^[0-9]*: //; s/@if[0-9]*//; s/link-netns.*//'
ip -n $name -o address | sed 's/^[0-9]*: //; s/valid_lft.*//; s/ tentative//'
ip -n $name route; ip -n $name -6 route | grep -v fe80
in nft -s list ruleset
in sysctl -a 2>/dev/null | grep '^net.ipv' | grep -v 'stable_secret\|_mem \|_mem_\|fastopen_key'
for file in /etc/netns/$name/*; do echo "= $file"; cat $file; done
"""

_HOST = r"""
ip -d -o link | sed 's/^[0-9]*: //; s/@if[0-9]*//; s/link-netns[^\\]*//; s/[a-z_]*_timer *[0-9.]*//g' |
  sed '/^cnm-p/s/link.ether [^ ]*//'
ip -o address | sed 's/^[0-9]*: //; s/valid_lft.*//; s/ tentative//'
ip route; ip -6 route | grep -v fe80
nft -s list ruleset | sed 's/elements = {//; s/}//' | tr , '\n'
for file in /run/cnm/default/names/*; do echo "= $file"; cat $file; done
sysctl -a 2>/dev/null | grep '\.forwarding\|ip_forward\|route_localnet\|accept_ra \|disable_ipv6\|gc_thresh'
"""


def host_picture(fleet: Fleet) -> list[str]:
    """All of a host that is ours or could be, in lines that are the same for the same."""
    return sorted(line.strip() for line in fleet.sh("node1", _HOST, check=False).splitlines())


def _pictures(fleet: Fleet) -> dict[str, str]:
    """The same of each sandbox."""
    text = fleet.sh("node1", f"for name in $(ls /run/netns); do {_PICTURE} done", check=False)
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in text.split("--- ")[1:]}


def _identities(fleet: Fleet) -> dict[str, str]:
    lines = fleet.sh("node1", _IDENTITIES, check=False).splitlines()
    return {line.rpartition(" ")[0]: line.rpartition(" ")[2] for line in lines if not line.split()[1].endswith("/lo")}


def _announced(run: Run) -> set[str]:
    """Links, addresses and namespaces that a run said it makes, removes or makes anew."""
    words = [text.split(" ", 1) for text in run.operations("node1")]
    kinds = ("link", "address", "namespace")
    return {what for action, what in words if action != "change" and what.split(" ")[0] in kinds}


class Stepping:
    """Takes options through their steps on node1 and notes what came of each."""

    def __init__(self, fleet: Fleet, options: Mapping[int, Option]) -> None:
        self._fleet = fleet
        self._views = [View(fleet, option, number) for number, option in options.items()]
        self.history = History({option.name: {} for option in options.values()})
        self._before: dict[str, str] = {}
        self._lock = Lock()

    def declare(self, step: str) -> None:
        """Write the variables of a step."""
        declared = [view.declared(step) for view in self._views]
        self._write(declared[::-1] if step == "alike" else declared)

    def _write(self, declared: Sequence[Declared]) -> None:
        own = {
            "cnm_networks": {name: said for item in declared for name, said in item.networks.items()},
            "cnm_sandboxes": {name: said for item in declared for name, said in item.sandboxes.items()},
        }
        self._fleet.declare({"cnm_default_address_pools": _POOLS}, node1=own)

    def take(self, steps: Sequence[str] = STEPS) -> History:
        """All steps, with servers in the sandboxes from the first on."""
        with ExitStack() as stack:
            for step in steps:
                self.declare(step)
                run = self._fleet.site()
                if step == "alike":
                    self.history.alike = [*run.operations("node1"), *run.changed]
                    continue
                if WHOLE:
                    self.history.again[step] = self._fleet.site().changed
                if step == steps[0]:
                    self._serve(stack)
                self._note(step, run)
                if step == steps[0]:
                    self.history.first = host_picture(self._fleet)
            self._begin_again()
            self.history.last = host_picture(self._fleet)
        return self.history

    def _begin_again(self) -> None:
        """Let those that have kept something go and come again."""
        if any(view.option.kept for view in self._views):
            self._write([view.declared(STEPS[0]) for view in self._views if not view.option.kept])
            self._fleet.site()
            self.declare(STEPS[0])
            self._fleet.site()

    def _serve(self, stack: ExitStack) -> None:
        stack.enter_context(serving(self._fleet, "node2", "", "tcp/6000", "udp/6000"))
        for view in self._views:
            for box, ports in view.option.serves.items():
                stack.enter_context(serving(self._fleet, "node1", view.box(box), *ports.split()))

    def _note(self, step: str, run: Run) -> None:
        now = _identities(self._fleet)
        remade = {name for name in self._before.keys() | now.keys() if self._before.get(name) != now.get(name)}
        self._before = now
        pictures, announced = _pictures(self._fleet), _announced(run)
        inspected: list[dict[str, Any]] = []

        def documents() -> list[dict[str, Any]]:
            with self._lock:
                if not inspected:
                    shown = self._fleet.play("inspect").of("cnm.fabric.inspect", "node1")
                    inspected.extend(shown["networks"]["node1"])
            return inspected

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for view in self._views:
                view.documents = documents
            looks = [[pool.submit(proof[0], view) for proof in view.option.proofs] for view in self._views]
            for view, futures in zip(self._views, looks):
                mine = [pictures.get(view.box(name), "") for name in view.declared(step).sandboxes]
                self.history.records[view.option.name][step] = Record(
                    [future.result() for future in futures],
                    {name for name in map(view.word, announced) if view.has(name)},
                    {name for name in map(view.word, remade) if view.has(name)},
                    "".join(mine),
                )
