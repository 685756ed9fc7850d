# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is said of hosts that cannot be as declared: once for all of them, before any host is changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

UNANSWERED = "its probe failed, as said above: make it answer, or leave it out with --limit"


def of_all(refused: Mapping[str, Sequence[str]], hosts: int, all_or_nothing: bool) -> str:
    """Every problem of every host, each as ``variable path: problem and remedy``; ``hosts`` is how many there are."""
    blocks = ["\n".join([name, *(f"  {each}" for each in problems)]) for name, problems in sorted(refused.items())]
    count = f"{len(refused)} of {hosts} host{'s' * (hosts != 1)} cannot be as declared"
    rest = "the others go on" if hosts > len(refused) else "nothing is changed"
    outcome = "cnm_all_or_nothing: no host is changed" if all_or_nothing else f"what is refused stays as it is, {rest}"
    return "\n\n".join([f"{count} ({outcome}).", *blocks, ""])


def of_one(problems: Sequence[str]) -> str:
    """What is said at the host itself, whose problems have been listed."""
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    return f"this host cannot be as declared and stays as it is: {count}, listed above"


def stopped(hosts: Sequence[str]) -> str:
    """Why a roll-out stops in the middle."""
    return (
        f"services are rolled out no further, as {', '.join(sorted(hosts))} failed: see above. What serves goes on "
        "serving; put it right, and the next run goes on from here"
    )
