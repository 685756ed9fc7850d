# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""One entry of ``cnm_sandboxes``: plain data of the right structure → `Sandbox`, still without its host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import ip_network
from typing import Any, Optional

from ...module_utils.plan.constants import SHARES
from .addresses import LINK_LOCAL, read_address, read_mac, within
from .errors import VarPath
from .keys import did_you_mean
from .names import DNS_NAME, HOSTNAME, LINK, OBJECT, RESOLVER_OPTION, SEARCH_DOMAIN, Rule, name
from .namespaces import read_namespace
from .policies import read_names
from .ports import read_exposed, read_ports
from .routes import read_routes
from .shaping import read_shape
from .sysctls import OPTION as SYSCTLS
from .sysctls import read_link_sysctls, read_sysctls
from .topology import HOST_GATEWAY, Endpoint, Pairs, Sandbox
from .values import at, pairs, texts

_OWN_RESOLVER = "127.0.0.11"
_IFNAME = "com.docker.network.endpoint.ifname"
ENDPOINT_OPTIONS = (_IFNAME, SYSCTLS)
"""Docker's driver options of an endpoint, which all drivers share."""

_WORDS = ("host", "none", "bridge")
_OF_NAMESPACES = (
    "namespace", "expose", "mac_address", "hostname", "domainname", "dns", "dns_search", "dns_opt", "extra_hosts",
    "sysctls", "policies",
)  # fmt: skip
_MODES = ((Endpoint("host"),), (Endpoint("none"),))


def read_sandbox(key: str, value: Mapping[str, Any], path: VarPath) -> Sandbox:
    """Read what a sandbox says; every error is noted at its place.

    ``networks: [host]`` and ``networks: [none]`` are the ``network_mode`` of that name; with neither it is on the
    predefined network ``bridge``, as with ``network_mode: bridge``.
    """
    name(key, OBJECT, path)
    mode = _mode(value.get("network_mode"), path / "network_mode")
    if mode and value.get("networks"):
        (path / "network_mode").wrong("Both network_mode and networks are given.", "Keep one of them.", mode)
    endpoints = _endpoints(value.get("networks"), path / "networks")
    if endpoints in _MODES:
        mode, endpoints = endpoints[0].network, ()
    if mode in (None, "bridge"):
        mode, endpoints = None, endpoints or (Endpoint("bridge", path=path.path),)
    endpoints = _with_mac(endpoints, value.get("mac_address"), path / "mac_address")
    namespace = read_namespace(value.get("namespace"), path / "namespace")
    if namespace.owner and mode == "host":
        (path / "namespace").wrong(
            "A sandbox with network_mode host has no namespace.", "Keep one of them.", value["namespace"]
        )
    if mode is not None and mode.startswith(SHARES):
        _check_sharer(key, mode, value, path)
    hostname = value.get("hostname")
    return replace(
        read_namespace_settings(value, path),
        name=key,
        endpoints=endpoints,
        network_mode=mode,
        namespace=namespace,
        hostname=name(hostname, HOSTNAME, path / "hostname") if hostname is not None else None,
        exposed=tuple(dict.fromkeys(read_exposed(value.get("expose"), path / "expose"))),
        ports=tuple(read_ports(value.get("ports"), path / "ports")),
        policies=read_names(value.get("policies"), path / "policies"),
        path=path.path,
    )


def read_namespace_settings(value: Mapping[str, Any], path: VarPath) -> Sandbox:
    """What a sandbox, or a service for each of its tasks, says of names, resolvers and sysctls in the namespace."""
    domainname = value.get("domainname")
    return Sandbox(
        name="",
        host="",
        domainname=name(domainname, DNS_NAME, path / "domainname") if domainname is not None else None,
        dns=tuple(_resolvers(value.get("dns"), path / "dns")),
        dns_search=_names(value.get("dns_search"), SEARCH_DOMAIN, path / "dns_search"),
        dns_opt=_names(value.get("dns_opt"), RESOLVER_OPTION, path / "dns_opt"),
        extra_hosts=_extra_hosts(value.get("extra_hosts"), path / "extra_hosts"),
        sysctls=read_sysctls(value.get("sysctls"), path / "sysctls"),
    )


def _with_mac(endpoints: tuple[Endpoint, ...], text: Optional[str], path: VarPath) -> tuple[Endpoint, ...]:
    """The endpoints, the first with the sandbox's MAC address unless it has one of its own."""
    mac = read_mac(text, path) if text is not None else None
    if mac is not None and not endpoints:
        path.wrong("The sandbox is on no network, so it has no link with an address.", "Leave it out.", text)
    if mac is None or not endpoints or endpoints[0].mac_address is not None:
        return endpoints
    return (replace(endpoints[0], mac_address=mac), *endpoints[1:])


def _mode(text: Optional[str], path: VarPath) -> Optional[str]:
    if text is None or text in _WORDS:
        return text
    if text.startswith(SHARES):
        return text if name(text.removeprefix(SHARES), OBJECT, path) else None
    if text.startswith(("service:", "container:")):
        path.wrong("Containers and services are sandboxes here.", f"Write `{SHARES}{text.partition(':')[2]}`.", text)
    else:
        words = [*_WORDS, f"{SHARES}NAME"]
        path.wrong(f"This must be one of {', '.join(words)}.", did_you_mean(text, words), text)
    return None


def _check_sharer(key: str, mode: str, value: Mapping[str, Any], path: VarPath) -> None:
    """Note what a sandbox cannot have that is in another one's namespace."""
    other = mode.removeprefix(SHARES)
    if other == key:
        (path / "network_mode").wrong("A sandbox cannot share its own namespace.", "Name another one.", mode)
    for option in _OF_NAMESPACES:
        if value.get(option):
            problem = f"This belongs to the namespace, which is that of {other[:63]}."
            (path / option).wrong(problem, f"Write it with {other[:63]}, or leave it out.")


