# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The structure of SPEC §1 as JSON Schema data: which keys there are, and of what type.

What a schema can not say in words a person would want to read (names, addresses, how things fit together) is checked
by the readers of networks, sandboxes and settings.  Three schemas are validated one entry at a time (`NETWORK`,
`SANDBOX`, `SERVICE`), and `SETTINGS` all at once; nothing here uses ``anyOf``, so that each error has one cause.

``title`` says what a value is, as a noun phrase that completes "must be …"; ``examples`` has one that would do, of a
list that may be a mapping instead one of each.
Every key may be null, which means unset; items of lists may not.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

BOOLEAN_WORDS = {"true": True, "yes": True, "false": False, "no": False}
"""What an INI inventory or a template makes of a boolean, in any case."""


def _schema(title: str, types: tuple[str, ...], example: object = None, **rest: Any) -> Schema:
    schema: Schema = {"title": title, "type": [*types, "null"], **rest}
    if example is not None:
        schema["examples"] = [example]
    return schema


def _item(schema: Schema) -> Schema:
    """The same, but not null."""
    return {**schema, "type": [name for name in schema["type"] if name != "null"]}


def _text(title: str = "text", example: str | None = None) -> Schema:
    return _schema(title, ("string",), example)


def _choice(*words: str) -> Schema:
    return _schema(f"one of {', '.join(words)}", ("string",), words[0], enum=[*words, None])


def _time() -> Schema:
    return _schema("a time like 10s", ("string", "integer"), "10s")


def _flag() -> Schema:
    pattern = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[Yy][Ee][Ss]|[Nn][Oo])$"
    return _schema("true or false", ("boolean", "string"), "true", pattern=pattern)


def _integer(title: str, minimum: int, maximum: int) -> Schema:
    return _schema(title, ("integer",), minimum=minimum, maximum=maximum)


def _list(title: str, items: Schema, example: object = None) -> Schema:
    return _schema(title, ("array",), example, items=_item(items))


def _one_or_list(title: str, items: Schema, example: object = None) -> Schema:
    return _schema(title, ("string", "array"), example, items=_item(items))


def _named(title: str, values: Schema, example: object = None) -> Schema:
    """A mapping whose keys are the user's own."""
    return _schema(title, ("object",), example, additionalProperties=values)


def _keys(title: str, properties: dict[str, Schema], needs: tuple[str, ...] = ()) -> Schema:
    """A mapping whose keys are ours; those it ``needs`` are shown wherever another one is."""
    return _schema(title, ("object",), properties=properties, additionalProperties=False, needs=needs)


_SCALAR = _schema("text, a whole number, true or false", ("string", "integer", "boolean"))
_OPTIONS = _named("a mapping from option names to values", _SCALAR)
_LABELS = _schema(
    "a mapping of labels, or a list of name=value",
    ("object", "array"),
    additionalProperties=_SCALAR,
    items=_item(_text("text like name=value", "com.example.tier=front")),
)
_ADDRESS = _text("an address", "10.0.0.2")
_SUBNET = _text("a subnet", "10.0.0.0/24")
_ALIASES = _list("a list of names", _text("a name", "web"), ["web"])
_PORT_NUMBER = _schema("a port number or a range", ("integer", "string"), 8080)

_PORTS = _list(
    'a list of ports like "8080:80"',
    _schema(
        'a port like "8080:80", or a mapping with target and published',
        ("string", "integer", "object"),
        "8080:80",
        properties={
            "target": _PORT_NUMBER,
            "published": _PORT_NUMBER,
            "protocol": _choice("tcp", "udp", "sctp"),
            "host_ip": _ADDRESS,
            "mode": _choice("ingress", "host"),
            "name": _text("a name", "web"),
            "app_protocol": _text("a protocol", "http"),
            "allow_from": _list(
                "a list of prefixes, or of address sets like @office",
                _text("a prefix, or @ and the name of an address set", "192.0.2.0/24"),
                ["192.0.2.0/24", "@office"],
            ),
        },
        additionalProperties=False,
    ),
    ["8080:80"],
)

_POLICIES = _list("a list of policies", _text("the name of a policy", "web"), ["web"])

_NAMESPACE = _keys(
    "a mapping with one of docker, podman, pid, machine, path",
    {
        "docker": _text("a container's name"),
        "podman": _text("a container's name"),
        "pid": _integer("a process id", 1, 2**22),
        "machine": _text("a machine's name"),
        "path": _text("a path", "/run/netns/other"),
    },
)

