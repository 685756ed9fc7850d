# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is sent to the kernel when a key is worn; that it helps is for tests/vm."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.cnm.fabric.plugins.module_utils.kernel.xfrm import (
    ALLOW,
    IN,
    Policy,
    State,
    delete_state,
    new_policy,
    new_state,
    selector,
    template,
)
from ansible_collections.cnm.fabric.plugins.module_utils.renewal import LOOK, WORN, keeping

HERE, THERE, ELSEWHERE = "192.0.2.1", "192.0.2.2", "192.0.2.3"
REQID, PORTS = 7, (50, 14789)
NOW, BEFORE = 0x1001, 0x1000


def sender(spi: int, peer: str = THERE, **more: int) -> State:
    chosen = selector(HERE, peer, *PORTS)
    return replace(State(HERE, peer, spi, REQID, chosen, bytes(range(20)), limit=LOOK), **more)  # type: ignore[arg-type]


def policy(peer: str = THERE, spi: int = NOW) -> Policy:
    return Policy(selector(HERE, peer, *PORTS), ALLOW, 0, (template(HERE, peer, spi, REQID),))


HEARING = State(THERE, HERE, NOW, REQID, selector(THERE, HERE, *PORTS), bytes(range(20)))
POLICIES = [
    policy(),
    policy(ELSEWHERE),
    Policy(selector(THERE, HERE, *PORTS), ALLOW, 0, (template(THERE, HERE, 0, REQID),), IN),
]


def test_nothing_is_renewed_before_it_is_due() -> None:
    fresh = [sender(NOW, sent=WORN - 1, packets=LOOK - 1), sender(BEFORE), HEARING]
    assert keeping(fresh, POLICIES) == []


def test_packets_use_the_previous_epoch_while_a_worn_key_is_renewed() -> None:
    worn = sender(NOW, sent=WORN)
    states = [worn, sender(BEFORE), sender(NOW, ELSEWHERE), HEARING]
    assert keeping(states, POLICIES) == [
        new_policy(policy(spi=BEFORE), replace=True),
        delete_state(worn),
        new_state(sender(NOW)),
        new_policy(policy(), replace=True),
    ]


def test_a_worn_key_without_a_policy_is_renewed_directly() -> None:
    worn = sender(BEFORE, sent=WORN)
    assert keeping([worn, sender(NOW)], POLICIES) == [delete_state(worn), new_state(sender(BEFORE))]


def test_a_worn_key_is_not_used_while_another_is_renewed() -> None:
    worn = [sender(NOW, sent=WORN), sender(BEFORE, sent=WORN)]
    expected = [message for state in worn for message in (delete_state(state), new_state(replace(state, sent=0)))]
    assert keeping(worn, POLICIES) == expected


def test_segmented_packets_are_noticed_before_the_numbers_run_out() -> None:
    """A packet that a network card would cut up has up to 64 of them."""
    assert WORN + 64 * LOOK <= 2**32
    due = sender(NOW, packets=LOOK, sent=WORN - 1)
    assert keeping([due], POLICIES) == [new_state(replace(due, limit=2 * LOOK), replace=True)]


def test_a_hidden_key_is_not_renewed() -> None:
    concealed = replace(sender(NOW, sent=WORN), key=bytes(20))
    assert keeping([concealed, sender(BEFORE)], POLICIES) == []
