# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What is said of hosts that cannot be as declared."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.plugin_utils.refusals import of_all, of_one

REFUSED = {"node3": ["cnm_a: no. Write yes."], "node1": ["cnm_b: x.", "cnm_c: y."]}


def test_all_hosts_with_all_their_problems_are_in_one_list() -> None:
    assert of_all(REFUSED, 4, all_or_nothing=False) == (
        "2 of 4 hosts cannot be as declared (what is refused stays as it is, the others go on).\n\n"
        "node1\n  cnm_b: x.\n  cnm_c: y.\n\n"
        "node3\n  cnm_a: no. Write yes.\n\n"
    )


def test_the_head_says_what_becomes_of_the_others() -> None:
    assert "(cnm_all_or_nothing: no host is changed)" in of_all(REFUSED, 4, all_or_nothing=True)
    assert "nothing is changed" in of_all(REFUSED, 2, all_or_nothing=False)
    assert of_all({"a": ["x"]}, 1, all_or_nothing=False).startswith("1 of 1 host cannot")


def test_a_host_itself_says_how_many_they_are() -> None:
    assert of_one(["x"]).endswith("1 problem, listed above")
    assert of_one(["x", "y"]).endswith("2 problems, listed above")