_IPAM_CONFIG = _keys(
    "a mapping with the key subnet",
    {
        "subnet": _SUBNET,
        "gateway": _ADDRESS,
        "ip_range": _SUBNET,
        "aux_addresses": _named("a mapping from names to addresses", _ADDRESS, {"printer": "10.0.0.9"}),
    },
    needs=("subnet",),
)

_ROUTES = _list(
    "a list of routes with destination and gateway",
    _keys(
        "a mapping with destination and gateway",
        {"destination": _text("a prefix", "10.9.0.0/16"), "gateway": _ADDRESS},
        needs=("destination", "gateway"),
    ),
    [{"destination": "10.9.0.0/16", "gateway": "10.0.0.254"}],
)

NETWORK = _keys(
    "a mapping of network settings, or nothing",
    {
        "driver": _text("a driver", "bridge"),
        "subnet": _one_or_list("a subnet, or a list of them", _SUBNET, "10.0.0.0/24"),
        "ipam": _keys(
            "a mapping with the key config",
            {
                "driver": _text("an IPAM driver", "default"),
                "config": _list("a list of mappings with the key subnet", _IPAM_CONFIG, [{"subnet": "10.0.0.0/24"}]),
                "options": _OPTIONS,
            },
        ),
        "internal": _flag(),
        "enable_ipv4": _flag(),
        "enable_ipv6": _flag(),
        "attachable": _flag(),
        "encrypted": _flag(),
        "driver_opts": _OPTIONS,
        "labels": _LABELS,
        "routes": _ROUTES,
        "firewall": _choice("none", "default"),
        "policies": _POLICIES,
    },
)

ENDPOINT = _keys(
    "a mapping of endpoint options, or nothing",
    {
        "ipv4_address": _ADDRESS,
        "ipv6_address": _text("an address", "fd00::2"),
        "mac_address": _text("a MAC address", "02:42:0a:00:00:02"),
        "link_local_ips": _list("a list of link-local addresses", _text("an address", "169.254.8.8"), ["169.254.8.8"]),
        "aliases": _ALIASES,
        "interface_name": _text("the name of a link", "eth0"),
        "gw_priority": _integer("a whole number", -(2**31), 2**31 - 1),
        "driver_opts": _OPTIONS,
        "routes": _ROUTES,
        "limits": _keys(
            "a mapping with ingress and egress",
            {"ingress": _text("a rate", "100mbit"), "egress": _text("a rate", "100mbit")},
        ),
        "netem": _keys(
            "a mapping with delay, jitter, loss and rate",
            {
                "delay": _text("a time", "20ms"),
                "jitter": _text("a time", "5ms"),
                "loss": _text("a share", "1%"),
                "rate": _text("a rate", "10mbit"),
            },
        ),
    },
)

SANDBOX = _keys(
    "a mapping of sandbox settings",
    {
        "networks": _schema(
            "a list of networks, or a mapping from networks to endpoint options",
            ("array", "object"),
            examples=[["ps-bridge"], {"ps-bridge": {"aliases": ["web"]}}],
            items=_item(_text("the name of a network", "ps-bridge")),
            additionalProperties=ENDPOINT,
        ),
        "ports": _PORTS,
        "network_mode": _text("one of host, none, bridge, sandbox:NAME", "host"),
        "namespace": _NAMESPACE,
        "expose": _list("a list of ports", _schema("a port", ("integer", "string"), 80), [80]),
        "mac_address": _text("a MAC address", "02:42:0a:00:00:02"),
        "hostname": _text("a host name", "web1"),
        "domainname": _text("a domain", "example.com"),
        "dns": _one_or_list("a resolver's address, or a list of them", _ADDRESS, ["192.0.2.53"]),
        "dns_search": _one_or_list("a domain, or a list of them", _text("a domain"), ["example.com"]),
        "dns_opt": _list("a list of resolver options", _text("a resolver option", "ndots:1"), ["ndots:1"]),
        "extra_hosts": _schema(
            "a mapping from names to addresses, or a list of name=address",
            ("object", "array"),
            {"db": "192.0.2.7"},
            additionalProperties=_one_or_list("an address, or a list of them", _ADDRESS, "192.0.2.7"),
            items=_item(_text("text like name=address", "db=192.0.2.7")),
        ),
        "sysctls": _schema(
            "a mapping of sysctls, or a list of name=value",
            ("object", "array"),
            additionalProperties=_SCALAR,
            items=_item(_text("text like name=value", "net.ipv4.ip_forward=1")),
        ),
        "policies": _POLICIES,
    },
)

_OF_ONE = ("ipv4_address", "ipv6_address", "mac_address", "link_local_ips")
"""Options of an endpoint that no two tasks can have in common."""

