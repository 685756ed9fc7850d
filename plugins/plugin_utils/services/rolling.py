# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Rolls out a changed service in steps, each of which is a plan of all hosts.  Pure.

A task that changes first rests: it gets no new connections, and those that are open have time to end.  Then it is made
anew, and when something listens in it, it serves again.  With ``start_first`` further tasks, numbered after the
declared ones, serve meanwhile.  Where a service stands is in its lease, so a run that was cut off is continued.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Optional

from ...module_utils.plan.records import dataclass
from ..declaration.services import made_from, task_name
from ..declaration.topology import Host, Service, Update
from ..leases.base import ServiceLease

DONE, HOLD, BEGIN, STEP = "done", "hold", "begin", "step"
"""How far a plan goes: to the end; not at all; to the first step, or the one that was cut off; or one step on."""


@dataclass(frozen=True)
class Standing:
    """Where a service stands between two steps."""

    tasks: Mapping[int, str]
    """Host by number."""
    said: Mapping[int, str]
    """What each task is made from (`Service.tasks_said`), by number."""
    resting: frozenset[int] = frozenset()
    """Tasks that get no new connections."""

    @property
    def lease(self) -> ServiceLease:
        """The same as the lease store has it."""
        lease: ServiceLease = {"tasks": {str(number): host for number, host in sorted(self.tasks.items())}}
        texts = sorted({self.said[number] for number in self.tasks})
        lease["made"] = {
            text: [str(number) for number in sorted(self.tasks) if self.said[number] == text] for text in texts
        }
        if self.resting:
            lease["resting"] = [str(number) for number in sorted(self.resting)]
        return lease


@dataclass(frozen=True)
class Step:
    """A standing that a service goes to, and what the run does on the way."""

    to: Standing
    says: str = ""
    """For people: what becomes of which tasks."""
    pause: int = 0
    """Milliseconds until the next step."""
    batch: tuple[int, ...] = ()
    """Tasks that begin to rest in order to change."""


@dataclass(frozen=True)
class Waiting:
    """What hosts wait for on the way: connections that end before the change, and processes that listen after it."""

    leaving: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Milliseconds by host and task."""
    coming: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    ending: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By host, tasks that are not there afterwards."""


@dataclass(frozen=True)
class Roll:
    """A service's part in a run."""

    now: Standing
    waiting: Waiting = Waiting()
    steps_left: int = 0
    says: str = ""
    pause: int = 0
    batches: tuple[tuple[str, ...], ...] = ()
    """The tasks that change together, of the steps to come and of this one."""

    def told(self, service: Service) -> dict[str, Any]:
        """The same as plain data, for who runs the steps."""
        return {
            "steps_left": self.steps_left,
            "says": self.says,
            "pause": self.pause,
            "batches": [list(batch) for batch in self.batches],
            "order": "start-first" if service.update and service.update.start_first else "stop-first",
        }


def roll(
    service: Service, before: Optional[ServiceLease], goal: Mapping[int, str], rolling: str, hosts: Sequence[Host]
) -> Roll:
    """Where a service is to stand after this run's plan.

    ``goal`` is where its declared tasks are to be, by number, ``hosts`` are those that declare it.
    """
    end = Standing(goal, dict.fromkeys(goal, service.tasks_said))
    now = _standing(service, before, hosts) if before is not None and before["tasks"] else end
    steps = list(_steps(service, now, end))
    batches = tuple(tuple(task_name(service.name, number) for number in step.batch) for step in steps if step.batch)
    if rolling == DONE or not steps:
        return Roll(end, Waiting(ending=_ending(service, now, end)), batches=batches)
    if rolling == HOLD:
        return Roll(now, steps_left=len(steps), says="waits", batches=batches)
    if rolling == BEGIN and _is_under_way(now):
        waiting = _waiting(service, now, now, end)
        return Roll(now, waiting, len(steps), "the change that a run had begun goes on", 0, batches)
    first = steps[0]
    waiting = _waiting(service, now, first.to, end)
    return Roll(first.to, waiting, len(steps) - 1, first.says, first.pause, batches)


def former(service: Service, standing: Standing) -> dict[int, Service]:
    """By number, the service as it was when a task was made, of tasks that are not made from the present one."""
    found = {text: made_from(service, text) for text in set(standing.said.values()) - {service.tasks_said}}
    every = {number: found.get(text) for number, text in standing.said.items()}
    return {number: each for number, each in every.items() if each is not None}


def _standing(service: Service, lease: ServiceLease, hosts: Sequence[Host]) -> Standing:
    """Where the lease says a service stands; what is there no more, or cannot be any more, is left out."""
    present = made_from(service, service.tasks_said)
    said: dict[int, str] = {}
    for text, numbers in lease.get("made", {}).items():
        before = made_from(service, text)
        if before is not None and before != present and _can_be(before, hosts):
            said.update(dict.fromkeys(map(int, numbers), text))
    names = {host.name for host in hosts}
    tasks = {int(number): host for number, host in lease["tasks"].items() if host in names}
    return Standing(
        dict(sorted(tasks.items())),
        {number: said.get(number, service.tasks_said) for number in tasks},
        frozenset(map(int, lease.get("resting", ()))) & tasks.keys(),
    )


