# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What 500 resolvers cost where systemd supervises them, beside the same without it: time, processors, memory.

On whole systems of tests/support/systems.py, Debian 12 and 13.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from measuring import rounds
from rows import Table
from systems import System, systems

RESOLVERS = 500
HERE = Path(__file__).resolve().parents[2] / "plugins" / "module_utils"
PACKAGE = "/opt/ansible_collections/cnm/fabric/plugins"

MADE = f"""useradd --system --user-group --no-create-home --shell /usr/sbin/nologin cnm-resolver
for number in $(seq {RESOLVERS}); do ip netns add b$number; ip -n b$number link set lo up; done
sleep 2"""

MEASURE = f"""
import json, re, subprocess, sys, time
sys.path.insert(0, "/opt")
from ansible_collections.cnm.fabric.plugins.module_utils.kernel.host import Host
from ansible_collections.cnm.fabric.plugins.module_utils.plan.settings import Resolver
from ansible_collections.cnm.fabric.plugins.module_utils.resources.resolver import ResolverKind

CONFIG = ("port=20053", "listen-address=127.0.0.11", "bind-interfaces", "no-hosts", "no-resolv")


def run(arguments, data=None):
    done = subprocess.run(arguments, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def processors():
    return int(re.search(r"usage_usec ([0-9]+)", open("/sys/fs/cgroup/cpu.stat").read())[1]) / 1e6


def memory(process):
    return int(re.search(r"(?m)^Pss: +([0-9]+)", open(f"/proc/{{process}}/smaps_rollup").read())[1])


kind, host, result = ResolverKind(), Host("default", run), {{}}
for supervised in (False, True):
    items = [Resolver(f"b{{number}}", CONFIG, True, supervised) for number in range(1, {RESOLVERS} + 1)]
    before, used, started = memory(1), processors(), time.monotonic()
    kind.create(host, items)
    kind.bring_up(host, items)
    took = time.monotonic() - started
    time.sleep(2)
    used = processors() - used
    found = list(map(int, run(["pidof", "dnsmasq"])[1].split()))
    assert len(found) == {RESOLVERS}
    each = sum(map(memory, found)) / len(found)
    started = time.monotonic()
    assert all(item.resource.supervised == supervised for item in kind.observe(host, items).values())
    seen = time.monotonic() - started
    result["ours" if supervised else "peer"] = [took, used, each, (memory(1) - before) / {RESOLVERS}, seen]
    kind.delete(host, items)
    time.sleep(2)
print(json.dumps(result))
"""


def copy(system: System) -> None:
    """The host half, where the script finds it."""
    for path in sorted(HERE.rglob("*.py")):
        system.write(f"{PACKAGE}/module_utils/{path.relative_to(HERE)}", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_500_supervised_resolvers(suite: str, tmp_path: Path, table: Table) -> None:
    with systems(tmp_path, "n1", suite=suite) as (system,):
        copy(system)
        system.sh(MADE)
        system.write("/opt/measure.py", MEASURE)
        for _round in rounds(1, 1, 0):
            found = json.loads(system.sh("python3 /opt/measure.py", 300))
    for place, what in enumerate(("start", "cpu", "memory", "systemd", "observed")):
        if what == "systemd":
            table.add(f"supervised.{suite}.{what}", [found["ours"][place]])
        else:
            table.add(f"supervised.{suite}.{what}", [found["ours"][place]], [found["peer"][place]])