def _endpoints(networks: Any, path: VarPath) -> tuple[Endpoint, ...]:
    if isinstance(networks, Mapping):
        return tuple(read_endpoint(key, options or {}, path / key) for key, options in networks.items())
    found: dict[str, Endpoint] = {}
    for index, key in texts(networks):
        if key in found:
            (path / index if index is not None else path).wrong(
                "The network is in the list twice; a sandbox is on a network once.", "Leave one of them out.", key
            )
        else:
            found[key] = Endpoint(key, path=at(path, index).path)
    return tuple(found.values())


def read_endpoint(network: str, options: Mapping[str, Any], path: VarPath) -> Endpoint:
    """What a sandbox, or a service for each of its tasks, says of its place on a network."""
    mac, link = options.get("mac_address"), options.get("interface_name")
    if network == "bridge":
        options = _of_the_predefined(options, path)
    driver_opts = dict(pairs(options.get("driver_opts"), path / "driver_opts"))
    ifname, sysctls = driver_opts.pop(_IFNAME, ""), driver_opts.pop(SYSCTLS, "")
    if link is not None:
        link = name(link, LINK, path / "interface_name")
    return Endpoint(
        network=network,
        ipv4_address=_address(options, 4, path),
        ipv6_address=_address(options, 6, path),
        mac_address=read_mac(mac, path / "mac_address") if mac is not None else None,
        link_local_ips=tuple(_link_local(options.get("link_local_ips"), path / "link_local_ips")),
        aliases=_names(options.get("aliases"), DNS_NAME, path / "aliases"),
        interface_name=_link(link, ifname, path / "driver_opts" / _IFNAME),
        gw_priority=int(options.get("gw_priority") or 0),
        driver_opts=tuple(sorted(driver_opts.items())),
        routes=read_routes(options.get("routes"), path / "routes"),
        sysctls=read_link_sysctls(sysctls, path / "driver_opts" / SYSCTLS) if sysctls else (),
        shape=read_shape(options, path),
        path=path.path,
    )


def _of_the_predefined(options: Mapping[str, Any], path: VarPath) -> Mapping[str, Any]:
    """The options without those that, as in Docker, only networks of one's own have."""
    for key in ("ipv4_address", "ipv6_address", "aliases"):
        if options.get(key):
            (path / key).wrong(
                "The predefined network `bridge` has neither fixed addresses nor aliases.",
                "Declare a network of your own in cnm_networks, and use that.",
                options[key],
            )
            options = {**options, key: None}
    return options


def _address(options: Mapping[str, Any], family: int, path: VarPath) -> Optional[str]:
    key = f"ipv{family}_address"
    text = options.get(key)
    address = read_address(text, path / key, family) if text is not None else None
    return str(address) if address else None


def _link(link: Optional[str], option: str, path: VarPath) -> Optional[str]:
    """The link's name, by its key or by the driver option of the same meaning."""
    if not option:
        return link
    other = name(option, LINK, path)
    if link and other and link != other:
        path.wrong(f"The endpoint's interface_name is `{link}`.", "Leave the option out.", option)
    return link or other


def _link_local(value: Any, path: VarPath) -> Iterator[str]:
    for index, text in texts(value):
        address = read_address(text, at(path, index), 0)
        if address is not None and not any(within(ip_network(address), block) for block in LINK_LOCAL.values()):
            blocks = " or ".join(map(str, LINK_LOCAL.values()))
            at(path, index).wrong("This is no link-local address.", f"Write an address of {blocks}.", text)
        elif address is not None:
            yield str(address)


def _names(value: Any, rule: Rule, path: VarPath) -> tuple[str, ...]:
    """Names in the order written, each once."""
    checked = [name(text, rule, at(path, index)) for index, text in texts(value)]
    return tuple(dict.fromkeys(text for text in checked if text is not None))


def _resolvers(value: Any, path: VarPath) -> Iterator[str]:
    for index, text in texts(value):
        address = read_address(text, at(path, index), 0)
        if str(address) == _OWN_RESOLVER:
            at(path, index).wrong(
                f"{_OWN_RESOLVER} is the sandbox's own resolver, which would ask itself.",
                "Write the resolver that it is to forward to, or leave dns out.",
                text,
            )
        elif address is not None:
            yield str(address)


def _extra_hosts(value: Any, path: VarPath) -> Pairs:
    """(name, address) pairs, sorted; a name with several addresses has several pairs."""
    found = set()
    for host, text, spot in _host_entries(value, path):
        known = name(host, DNS_NAME, spot)
        address = HOST_GATEWAY if text == HOST_GATEWAY else read_address(text, spot, 0)
        if known is not None and address is not None:
            found.add((known, str(address)))
    return tuple(sorted(found))


def _host_entries(value: Any, path: VarPath) -> Iterator[tuple[str, str, VarPath]]:
    """(name, address text, place) of both forms: a mapping, or a list of ``name=address`` and ``name:address``."""
    if isinstance(value, Mapping):
        for host, addresses in value.items():
            for index, text in texts(addresses):
                yield host, text, at(path / host, index)
        return
    for index, item in texts(value):
        spot = at(path, index)
        host, address = split_host(item)
        if address is None:
            spot.wrong("There is no address in this entry.", "Write `name=address`.", item)
        else:
            yield host, address, spot


def split_host(item: str) -> tuple[str, Optional[str]]:
    """``name=address``, ``name:address`` (the address may stand in brackets) → both parts; None without an address."""
    separator = "=" if "=" in item else ":"
    host, found, text = item.partition(separator)
    return host, text.removeprefix("[").removesuffix("]") if found else None
