# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Policies over all hosts, from the models of the single ones, and their rules in words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Optional

from ..health import natural
from ..model import JudgedModel, PolicyRulesModel, SandboxModel
from .fabric import DIFFERS, LEFT, NEW, Difference, Host, Policy, Rule
from .report import HostReport

_WORDS = {
    NEW: "is declared and does not hold yet",
    LEFT: "holds and is no longer declared",
    DIFFERS: "has other rules than declared",
}
_NOTHING: JudgedModel = {"default": "", "rules": []}
_PLAIN = ("cidr",)
"""Kinds of peers that are recognised without their kind."""


def policies_of(reports: Mapping[str, HostReport], hosts: Sequence[Host]) -> tuple[Policy, ...]:
    """The policies that are declared or hold, each with the sandboxes that it holds for."""
    found: dict[str, PolicyRulesModel] = {}
    networks: dict[str, dict[str, None]] = {}
    # What one host says it has must not stand for what is declared for the others.
    models = [model for report in reports.values() if (model := report.declared) is not None]
    for model in (*models, *(report.kept for report in reports.values())):
        found = {**model.get("policies", {}), **found}
    for report in reports.values():
        for network, traits in report.wanted.get("traits", {}).items():
            for name in traits.get("policies", ()):
                networks.setdefault(name, {})[network] = None
    holders: dict[str, list[tuple[str, str]]] = {}
    for host in hosts:
        for sandbox in host.sandboxes:
            for name in sandbox.policies:
                holders.setdefault(name, []).append((sandbox.host, sandbox.name))
    return tuple(
        Policy(
            name,
            tuple(holders.get(name, ())),
            tuple(sorted(networks.get(name, ()), key=natural)),
            *_direction(found[name].get("ingress", _NOTHING)),
            *_direction(found[name].get("egress", _NOTHING)),
        )
        for name in sorted(found, key=natural)
    )


def _direction(judged: JudgedModel) -> tuple[tuple[Rule, ...], str]:
    rules = (
        Rule(each["action"], tuple((*peer[:1], *peer[1:2]) for peer in each["peers"]), tuple(each["about"]))
        for each in judged["rules"]
    )
    return tuple(rules), judged["default"]


def names_of(entry: Optional[SandboxModel]) -> tuple[str, ...]:
    """The policies of a sandbox."""
    return tuple(entry["policy"]["policies"]) if entry is not None and "policy" in entry else ()


def policy_differences(host: str, report: HostReport) -> list[Difference]:
    """Policies of a host's sandboxes that do not hold there as they are declared."""
    wanted, kept = (model.get("policies", {}) for model in (report.wanted, report.kept))
    result = []
    for name in sorted({*wanted, *kept}, key=natural):
        state = NEW if name not in kept else LEFT if name not in wanted else DIFFERS
        if state is not DIFFERS or wanted[name] != kept[name]:
            result.append(Difference(host, f"policy {name}", state, _WORDS[state]))
    return result


def peer_words(peer: Sequence[str]) -> str:
    """A peer of a rule: ``network front``, ``192.0.2.0/24``."""
    return peer[-1] if peer and peer[0] in _PLAIN else " ".join(peer)


def about_words(about: Iterable[str]) -> str:
    """What a rule is about."""
    return ", ".join(about) or "everything"


def rule_words(rules: Sequence[Rule], default: str) -> list[str]:
    """The rules of a direction, a line each, and what becomes of everything else."""
    lines = [
        f"{rule.action} {', '.join(map(peer_words, rule.peers)) or 'everybody'}: {about_words(rule.about)}"
        for rule in rules
    ]
    return [*lines, f"{'all else' if rules else 'everything'}: {default or 'allow'}"]
