# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The documents name all that there is, what they link to exists, and what they declare has known keys.

That every page of docs/ is in the site's table of contents, and that links within docs/ lead somewhere, is what the
build of the site finds (./run test docs); that transcripts are true, tests/lab/test_docs.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ansible_collections.cnm.fabric.plugins.module_utils.hostd.verbs import COMMON, VERBS
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.schema import (
    ENDPOINT,
    ENTRIES,
    NETWORK,
    SANDBOX,
    SERVICE,
    SETTINGS,
)

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "roles").glob("*/README.md"),
        *(ROOT / "tests").glob("*/README.md"),
    ]
)
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
PLAYBOOKS = sorted(path.stem for path in (ROOT / "playbooks").glob("*.yml"))
USERS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """What a link may name of a page, as GitHub makes it of the headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_what_exists(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\((?!\w+:)([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _mark, anchor = target.partition("#")
        place = page.parent / path if path else page
        if not place.exists() or (anchor and place.suffix == ".md" and anchor not in anchors(place)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize(
    "schema",
    [NETWORK, ENDPOINT, SANDBOX, SERVICE, SETTINGS],
    ids=["network", "endpoint", "sandbox", "service", "settings"],
)
def test_the_reference_has_every_variable(schema: Mapping[str, Any]) -> None:
    page = read("docs/variables.md")
    names = [
        *schema["properties"],
        *(f"deploy.{key}" for key in schema["properties"].get("deploy", {}).get("properties", {})),
    ]
    assert [name for name in names if f"`{name}`" not in page and f"`{name}." not in page] == []


def test_the_command_has_all_its_verbs_and_options_in_the_reference() -> None:
    page = read("docs/cnm.md")
    words = [f"cnm {verb.name}" for verb in VERBS]
    options = [option for verb in VERBS for option in (*verb.options, *COMMON)]
    # Of an option without effect only the first form stands there.
    words += [option.flags[0 if "accepted as in docker" in option.words else -1] for option in options]
    assert [word for word in words if f"`{word}" not in page] == []


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbook_stands_in_readme_and_reference(name: str) -> None:
    for page in ("README.md", "docs/playbooks.md"):
        assert f"| `cnm.fabric.{name}` |" in read(page)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_role_tells_what_it_does_and_takes(role: Path) -> None:
    """Galaxy's importer refuses a collection with a role that has no README."""
    page = (role / "README.md").read_text(encoding="utf-8")
    specification = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    options = specification["argument_specs"]["main"]["options"]
    assert f"# cnm.fabric.{role.name}" in page
    assert [name for name in options if f"`{name}`" not in page] == []


def declarations(page: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Blocks of YAML with variables of ours."""
    for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        found = yaml.safe_load(block)
        if isinstance(found, dict) and any(str(key).startswith("cnm_") and key != "cnm_hosts" for key in found):
            yield block, found


@pytest.mark.parametrize("page", USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_declares_has_known_keys(page: Path) -> None:
    wrong = []
    for block, variables in declarations(page):
        for key, value in variables.items():
            entries = (value or {}).values() if key in ENTRIES else [{key: value}]
            schema = ENTRIES.get(key, SETTINGS)
            for entry in entries:
                wrong += [f"{error.message} in\n{block}" for error in Draft202012Validator(schema).iter_errors(entry)]
    assert not wrong
