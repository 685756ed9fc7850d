# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""What the containers of test_compose.py find and reach; runs on their system and prints it as JSON, by row.

Of a container that is on several networks Docker says one address, ours all: so a row says whose the addresses are.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any

FIXED = {"10.82.2.10", "fd00:82::77", "02:42:0a:52:02:63"}
ALIKE = "shop-plain-"
"""Containers of one service, of which Compose starts either first."""
SERVE = """
import os, socket, sys
with socket.create_server(("", 443 if os.fork() else 80)) as server:
    while True:
        with server.accept()[0] as one:
            one.sendall(sys.argv[1].encode())
"""


def run(*command: str) -> str:
    """What a command prints, whether or not it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def in_container(name: str, commands: Sequence[str]) -> list[list[str]]:
    """The words of each line that the commands print there, all of them at once."""
    said = run("docker", "exec", name, "/bin/sh", "-c", " ".join(f"{command} &" for command in commands) + " wait")
    return [line.split() for line in said.splitlines()]


def is_address(text: str) -> bool:
    """Whether it is one of either family."""
    try:
        return bool(ip_address(text))
    except ValueError:
        return False


def of_links(containers: Sequence[str], pids: Mapping[str, str], rows: dict[str, Any]) -> dict[str, str]:
    """Add the rows of each container itself; whose each address is."""
    owners: dict[str, str] = {}
    for name in containers:
        links = json.loads(run("nsenter", "-t", pids[name], "-n", "ip", "-j", "address"))
        ends = [item["local"] for link in links for item in link["addr_info"] if item["scope"] == "global"]
        owners = {**dict.fromkeys(ends, name), **owners}
        rows[f"{name} has links"] = len(links)
        rows[f"{name} has"] = sorted({*ends, *(link["address"] for link in links)} & FIXED)
        called = run("nsenter", "-t", pids[name], "-u", "hostname").strip()
        number = run("docker", "inspect", "-f", "{{.Id}}", name)
        rows[f"{name} is called"] = "by its number" if number.startswith(called) else called
    return owners


def of_others(name: str, names: Sequence[str], owners: Mapping[str, str]) -> dict[str, Any]:
    """The rows of what a container finds and reaches."""
    rows: dict[str, Any] = {}
    for asked, *words in in_container(name, [f"echo {asked} $(getent ahosts {asked})" for asked in names]):
        rows[f"{name} takes {asked} for"] = sorted({owners.get(word, word) for word in filter(is_address, words)})
    pings = [f"ping -q -c 1 -W 2 -n {address} >/dev/null && echo {address}" for address in owners]
    rows[f"{name} reaches"] = sorted({owners[address] for (address,) in in_container(name, pings)})
    return rows


def answer(place: str) -> str:
    """Who answers at an address and port."""
    address, port = place.split()
    try:
        with socket.create_connection((address, int(port)), 2) as calling:
            calling.settimeout(2)
            return calling.recv(99).decode()
    except OSError:
        return "nobody"


def found(asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """All rows."""
    rows: dict[str, Any] = {}
    containers = asked["containers"]
    pids = {name: run("docker", "inspect", "-f", "{{.State.Pid}}", name).strip() for name in containers}
    owners = of_links(containers, pids, rows)
    with ThreadPoolExecutor(len(containers)) as pool:
        for more in pool.map(lambda name: of_others(name, asked["names"], owners), containers):
            rows.update(more)
    begun = [
        subprocess.Popen(["nsenter", "-t", pids[name], "-n", sys.executable, "-c", SERVE, name])
        for name in asked["servers"]
    ]
    time.sleep(1)
    try:
        for place in asked["places"]:
            told = answer(place)
            rows[f"at {place}"] = ALIKE if told.startswith(ALIKE) else told
    finally:
        for process in begun:
            run("pkill", "-P", str(process.pid))
            process.kill()
    return rows


print(json.dumps(found(json.loads(Path(sys.argv[1]).read_text(encoding="ascii")))))
