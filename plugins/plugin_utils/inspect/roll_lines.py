# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""How services are rolled out, as lines: the batches before, and what each step does.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def lines_of_rolls(
    rolls: Mapping[str, Mapping[str, Any]], held: Sequence[str], check: bool, in_the_middle: bool
) -> Iterator[str]:
    """The lines of one plan; ``rolls`` has by service what `services.rolling.Roll.told` says."""
    for name in held:
        yield f"service {name}: its change waits for a run that all hosts take part in, as it is rolled out"
    for name, roll in sorted(rolls.items()):
        batches = roll["batches"]
        for number, batch in enumerate(batches if not in_the_middle else (), 1):
            word = "would change" if check else "changes"
            yield f"service {name}: batch {number} of {len(batches)} {word}, {roll['order']}: {', '.join(batch)}"
        if roll["says"] and not check:
            yield f"service {name}: {roll['says']} ({_left(roll['steps_left'])})"


def _left(steps: int) -> str:
    return f"{steps} step{'' if steps == 1 else 's'} left" if steps else "the last step"
