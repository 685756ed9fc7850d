# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What of a call's arguments no answer may contain."""

from __future__ import annotations

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.cnm.fabric.plugins.module_utils.plan.calls import SPECS, secrets_of


def test_secrets_are_what_ansible_would_censor() -> None:
    given = {"pair_keys": {"1 a b": "00ff"}, "bgp_password": "hush"}
    read = ArgumentSpecValidator(SPECS["converge"]).validate(given)
    assert secrets_of(SPECS["converge"], read.validated_parameters) == {"00ff", "hush"}
    assert secrets_of(SPECS["probe"], {}) == set()
    odd = {"pair_keys": {"a": {"b": ["c", 7]}, "d": None}, "bgp_password": ""}
    assert secrets_of(SPECS["converge"], odd) == {"c", "7"}
