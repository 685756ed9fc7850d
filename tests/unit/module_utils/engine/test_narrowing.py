# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What a run on a settled host needs of a new plan."""

from __future__ import annotations

from ansible_collections.cnm.fabric.plugins.module_utils.engine import narrowing
from ansible_collections.cnm.fabric.plugins.module_utils.plan.addresses import Fdb
from ansible_collections.cnm.fabric.plugins.module_utils.plan.plan import Plan, PlanText
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import File

TABLE, NAMES = "a" * 64, "b" * 64


def test_all_shared_texts_that_the_new_plan_names_are_needed() -> None:
    fdb = Fdb("ov-1", "vx-1", table=TABLE)
    file = File("/etc/netns/c1", files={"hosts": ""}, shared={"hosts": (NAMES,)})
    plan = PlanText.read(Plan("node1", resources=(fdb, file)).to_json())
    scope = narrowing.scope(PlanText.read(Plan("node1").to_json()), plan)
    assert scope is not None
    assert scope.shared == {TABLE, NAMES}
