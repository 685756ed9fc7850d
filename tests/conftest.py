# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What all tests share: the collection importable by its name, a lab, and a reason for each test that cannot run."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

TESTS = Path(__file__).resolve().parent
CHECKOUT = TESTS.parent
NEED_ROOT = ("integration", "lab", "parity", "systemd")

sys.path.insert(0, str(TESTS / "support"))
sys.path.append(str(TESTS / "support" / "collections"))  # drivers of another collection, each with a fault

from lab import Lab, LabError, labs
from overlaying import lab_of
from sampling import WHOLE


def _collection_importable() -> None:
    """Let ``ansible_collections.cnm.fabric`` be this checkout, for the tests and for the Ansible they start."""
    for path in os.environ.get("ANSIBLE_COLLECTIONS_PATH", "").split(":"):
        place = Path(path, "ansible_collections", "cnm", "fabric")
        if path and place.exists() and place.resolve() == CHECKOUT:
            root = path
            break
    else:
        root = tempfile.mkdtemp(prefix="cnm-collections-")
        atexit.register(shutil.rmtree, root, True)
        link = Path(root, "ansible_collections", "cnm", "fabric")
        link.parent.mkdir(parents=True)
        link.symlink_to(CHECKOUT)
        before = os.environ.get("ANSIBLE_COLLECTIONS_PATH")
        os.environ["ANSIBLE_COLLECTIONS_PATH"] = f"{root}:{before}" if before else root
    sys.path.insert(0, root)
    importlib.invalidate_caches()
    package = importlib.import_module("ansible_collections")
    inside = str(Path(root, "ansible_collections"))
    if inside not in list(package.__path__):  # an installed package of that name hides ours
        package.__path__.append(inside)


_collection_importable()

# A machine that is busy fails no test.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs root is skipped without it, and what is no part of the sample unless all or its file is asked for."""
    sampled = not WHOLE and all(Path(str(argument)).is_dir() for argument in config.args)
    for item in items:
        if sampled and item.get_closest_marker("whole"):
            item.add_marker(pytest.mark.skip(reason="takes long: ./run test --all, or its file"))
        with contextlib.suppress(ValueError):
            if item.path.relative_to(TESTS).parts[0] in NEED_ROOT:
                item.add_marker(pytest.mark.root)
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


LONGEST = (
    "tests/lab/test_options.py",
    "tests/lab/test_overlay_churn.py",
    "tests/lab/test_services.py",
    "tests/lab/test_rolling.py",
    "tests/lab/test_docs.py",
    "tests/lab/test_overlay.py",
    "tests/lab/test_model_modules.py",
    "tests/lab/test_site.py",
    "tests/lab/test_overlay_scale.py",
    "tests/lab/test_names.py",
    "tests/lab/test_bridge.py",
    "tests/lab/test_modules.py",
    "tests/systemd/test_resolvers.py",
    "tests/systemd/test_owners.py",
    "tests/systemd/test_firewalls.py",
    "tests/systemd/test_nftables.py",
    "tests/systemd/test_command.py",
    "tests/systemd/test_power.py",
    "tests/vm/test_encrypted_evpn.py",
    "tests/vm/test_site.py",
    "tests/vm/test_shaping.py",
)
"""Files whose tests several processes begin with, so that none is left alone with them in the end."""


@functools.cache
def _shares_fixtures(file: str) -> bool:
    """Whether the classes of a file share what is made once, so that one process has to take them all, in order."""
    return '@pytest.fixture(scope="module"' in (CHECKOUT / file).read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadscope``, the tests of a class together, those that take long first."""
    if config.getoption("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class LongestFirst(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if _shares_fixtures(file) else str(super()._split_scope(nodeid))

        def _assign_work_unit(self, node: Any) -> None:
            places = {file: place for place, file in enumerate(LONGEST)}
            scope = min(self.workqueue, key=lambda name: places.get(name.partition("::")[0], len(places)))
            self.workqueue.move_to_end(scope, last=False)
            super()._assign_work_unit(node)

    return LongestFirst(config, log)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What tests have measured, by ``record_property``."""
    for report in terminalreporter.stats.get("passed", []):
        if report.user_properties:
            terminalreporter.write_line(report.nodeid)
        for name, value in report.user_properties:
            terminalreporter.write_line(f"  measured: {name}: {f'{value:.2f}' if isinstance(value, float) else value}")


def _remove_leftovers() -> None:
    """Labs of test runs that were killed."""
    for name in labs():
        owner = name[len("pytest-") :] if name.startswith("pytest-") else ""
        if owner.isdigit() and not Path("/proc", owner).exists():
            Lab(name).down()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Two hosts, node1 and node2, that the tests of a session share; each test leaves them as it found them."""
    _remove_leftovers()
    try:
        made = Lab(f"pytest-{os.getpid()}", hosts=2)
        made.up()
    except LabError as problem:
        pytest.fail(f"no lab: {problem}")
    yield made
    made.down()


@pytest.fixture(scope="session")
def trio() -> Iterator[Lab]:
    """Three hosts, node1 to node3, for labs and virtual machines; each test leaves them as it found them."""
    try:
        with lab_of(3, "trio") as made:
            yield made
    except LabError as problem:
        pytest.fail(f"no lab: {problem}")
