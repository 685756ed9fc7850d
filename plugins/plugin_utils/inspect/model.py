# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The types of a host's model, the JSON data that `docker_model` makes and the tables and checks are made of."""

from __future__ import annotations

from typing import Any, Optional, TypedDict

Document = dict[str, Any]
"""What ``docker network inspect`` says of a network."""


class EndpointModel(TypedDict):
    """Where a sandbox is on a network; ``gateways`` are the host's addresses that it reaches there."""

    network: str
    link: str
    addresses: list[str]
    gateways: list[str]
    names: list[str]


class _NetworkPolicies(TypedDict, total=False):
    policies: list[str]
    """Names of the policies of every sandbox on it; said only if there are any."""


class TraitsModel(_NetworkPolicies):
    """What `verify` has to know of a network; see `Traits` for ``isolates`` and ``ways_out``."""

    isolates: Optional[bool]
    public: bool
    """Whether it is a LAN, on which others can be, too."""
    ways_out: list[int]


class PolicyModel(TypedDict):
    """What policies mean for a sandbox; see `firewall.policy_samples.Sample`."""

    policies: list[str]
    networks: list[str]
    open: list[str]
    closed: list[str]
    connects: list[list[Any]]


class RuleModel(TypedDict):
    """A rule of a policy; ``about`` are ports, protocols and ICMP types as users write them, none for everything."""

    action: str
    peers: list[list[str]]
    """Kind and name of each, such as ``network`` and ``front``; none for everybody."""
    about: list[str]


class JudgedModel(TypedDict):
    """The rules of one direction, and what becomes of other packets; "" if the policy says nothing of them."""

    default: str
    rules: list[RuleModel]


class PolicyRulesModel(TypedDict):
    """A policy."""

    ingress: JudgedModel
    egress: JudgedModel


class _PlainSandboxModel(TypedDict):
    network_mode: Optional[str]
    ports: list[str]
    endpoints: list[EndpointModel]


class SandboxModel(_PlainSandboxModel, total=False):
    """A sandbox; ``ports`` as ``docker ps`` has them, ``policy`` only if somebody on its networks has policies."""

    policy: PolicyModel


class VipModel(TypedDict, total=False):
    """A service on a network; ``answers``, if the network is of this host alone, says whether a task of it does."""

    vips: list[str]
    names: list[str]
    answers: bool


class _NotedPort(TypedDict, total=False):
    note: str
    """What it is for, as people read it; only if said."""


class PortModel(_NotedPort):
    """A port of the ingress mesh: first and last numbers."""

    published: list[int]
    target: list[int]
    protocol: str
    host_ip: Optional[str]


class TaskModel(TypedDict):
    """A task; of weight 0 it is drained."""

    weight: int


class _HasPolicies(TypedDict, total=False):
    judged: bool
    """Whether its tasks have policies; said only if so."""


class ServiceModel(_HasPolicies):
    """A service as a host knows it; ``answers`` says whether any of its tasks does, ``tasks`` are the host's own."""

    mode: str
    wanted: int
    answers: bool
    networks: dict[str, VipModel]
    ports: list[PortModel]
    tasks: dict[str, TaskModel]


class Services(TypedDict, total=False):
    """What a model has only if there are services, or policies."""

    services: dict[str, ServiceModel]
    load_balancer: str
    policies: dict[str, PolicyRulesModel]
    """Those that hold for sandboxes of the host, by name."""


class Model(Services):
    """The networks, sandboxes and services of a host."""

    networks: list[Document]
    traits: dict[str, TraitsModel]
    """By network."""
    sandboxes: dict[str, SandboxModel]


NOTHING: Model = {"networks": [], "traits": {}, "sandboxes": {}}
"""The model of a host that has no plan."""


def noted(port: str, note: str) -> str:
    """A port's text with what it is for: ``80/tcp (web, http)``."""
    return f"{port} ({note})" if note else port
