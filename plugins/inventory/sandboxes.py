# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

DOCUMENTATION = r"""
name: sandboxes
short_description: Sandboxes and tasks of services as hosts of the inventory
version_added: 0.1.0
description:
  - Reads C(cnm_networks), C(cnm_sandboxes), C(cnm_services) and C(cnm_compose) of the hosts that other sources of the
    inventory have, and adds each sandbox, and each task of a service, as a host with the connection
    P(cnm.fabric.netns#connection). No host is asked.
  - Its file has to be the last source, for instance C(inventory/sandboxes.cnm.yml) beside C(inventory/hosts.yml), as
    sources of a folder are read in the order of their names.
  - A sandbox's name is its name in the inventory, or C(NAME@HOST) where several hosts have a sandbox of that name, or
    where the inventory has another host or a group of that name; so have C(localhost) and what begins with C(cnm_).
  - Tasks are on the hosts that the lease store remembers; those that no run has placed yet are where the next run of
    C(cnm.fabric.site) places them.
  - Sandboxes with the network mode V(host) are left out, as they have no namespace of their own.
notes:
  - All of them are in the group C(cnm_sandboxes), and in groups by network, service and host, such as
    C(cnm_network_front), C(cnm_service_redis) and C(cnm_host_node1). What a group's name cannot contain becomes C(_).
  - If the inventory has no group C(cnm_hosts), the hosts of the topology are put into one, so that C(cnm.fabric.site)
    does not take the sandboxes for hosts of the topology.
  - Variables that are wrong are an error here as in C(cnm.fabric.site). Those that C(set_fact), C(vars) of a play or
    C(-e) set are not known here.
author:
  - cnm.fabric contributors (@cnm-fabric)
extends_documentation_fragment:
  - ansible.builtin.constructed
options:
  plugin:
    description: That the file is for this plugin.
    type: str
    required: true
    choices: [cnm.fabric.sandboxes]
  use_vars_plugins:
    description: Whether C(group_vars) and C(host_vars) beside the inventory are read.
    type: bool
    default: true
"""