OF_TASKS = ("hostname", "domainname", "dns", "dns_search", "dns_opt", "extra_hosts", "sysctls", "policies")
"""What a service says of its tasks as a sandbox says it of itself."""

SERVICE = _keys(
    "a mapping of service settings",
    {
        "networks": _schema(
            "a list of networks, or a mapping from networks to endpoint options",
            ("array", "object"),
            examples=[["ps-overlay"], {"ps-overlay": {"aliases": ["store"]}}],
            items=_item(_text("the name of a network", "ps-overlay")),
            additionalProperties=_keys(
                "a mapping of endpoint options, or nothing",
                {
                    **{key: schema for key, schema in ENDPOINT["properties"].items() if key not in _OF_ONE},
                    "ipv4_addresses": _list("a list of addresses", _ADDRESS),
                    "ipv6_addresses": _list("a list of addresses", _text("an address", "fd00::2")),
                },
            ),
        ),
        "namespace": {
            **_NAMESPACE,
            "properties": {**_NAMESPACE["properties"], "pid": _schema("a process id", ("integer", "string"))},
        },
        "deploy": _keys(
            "a mapping of how the service is deployed",
            {
                "mode": _choice("replicated", "global"),
                "replicas": _integer("a whole number", 0, 100_000),
                "endpoint_mode": _choice("vip", "dnsrr"),
                "scheduler": _choice("rr", "wrr", "lc", "wlc", "sh", "mh"),
                "weights": _named("a mapping from tasks to weights", _integer("a whole number", 0, 65535)),
                "placement": _keys(
                    "a mapping with hosts, constraints and max_replicas_per_node",
                    {
                        "hosts": _list("a list of hosts or groups", _text("a host or group"), ["node1"]),
                        "constraints": _one_or_list(
                            "a constraint, or a list of them",
                            _text("text like node.labels.disk == ssd", "node.labels.disk == ssd"),
                            ["node.labels.disk == ssd"],
                        ),
                        "max_replicas_per_node": _integer("a whole number", 0, 100_000),
                    },
                ),
                "draining": _list("a list of tasks or hosts", _text("a task or host"), ["redis.2"]),
                "update_config": _keys(
                    "a mapping with parallelism, delay and order",
                    {
                        "parallelism": _integer("a whole number", 0, 100_000),
                        "delay": _time(),
                        "order": _choice("stop-first", "start-first"),
                        "failure_action": _choice("pause", "continue", "rollback"),
                        "monitor": _time(),
                        "max_failure_ratio": _schema("a number from 0 to 1", ("number", "string"), 0),
                    },
                ),
            },
        ),
        "stop_grace_period": _time(),
        "ports": _PORTS,
        **{key: SANDBOX["properties"][key] for key in OF_TASKS},
    },
)

PEERS = {
    "network": _text("the name of a network", "front"),
    "sandbox": _text("the name of a sandbox", "proxy"),
    "service": _text("the name of a service", "redis"),
    "host": _text("a host of the topology", "node1"),
    "cidr": _text("a prefix or an address", "192.0.2.0/24"),
    "addresses": _text("the name of an address set", "office"),
}
"""Who may be at the other end, by the key that says so."""
ACTIONS = ("allow", "drop", "reject")


def _rules(peers: str) -> Schema:
    """The rules of a direction, whose peers stand under that key."""
    properties = {
        "action": _choice(*ACTIONS),
        peers: _list(
            "a list of mappings like {network: front}",
            _keys(f"a mapping with one of {', '.join(PEERS)}", PEERS),
            [{"network": "front"}],
        ),
        "ports": _list(
            "a list of ports like 80/tcp",
            _schema("a port or a range, with its protocol", ("integer", "string"), "80/tcp"),
            ["80/tcp"],
        ),
        "protocols": _list(
            "a list of protocols",
            _schema("a protocol by name or number", ("integer", "string"), "icmp"),
            ["icmp"],
        ),
        "icmp_types": _list(
            "a list of ICMP types",
            _text("an ICMP type", "echo-request"),
            ["echo-request"],
        ),
        "log": _flag(),
    }
    example = [{"action": "allow", peers: [{"network": "front"}], "ports": ["80/tcp"]}]
    return _list("a list of rules", _keys("a mapping with action", properties, needs=("action",)), example)


POLICY = _keys(
    "a mapping with ingress, egress and default",
    {
        "ingress": _rules("from"),
        "egress": _rules("to"),
        "default": _keys(
            "a mapping with ingress and egress",
            {"ingress": _choice(*ACTIONS), "egress": _choice(*ACTIONS)},
        ),
    },
)

ADDRESS_SET = _list("a list of prefixes", _text("a prefix or an address", "192.0.2.0/24"), ["192.0.2.0/24"])