def _can_be(service: Service, hosts: Sequence[Host]) -> bool:
    """Whether tasks of a former service can still be planned: all hosts have its networks."""
    found = [host.network(attachment.network) for host in hosts for attachment in service.networks]
    return all(network is not None and network.traits.balances for network in found)


def _is_under_way(now: Standing) -> bool:
    return bool(now.resting) or len(set(now.said.values())) > 1


def _steps(service: Service, now: Standing, end: Standing) -> Iterator[Step]:
    while (step := _next(service, now, end)) is not None:
        yield step
        now = step.to


def _next(service: Service, now: Standing, end: Standing) -> Optional[Step]:
    """The step from a standing towards the end; None if that is reached."""
    update = service.update or Update()
    stale = _stale(now, end)
    missing = sorted(end.tasks.keys() - now.tasks.keys())
    surplus = sorted(now.tasks.keys() - end.tasks.keys())
    batch = stale[: update.parallelism or None]

    changing = sorted(now.resting.intersection(stale))
    if changing:
        return Step(_with(now, end.tasks, changing, service), f"{_named(service, changing)} made anew")

    opening = _opening(now, end)
    if opening:
        opened = replace(now, resting=now.resting - set(opening))
        says = f"{_named(service, opening)} serving"
        declared = end.tasks.keys() & set(opening)
        if not stale or not declared:
            return Step(opened, says)
        if update.delay or (update.start_first and len(surplus) < len(batch)):
            return Step(opened, says, update.delay)
        resting = replace(opened, resting=opened.resting | set(batch))
        return Step(resting, f"{says}, {_named(service, batch)} resting", batch=tuple(batch))

    spares = _spares(now, end, batch, surplus) if update.start_first else {}
    if missing or spares:
        added = [*missing, *spares]
        grown = _with(now, {**end.tasks, **spares}, added, service)
        return Step(replace(grown, resting=now.resting | set(added)), f"{_named(service, added)} made")
    if batch:
        resting = replace(now, resting=now.resting | set(batch))
        return Step(resting, f"{_named(service, batch)} resting", batch=tuple(batch))
    if set(surplus) - now.resting:
        return Step(replace(now, resting=now.resting | set(surplus)), f"{_named(service, surplus)} resting")
    return Step(end, f"{_named(service, surplus)} removed") if surplus else None


def _stale(now: Standing, end: Standing) -> list[int]:
    """Declared tasks that are not as they are to be."""
    return [
        number
        for number in sorted(now.tasks.keys() & end.tasks.keys())
        if (now.tasks[number], now.said[number]) != (end.tasks[number], end.said[number])
    ]


def _opening(now: Standing, end: Standing) -> list[int]:
    """Resting tasks that serve next: those that are as they are to be, and spare ones that are still needed."""
    stale = _stale(now, end)
    return sorted(number for number in now.resting - set(stale) if number in end.tasks or stale)


def _spares(now: Standing, end: Standing, batch: Sequence[int], surplus: Sequence[int]) -> dict[int, str]:
    """The further tasks that are needed while a batch rests, each on the host of one of the batch."""
    first = max([*now.tasks, *end.tasks], default=0) + 1
    return {first + at: end.tasks[number] for at, number in enumerate(batch[len(surplus) :])}


def _with(now: Standing, hosts: Mapping[int, str], numbers: Sequence[int], service: Service) -> Standing:
    """With these tasks as they are to be."""
    tasks = {**now.tasks, **{number: hosts[number] for number in numbers}}
    return replace(
        now, tasks=dict(sorted(tasks.items())), said={**now.said, **dict.fromkeys(numbers, service.tasks_said)}
    )


def _waiting(service: Service, now: Standing, then: Standing, end: Standing) -> Waiting:
    """What hosts wait for on the way from one standing to another."""
    update = service.update or Update()
    leaving: dict[str, dict[str, int]] = {}
    coming: dict[str, dict[str, int]] = {}
    for number, host in now.tasks.items():
        goes_on = (then.tasks.get(number), then.said.get(number)) == (host, now.said[number])
        if number in now.resting and not goes_on and update.grace:
            leaving.setdefault(host, {})[task_name(service.name, number)] = update.grace
    for number in _opening(then, end):
        coming.setdefault(then.tasks[number], {})[task_name(service.name, number)] = update.monitor
    return Waiting(leaving, coming, _ending(service, now, then))


def _ending(service: Service, now: Standing, then: Standing) -> dict[str, list[str]]:
    ending: dict[str, list[str]] = {}
    for number, host in now.tasks.items():
        if then.tasks.get(number) != host:
            ending.setdefault(host, []).append(task_name(service.name, number))
    return ending


def _named(service: Service, numbers: Sequence[int]) -> str:
    names = [task_name(service.name, number) for number in numbers]
    return f"{', '.join(names[:-1])} and {names[-1]} are" if len(names) > 1 else f"{names[0]} is"
