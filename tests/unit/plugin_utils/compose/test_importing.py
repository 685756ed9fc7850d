# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""Compose files become networks and sandboxes, or errors with the file and the line.

A case is a file of ``cases/``: ``files`` by name, ``compose`` as the variable, and what comes of it: the ``networks``
and ``sandboxes`` that are named, ``notes``, ``warnings``; or ``errors`` as ``path @ file:line: problem``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.importing import (
    Imported,
    Importer,
    errors_in_words_of_compose,
    in_words_of_compose,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.located import origin_of
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.writing import declarations, override
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import DeclarationError, VarPath
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.origins import with_origins
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.validation import plain
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology

CASES = sorted((Path(__file__).parent / "cases").glob("*.yml"))


def imported(
    folder: Path, files: Mapping[str, str], compose: Any = "compose.yml"
) -> tuple[dict[str, Any], list[str], Imported]:
    """The variables that a project comes to, the errors as sentences, and what else came of it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    variables, found, wrong = Importer().expanded({"cnm_compose": compose}, [str(folder)])
    what = found.get("cnm_compose", Imported())
    if not wrong:
        try:
            read_topology({"node1": variables})
        except DeclarationError as error:
            located = with_origins(error, lambda _host, name: variables.get(name), origin_of)
            wrong = errors_in_words_of_compose(located, what.paths)
    sentences = [f"{item.path} @ {' '.join(item.places)}: {item.problem}" for item in wrong]
    return variables, sentences, what


def data(value: Any) -> Any:
    return plain(value, VarPath("", []))


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.stem)
def test_a_compose_file_is_what_compose_makes_of_it(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = yaml.safe_load(case.read_text(encoding="utf-8"))
    (tmp_path / "shop").mkdir()
    variables, errors, what = imported(tmp_path / "shop", expected["files"], expected.get("compose", "compose.yml"))
    assert errors == expected.get("errors", [])
    if "networks" in expected:
        assert data(variables["cnm_networks_compose"]) == expected["networks"]
    for name, entry in expected.get("sandboxes", {}).items():
        assert data(variables["cnm_sandboxes_compose"]).get(name) == entry
    if "names" in expected:
        assert list(variables["cnm_sandboxes_compose"]) == expected["names"]
    for key in ("notes", "warnings"):
        assert list(getattr(what, key)) == expected.get(key, list(getattr(what, key)) if key == "notes" else [])


def test_the_order_of_networks_is_that_of_the_links(tmp_path: Path) -> None:
    text = "services: {web: {networks: {b: , a: {priority: 10}, c: }}}\nnetworks: {a: , b: , c: }\n"
    variables, errors, _imported = imported(
        tmp_path, {"compose.yml": text}, {"files": "compose.yml", "project_name": "p"}
    )
    assert not errors
    assert list(variables["cnm_sandboxes_compose"]["p-web-1"]["networks"]) == ["p_a", "p_b", "p_c"]


BOMB = "x0: &x0 [a,a,a,a,a,a,a,a,a]\n" + "".join(
    f"x{n}: &x{n} [{','.join([f'*x{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(BOMB, "With its aliases this file says more than can be read.", id="aliases of aliases"),
        pytest.param(
            f"a: &a {'x' * 200_000}\nb: [{'*a,' * 200_000}]",
            "With its aliases this file says more than can be read.",
            id="aliases of a large text",
        ),
        pytest.param(
            "x: &x {" + "".join(f"k{n}: ," for n in range(50_000)) + "}\ny: &y {}\n"
            "z: {<<: [*x" + ",*y" * 100_000 + "]}",
            "With its aliases this file says more than can be read.",
            id="many merges into a large mapping",
        ),
        pytest.param(
            "services:\n  b: {dns: ["
            + "a," * 20_000
            + "]}\n"
            + "".join(f"  s{n}: {{extends: b}}\n" for n in range(10_000)),
            "say more than can be read",
            id="many services that extend a large one",
        ),
        pytest.param("services: {w: {hostname: '" + "$a" * 400_000 + "'}}", "too long", id="many variables"),
        pytest.param("services: {w: {scale: '" + "0" * 8 + "1" * 10 + "'}}", "must be a whole number", id="scale"),
        pytest.param("a: &a [*a]", "With its aliases this file says more than can be read.", id="anchor inside itself"),
        pytest.param("a: " + "[" * 60 + "]" * 60, "This is nested too deeply.", id="deep"),
        pytest.param("a: " + "[" * 100_000, "This is no", id="deeper"),
        pytest.param("a: !!python/object/apply:os.system [id]", "Compose has no tag", id="python tag"),
        pytest.param("a: 1\na: 2", "The key `a` is here twice.", id="key twice"),
        pytest.param("a: b: c", "This is not YAML", id="syntax"),
        pytest.param("a: \x00", "This is not YAML", id="control character"),
        pytest.param("[1]", "This is no Compose file.", id="list"),
        pytest.param("? [a]\n: b", "A key must be text.", id="key that is a list"),
        pytest.param("a: " + "x" * 2**20, "more than 1 MiB", id="large"),
        pytest.param(
            "services: {w: {dns: '${A:-" + "${A:-" * 50 + "}" * 51 + "'}}", "nested too deeply", id="defaults"
        ),
    ],
)
def test_what_is_no_compose_file_is_refused_at_once(text: str, problem: str, tmp_path: Path) -> None:
    before = time.process_time()
    _variables, errors, _imported = imported(tmp_path, {"compose.yml": text})
    assert time.process_time() - before < 10
    assert len(errors) == 1
    assert problem in errors[0]
    assert "compose.yml" in errors[0]


def test_a_value_that_grows_with_each_variable_is_refused(tmp_path: Path) -> None:
    env = "A0=" + "x" * 1000 + "\n" + "".join(f"A{n}=${{A{n - 1}}}${{A{n - 1}}}${{A{n - 1}}}\n" for n in range(1, 30))
    before = time.process_time()
    imported(tmp_path, {"compose.yml": "services: {w: {hostname: '${A29}'}}", ".env": env})
    assert time.process_time() - before < 5


@pytest.mark.parametrize(
    "env",
    [
        "A=" + "x" * 60_000 + "\n" + "".join(f"B{n}=$A\n" for n in range(10_000)),
        'A="' + "\n" * 800_000,
        "A=b" + " " * 900_000 + "c",
    ],
    ids=["many large values", "a quote that is not closed", "spaces"],
)
def test_values_in_a_file_take_no_time(env: str, tmp_path: Path) -> None:
    before = time.process_time()
    imported(tmp_path, {"compose.yml": "services: {w: {hostname: '${A}'}}", ".env": env})
    assert time.process_time() - before < 5


def test_files_that_include_each_other_many_times_are_refused(tmp_path: Path) -> None:
    files = {f"{n}.yml": f"include: [{n + 1}.yml, {n + 1}.yml]" for n in range(18)}
    _variables, errors, _imported = imported(tmp_path, {**files, "18.yml": "{}", "compose.yml": "include: [0.yml]"})
    assert "more than 500 files" in errors[0]


SECRET = "aws_key = hunter2"
TELLS = "services: {w: {hostname: '${aws_key}'}}"


@pytest.mark.parametrize(
    "include",
    [
        "{path: told.yml, env_file: ../home/credentials}",
        "{path: told.yml, env_file: linked}",
        "{path: told.yml, project_directory: ../home}",
        "{path: told.yml, project_directory: ..}",
        "{path: [../home/compose.yml, told.yml]}",
        "{path: [../compose.yml, told.yml]}",
    ],
)
def test_a_file_cannot_publish_what_another_directory_s_files_say(include: str, tmp_path: Path) -> None:
    for place in ("home/.env", "home/credentials", ".env"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_text(SECRET, encoding="utf-8")
    for place in ("home/compose.yml", "compose.yml"):
        (tmp_path / place).write_text("services: {mine: {hostname: mine}}", encoding="utf-8")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/linked").symlink_to(tmp_path / "home/credentials")
    files = {"compose.yml": f"include: [{include}]", "told.yml": TELLS}
    variables, errors, _imported = imported(tmp_path / "shop", files)
    assert "hunter2" not in repr((variables, errors))
    assert "are not for these files" in errors[0]


def test_a_file_of_values_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(SECRET, encoding="utf-8")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/.env").symlink_to("../credentials")
    variables, errors, _imported = imported(tmp_path / "shop", {"compose.yml": TELLS})
    assert "hunter2" not in repr((variables, errors))
    assert "are not for these files" in errors[0]


def test_an_included_project_beside_this_one_has_its_own_values(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common/.env").write_text("NAME=theirs", encoding="utf-8")
    (tmp_path / "common/compose.yml").write_text("services: {w: {hostname: '${NAME}'}}", encoding="utf-8")
    variables, errors, _imported = imported(tmp_path / "shop", {"compose.yml": "include: [../common/compose.yml]"})
    assert not errors
    assert variables["cnm_sandboxes_compose"]["shop-w-1"]["hostname"] == "theirs"


@pytest.mark.parametrize(
    "text",
    [
        'services: {w: {image: a, deploy: {"\\e]0;title\\a": 1}}}',
        'services: {"w\\e[2J": {image: a, "k\\e[2J": 1}}',
        'services: {w: {extends: "b\\e[2J"}}',
        '"top\\e[2J": 1',
        'services: {w: {image: a}, w2: {image: a, hostname: "${\\e[2J}"}}',
        '{"twice\\e[2J": 1, "twice\\e[2J": 1}',
    ],
)
def test_nothing_that_a_terminal_obeys_is_told(text: str, tmp_path: Path) -> None:
    _variables, errors, what = imported(tmp_path, {"compose.yml": text})
    told = [*errors, *what.notes, *what.warnings]
    assert told
    assert all(sentence.isprintable() for sentence in told)


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "compose.yml")
    _variables, errors, _imported = imported(tmp_path, {})
    assert "is not a file" in errors[0]


def test_a_file_that_is_not_there_is_looked_for_in_every_directory(tmp_path: Path) -> None:
    _variables, errors, _imported = imported(tmp_path, {}, "absent.yml")
    assert errors == ["cnm_compose @ : There is no file 'absent.yml'."]


def test_a_directory_stands_for_its_compose_file_and_the_override(tmp_path: Path) -> None:
    files = {
        "shop/compose.yaml": "services: {web: {image: a}}",
        "shop/compose.override.yaml": "services: {web: {ports: ['80:80']}}",
    }
    variables, errors, _imported = imported(tmp_path, files, "shop")
    assert not errors
    assert data(variables["cnm_sandboxes_compose"]["shop-web-1"]["ports"]) == ["80:80"]


def test_two_projects_stand_in_two_variables(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\nservices: {{web: {{image: x}}}}", encoding="utf-8")
    variables, found, errors = Importer().expanded(
        {"cnm_compose_a": "a.yml", "cnm_compose_b": "b.yml", "cnm_project": "p"}, [str(tmp_path)]
    )
    assert errors == ()
    assert sorted(found) == ["cnm_compose_a", "cnm_compose_b"]
    assert list(variables["cnm_sandboxes_compose_b"]) == ["b-web-1"]
    assert variables["cnm_project"] == "p"


def test_variables_of_the_same_name_as_an_import_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text("services: {web: {image: x}}", encoding="utf-8")
    _variables, _found, errors = Importer().expanded(
        {"cnm_compose": "a.yml", "cnm_networks_compose": {}}, [str(tmp_path)]
    )
    assert [error.path for error in errors] == ["cnm_networks_compose"]


def test_what_is_written_out_declares_the_same(tmp_path: Path) -> None:
    text = 'name: s\nservices: {web: {ports: [22:22, "80:80"], networks: {a: {ipv4_address: 10.0.0.9}}}}\n'
    text += "networks: {a: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}"
    variables, errors, what = imported(tmp_path, {"compose.yml": text})
    assert not errors
    written = yaml.safe_load(declarations(what.variables, ["cnm_compose"], ["compose.yml"]))
    assert read_topology({"h": written}) == read_topology({"h": variables})
    again = override(what.taken_over, what.files, "o.yml")
    assert "networks: !reset null" in again
    assert "  web:\n    network_mode: none\n" in again
    both, errors, _imported = imported(tmp_path, {"o.yml": again}, ["compose.yml", "o.yml"])
    assert not errors
    assert data(both["cnm_sandboxes_compose"]["s-web-1"]) == {
        "namespace": {"docker": "s-web-1"},
        "network_mode": "none",
    }


def test_a_template_in_a_compose_file_is_not_run_by_whoever_uses_what_is_written_out(tmp_path: Path) -> None:
    template = "{{ lookup('pipe', 'touch " + str(tmp_path / "run") + "') }}"
    text = f'services: {{w: {{}}}}\nnetworks: {{default: {{labels: {{a: "{template}", "{template}": b}}}}}}\n'
    variables, errors, _imported = imported(
        tmp_path, {"compose.yml": text}, {"files": "compose.yml", "project_name": "shop"}
    )
    assert not errors
    (tmp_path / "written.yml").write_text(declarations(variables, ["cnm_compose"], ["compose.yml"]), encoding="utf-8")
    ansible = Path(sys.executable).parent / "ansible"
    shown = "{{ cnm_networks_compose.shop_default.labels | to_json }}"
    words = ["-i", "node1,", "-c", "local", "-m", "debug", "-a", f"msg={shown}", "-e", "@written.yml", "node1"]
    run = subprocess.run([ansible, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "lookup" in run.stdout
    assert not (tmp_path / "run").exists()


def test_texts_about_entries_name_the_compose_file_s_own_paths() -> None:
    paths = {
        "cnm_sandboxes_compose.s-web-1": "cnm_compose.services.web",
        "cnm_networks_compose.a.b": "cnm_compose.networks.c",
    }
    text = "cnm_sandboxes_compose.s-web-1.namespace: gone; cnm_networks_compose.a.b[0], cnm_sandboxes_compose.s-web-10"
    assert in_words_of_compose(text, paths) == (
        "cnm_compose.services.web.namespace: gone; cnm_compose.networks.c[0], cnm_sandboxes_compose.s-web-10"
    )