EXAMPLES = r"""
# inventory/sandboxes.cnm.yml
plugin: cnm.fabric.sandboxes

# Groups and variables of one's own, from the variables that each sandbox has here
# plugin: cnm.fabric.sandboxes
# groups:
#   webs: cnm_sandbox.name.startswith('web')
# compose:
#   ansible_become_user: "'www-data'"
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible import constants as C
from ansible.errors import AnsibleError, AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.inventory.helpers import get_group_vars
from ansible.plugins.inventory import BaseInventoryPlugin, Constructable
from ansible.utils.vars import combine_vars
from ansible.vars.plugins import get_vars_from_inventory_sources

from ansible_collections.cnm.fabric.plugins.plugin_utils.action_common import directories_of_files
from ansible_collections.cnm.fabric.plugins.plugin_utils.compose.importing import Importer
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.egress import EGRESS
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.errors import (
    DeclarationError,
    NothingDeclared,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.hostvars import (
    UnknownHosts,
    decrypted,
    own_variables,
    topology_hosts,
)
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.ingress import INGRESS
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.ingress import SANDBOX as INGRESS_SANDBOX
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.services import task_name
from ansible_collections.cnm.fabric.plugins.plugin_utils.declaration.topology import Topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.base import SERVICES, LeaseError, split
from ansible_collections.cnm.fabric.plugins.plugin_utils.leases.stores import open_store
from ansible_collections.cnm.fabric.plugins.plugin_utils.module_state.reading import read_topology
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.placement import place_services
from ansible_collections.cnm.fabric.plugins.plugin_utils.services.rolling import HOLD

_CONNECTION = "cnm.fabric.netns"
_SUFFIXES = (".cnm.yml", ".cnm.yaml")
_ALL = "cnm_sandboxes"
_HOSTS = "cnm_hosts"
_OURS = "cnm_"
"""What names of the groups made here begin with."""
_UNDECLARED = (EGRESS, INGRESS)


class _Sandbox(NamedTuple):
    """A sandbox of the declaration."""

    name: str
    host: str
    networks: list[str]
    service: str = ""
    namespace: str = ""
    """The sandbox whose namespace it shares."""


class InventoryModule(BaseInventoryPlugin, Constructable):  # type: ignore[misc]
    """Adds the sandboxes that hosts of the inventory declare."""

    NAME = "cnm.fabric.sandboxes"

    def verify_file(self, path: str) -> bool:
        return bool(super().verify_file(path)) and path.endswith(_SUFFIXES)

    def parse(self, inventory: Any, loader: Any, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            self._add(Path(path).parent)
        except (DeclarationError, UnknownHosts, LeaseError) as error:
            raise AnsibleParserError(f"{path}: {error}") from error

    def _add(self, beside: Path) -> None:
        variables = {name: self._variables(name) for name in self.inventory.hosts}
        groups = {name: [host.name for host in group.get_hosts()] for name, group in self.inventory.groups.items()}
        groups["all"] = [name for name, about in variables.items() if about.get("ansible_connection") != _CONNECTION]
        selection = next((about["cnm_hosts"] for about in variables.values() if "cnm_hosts" in about), None)
        hosts = topology_hosts(selection, groups)
        if _HOSTS not in groups:
            self.inventory.add_group(_HOSTS)
            for name in hosts:
                self.inventory.add_child(_HOSTS, name)
        own, _imported = Importer().all_expanded(
            {name: {key: variables[name][key] for key in own_variables(variables[name])} for name in hosts},
            {name: directories_of_files(variables[name]) for name in hosts},
        )
        with contextlib.suppress(NothingDeclared):
            topology = read_topology(own, groups)
            # As for `site`: the directory of the source that has the first host.
            directory = variables[hosts[0]].get("inventory_dir") or beside
            found = [*_declared(topology), *_tasks(topology, str(directory))]
            self.inventory.add_group(_ALL)
            times = Counter(item.name for item in found)
            for item in found:
                others = (*variables, *self.inventory.groups, *C.LOCALHOST)
                taken = times[item.name] > 1 or item.name in others or item.name.startswith(_OURS)
                self._add_sandbox(f"{item.name}@{item.host}" if taken else item.name, item)

    def _variables(self, name: str) -> dict[str, Any]:
        """What the inventory says of a host, its own variables templated."""
        host = self.inventory.hosts[name]
        groups = host.get_groups()
        found = get_group_vars(groups)
        sources = self.inventory.processed_sources
        read = self.get_option("use_vars_plugins")
        if read:
            found = combine_vars(found, get_vars_from_inventory_sources(self.loader, sources, groups, "all"))
        found = combine_vars(found, host.get_vars())
        if read:
            found = combine_vars(found, get_vars_from_inventory_sources(self.loader, sources, [host], "all"))
        self.templar.available_variables = {"inventory_hostname": name, **found}
        ours = own_variables(found)
        try:
            return {**found, **{key: decrypted(self.templar.template(found[key])) for key in ours}}
        except AnsibleError as error:
            raise AnsibleParserError(f"{name}: {error}") from error

    def _add_sandbox(self, name: str, sandbox: _Sandbox) -> None:
        self.inventory.add_host(name, group=_ALL)
        groups = [f"cnm_host_{sandbox.host}", *(f"cnm_network_{network}" for network in sandbox.networks)]
        groups += [f"cnm_service_{sandbox.service}"] if sandbox.service else []
        for group in groups:
            made = self.inventory.add_group(to_safe_group_name(group, force=True, silent=True))
            self.inventory.add_child(made, name)
        variables = {
            "ansible_connection": _CONNECTION,
            "cnm_netns_host": sandbox.host,
            "cnm_netns_sandbox": sandbox.namespace or sandbox.name,
            "cnm_sandbox": {key: getattr(sandbox, key) for key in ("name", "host", "networks", "service")},
        }
        for key, value in variables.items():
            self.inventory.set_variable(name, key, value)
        strict = self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(
            self.get_option("groups"), variables, name, strict=strict, fetch_hostvars=False
        )
        self._add_host_to_keyed_groups(
            self.get_option("keyed_groups"), variables, name, strict=strict, fetch_hostvars=False
        )


def _declared(topology: Topology) -> Iterator[_Sandbox]:
    for host in topology.hosts:
        for item in host.sandboxes:
            if item.network_mode != "host" and item.name != INGRESS_SANDBOX:
                networks = [endpoint.network for endpoint in item.endpoints if endpoint.network not in _UNDECLARED]
                yield _Sandbox(item.name, host.name, networks, namespace=item.shared_with)


def _tasks(topology: Topology, directory: str) -> Iterator[_Sandbox]:
    """The tasks of services, where the lease stores of the hosts' projects remember them.  Raises LeaseError."""
    for project in sorted({host.settings.project for host in topology.hosts}):
        part = Topology(tuple(host for host in topology.hosts if host.settings.project == project))
        if not any(host.services for host in part.hosts):
            continue
        with contextlib.closing(open_store(part.hosts[0].settings.leases, directory)) as store:
            _hosts, spanning = split(store.read(project).leases)
        for service, placed in place_services(part, spanning[SERVICES], HOLD).found.items():
            networks = [each.network for each in placed.service.networks]
            for number, host in placed.tasks.items():
                yield _Sandbox(task_name(service, number), host, networks, service)
