# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Arguments that need no conversion are read as AnsibleModule reads them; others are left to it."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.cnm.fabric.plugins.module_utils.plan.calls import SPECS, filled, secrets_of

READ: list[tuple[str, dict[str, Any]]] = [
    ("probe", {}),
    ("probe", {"live": True, "staying": ["c1"], "owners": [{"owner": "docker", "reference": "web"}]}),
    ("converge", {"state": "absent", "lock_timeout": 3, "force": True}),
    ("converge", {"plan": "{}", "shared": {"a": "b"}, "pair_keys": {"1 a b": "00"}, "digest": "d", "based_on": None}),
    ("verify", {"checks": "[]", "project": "other"}),
]

LEFT: list[tuple[str, dict[str, Any]]] = [
    ("probe", {"live": "yes"}),
    ("probe", {"unknown": 1}),
    ("probe", {"project": None}),
    ("probe", {"owners": [{"owner": "docker"}]}),
    ("probe", {"owners": [{"owner": "docker", "reference": "web", "more": ""}]}),
    ("probe", {"owners": ["docker"]}),
    ("probe", {"staying": "c1,c2"}),
    ("probe", {"staying": [1]}),
    ("converge", {"state": "gone"}),
    ("converge", {"revision": True}),
    ("converge", {"revision": "1"}),
    ("converge", {"shared": ["a"]}),
    ("verify", {"checks": []}),
]


@pytest.mark.parametrize(("name", "arguments"), READ)
def test_arguments_of_the_right_types_are_read_as_ansible_reads_them(name: str, arguments: dict[str, Any]) -> None:
    read = ArgumentSpecValidator(SPECS[name]).validate(arguments)
    assert read.error_messages == []
    assert filled(SPECS[name], arguments) == read.validated_parameters


@pytest.mark.parametrize(("name", "arguments"), LEFT)
def test_other_arguments_are_left_to_ansible(name: str, arguments: dict[str, Any]) -> None:
    assert filled(SPECS[name], arguments) is None


def test_secrets_are_what_ansible_would_censor() -> None:
    given = filled(SPECS["converge"], {"pair_keys": {"1 a b": "00ff"}, "bgp_password": "hush"})
    assert given is not None
    assert secrets_of(SPECS["converge"], given) == {"00ff", "hush"}
    assert secrets_of(SPECS["probe"], {}) == set()