_POOLS = _list(
    "a list of pools with base and size",
    _keys("a mapping with base and size", {"base": _SUBNET, "size": _integer("a prefix length", 1, 128)}),
    [{"base": "172.30.0.0/16", "size": 24}],
)

COMPOSE = _schema(
    "a Compose file, a list of them, or a mapping with the key files",
    ("string", "array", "object"),
    "compose.yml",
    properties={
        "files": _one_or_list("a Compose file, or a list of them", _text("a file", "compose.yml"), "compose.yml"),
        "project_name": _text("a project's name", "shop"),
        "profiles": _one_or_list("a profile, or a list of them", _text("a profile"), ["debug"]),
        "environment": _named("a mapping from names to values", _SCALAR, {"TAG": "1.2"}),
        "namespaces": _choice("docker", "podman", "own"),
    },
    items=_item(_text("a file", "compose.yml")),
    additionalProperties=False,
)
"""``cnm_compose``, and that with a suffix."""

SETTINGS = _keys(
    "the settings",
    {
        "cnm_compose": COMPOSE,
        "cnm_hosts": _one_or_list("a host pattern, or a list of them", _text("a host pattern"), "all"),
        "cnm_underlay_address": _text("an address", "192.0.2.1"),
        "cnm_default_address_pools": _POOLS,
        "cnm_default_network_opts": _named(
            "a mapping from drivers to options", _OPTIONS, {"bridge": {"com.docker.network.driver.mtu": 1400}}
        ),
        "cnm_overlay_address_pool": {**_POOLS, "type": ["string", "array", "null"]},
        "cnm_project": _text("a project's name", "default"),
        "cnm_leases": _text("the URL of a lease store", "sqlite:///leases.db"),
        "cnm_leases_options": _keys(
            "a mapping with how the lease store is spoken to",
            {
                "ca_cert": _text("a file", "ca.pem"),
                "client_cert": _text("a file", "client.pem"),
                "client_key": _text("a file", "client-key.pem"),
                "username": _text("a name", "cnm"),
                "password": _text("text from the vault"),
                "token": _text("text from the vault"),
                "sasl": _flag(),
                "timeout": _integer("a number of seconds", 1, 300),
            },
        ),
        "cnm_vni_range": _schema("the first VNI, or a range", ("integer", "string", "array"), "4096-65535"),
        "cnm_data_path_port": _schema("a port number", ("integer", "string"), 4789),
        "cnm_load_balancer": _choice("auto", "ipvs", "nftables"),
        "cnm_overlay_secret": _text("text from the vault"),
        "cnm_overlay_key_epoch": _integer("a whole number", 1, 2**31 - 1),
        "cnm_ingress_mode": _choice("snat", "local"),
        "cnm_node_labels": _LABELS,
        "cnm_all_or_nothing": _flag(),
        "cnm_docker_user": _flag(),
        "cnm_domain": _text("a DNS domain", "cnm.internal"),
        "cnm_host_names": _flag(),
        "cnm_lan_names": _text("an address", "192.0.2.1"),
        "cnm_boot": _flag(),
        "cnm_keep_keys": _flag(),
        "cnm_flood": _flag(),
        "cnm_control_plane": _choice("static", "evpn"),
        "cnm_evpn": _keys(
            "a mapping with asn, route_reflectors and password",
            {
                "asn": _integer("an AS number", 1, 4_294_967_294),
                "route_reflectors": _list(
                    "a list of hosts, or of addresses", _text("a host or an address"), ["node1", "node2"]
                ),
                "password": _text("text from the vault"),
                "manage": _flag(),
            },
        ),
    },
)

OF_PLAYBOOKS = (
    "cnm_declarations",
    "cnm_force",
    "cnm_full_look",
    "cnm_graph_file",
    "cnm_leases_do",
    "cnm_leases_file",
    "cnm_leases_to",
    "cnm_leases_to_options",
    "cnm_only",
    "cnm_show",
)
"""Variables that tell a playbook what to do, and declare nothing."""

OF_CONNECTIONS = ("cnm_netns_host", "cnm_netns_sandbox")
"""Variables that tell the connection plugin `netns` where a sandbox of the inventory is."""

HOSTS = "cnm_hosts"
"""The variable that says which hosts are the topology."""

ENTRIES: dict[str, Schema] = {
    "cnm_networks": NETWORK,
    "cnm_sandboxes": SANDBOX,
    "cnm_services": SERVICE,
    "cnm_policies": POLICY,
    "cnm_address_sets": ADDRESS_SET,
}
"""Schema of one entry of each declaration; a suffix may follow the name."""
