# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The drivers there are: ours, and those of other collections, which are found by their FQCN."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ...module_utils.plan import forms
from ...module_utils.plan.base import PlanError, Resource
from ...module_utils.plan.codec import decode, encode
from ...module_utils.plan.forms import FormError
from ..declaration.driver import DriverError, Forwarding, Option, Reader, Traits, Tunnel
from ..declaration.errors import VarPath, show
from ..declaration.keys import did_you_mean
from ..declaration.topology import Network
from .base import INTERFACE, Attachment, Driver, PlannedNetwork, Segment
from .bridge import BridgeDriver
from .ipvlan import IpvlanDriver
from .macvlan import MacvlanDriver
from .modes import ModeDriver
from .overlay import OverlayDriver

_FQCN = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)\.([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", re.ASCII)
"""Namespace, collection, and the driver's file in it."""

_DIRECTORY = "plugins.plugin_utils.cnm_drivers"


class Registry:
    """Finds drivers by name."""

    def __init__(self, own: Sequence[Driver]) -> None:
        self._found = {driver.name: driver for driver in own}
        self._own = tuple(own)
        self.names: tuple[str, ...] = tuple(self._found)

    def find(self, name: str) -> Driver:
        """The driver of that name.  Raises `DriverError` if it does not exist or cannot be used."""
        if name not in self._found:
            self._found[name] = _load(name, self.names)
        return self._found[name]

    def with_option(self, key: str) -> list[str]:
        """Our drivers that have the option, sorted."""
        return sorted(driver.name for driver in self._own if key in driver.options)


DRIVERS = Registry(
    (
        BridgeDriver(),
        OverlayDriver(),
        MacvlanDriver(),
        IpvlanDriver(),
        ModeDriver("host"),
        ModeDriver("none"),
    )
)


def driver_of(network: PlannedNetwork) -> Driver:
    """The driver of a network that is planned.  Its methods raise `DriverError` if it is another collection's."""
    return DRIVERS.find(network.network.driver)


def _load(name: str, own: Sequence[str]) -> Driver:
    match = _FQCN.fullmatch(name)
    if name.removeprefix("cnm.fabric.") in own:
        raise DriverError(
            "A driver of this collection goes by its short name.", f"Write `{name[len('cnm.fabric.') :]}`."
        )
    if match is None:
        raise DriverError("There is no such driver.", did_you_mean(name, own, f"The drivers are {', '.join(own)}."))
    namespace, collection, file = match.groups()
    path = f"ansible_collections.{namespace}.{collection}.{_DIRECTORY}.{file}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        raise _missing(name, path, error.name or "") from error
    except (Exception, SystemExit) as error:
        raise DriverError(f"The driver {name} cannot be loaded: {_describe(error)}.") from error
    return _ForeignDriver(name, getattr(module, "DRIVER", None))


def _missing(name: str, path: str, missing: str) -> DriverError:
    """The error for a module that cannot be found while that of a driver is imported."""
    _root, namespace, collection, *_rest = path.split(".")
    file = path.partition(f"{_DIRECTORY}.")[2]
    if not f"{path}.".startswith(f"{missing}."):
        return DriverError(f"The driver {name} needs the Python library {missing or '?'}.", "Install it.")
    if f"ansible_collections.{namespace}.{collection}.".startswith(f"{missing}."):
        remedy = f"Run `ansible-galaxy collection install {namespace}.{collection}`."
        return DriverError(f"The collection {namespace}.{collection} is not installed.", remedy)
    where = f"plugins/plugin_utils/cnm_drivers/{file.replace('.', '/')}.py"
    return DriverError(f"The collection {namespace}.{collection} has no driver {file}.", f"It would be {where}.")


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {show(str(error)) or 'no text'}"


class _ForeignDriver(Driver):
    """A driver of another collection.  Whatever it raises, or returns that it must not, is a `DriverError`."""

    def __init__(self, name: str, driver: Any) -> None:
        if not isinstance(driver, Driver):
            raise DriverError(f"The driver {name} defines no DRIVER.", "Set DRIVER to an object of its class.")
        if driver.interface != INTERFACE:
            raise DriverError(
                f"The driver {name} is written against version {driver.interface} of the driver interface, and this "
                f"cnm.fabric has version {INTERFACE}.",
                "Install versions of both collections that agree.",
            )
        options = driver.options
        if not isinstance(options, Mapping) or not all(isinstance(item, Option) for item in options.values()):
            raise DriverError(f"The options of the driver {name} are no mapping of keys to Option.")
        self.name = name
        self._driver = driver
        self.options = {str(key): replace(item, read=self._reader(key, item)) for key, item in options.items()}
        self.subnets_per_family = int(driver.subnets_per_family)

    def _reader(self, key: str, option: Option) -> Reader:
        def read(text: str, path: VarPath) -> str:
            try:
                found = option.read(text, path)
            except (Exception, SystemExit) as error:
                raise DriverError(f"The driver {self.name} failed to read {key}: {_describe(error)}.") from error
            return found if isinstance(found, str) else ""

        return read

    def traits(self, network: Network) -> Traits:
        found: Traits = self._call("traits", network)
        usual = vars(Traits())
        for name, value in vars(found).items():
            if not isinstance(value, _TRAITS.get(name, type(usual[name]))):
                raise DriverError(f"The driver {self.name} has a wrong value in traits.{name}: {show(repr(value))}.")
        if found.scope not in ("local", "global") or not set(found.ways_out) <= {4, 6}:
            raise DriverError(f"The driver {self.name} has a wrong value in traits.scope or ways_out.")
        if found.tunnel is not None and not (found.spans_hosts and found.scope == "global"):
            raise DriverError(f"The driver {self.name} has traits with a tunnel that do not span hosts globally.")
        return found

    def _call(self, method: str, *given: Any) -> Any:
        try:
            found = getattr(self._driver, method)(*given)
        except (Exception, SystemExit) as error:
            raise DriverError(f"The driver {self.name} failed in {method}: {_describe(error)}.") from error
        items = found if isinstance(found, list) else []
        if not isinstance(found, _RETURNED[method]) or not all(
            isinstance(item, _ITEMS.get(method, object)) for item in items
        ):
            raise DriverError(f"The driver {self.name} returned a wrong value from {method}: {show(repr(found))}.")
        try:
            for item in items if isinstance(found, list) else [] if found is None else [found]:
                if method in _CHECKS:
                    _CHECKS[method](item)
        except (FormError, PlanError) as error:
            raise DriverError(f"The driver {self.name} returned a wrong value from {method}: {error}.") from error
        return found


def _fits_a_plan(item: Resource) -> None:
    """Raises PlanError if no host could read it."""
    decode(encode(item))


def _segment(item: Segment) -> None:
    forms.namespace_name(item.namespace)
    forms.link_name(item.trunk)


_TRAITS: dict[str, tuple[type, ...]] = {
    "tunnel": (Tunnel, type(None)),
    "forwarding": (Forwarding, type(None)),
    "isolates": (bool, type(None)),
}
_NOTHING = type(None)
_RETURNED: dict[str, tuple[type, ...]] = {
    "traits": (Traits,),
    "check": (_NOTHING,),
    "check_members": (_NOTHING,),
    "check_hosts": (_NOTHING,),
    "attach": (Attachment, list, _NOTHING),
    "bridge": (str, _NOTHING),
    "segment": (Segment, _NOTHING),
    "gateway": (str, _NOTHING),
    "host_addresses": (list,),
    "network_resources": (list,),
    "endpoint_resources": (list,),
}
_ITEMS: dict[str, type] = {
    "attach": str,
    "host_addresses": str,
    "network_resources": Resource,
    "endpoint_resources": Resource,
}
_CHECKS: dict[str, Callable[[Any], object]] = {
    "bridge": forms.link_name,
    "segment": _segment,
    "gateway": forms.address,
    "host_addresses": forms.interface,
    "network_resources": _fits_a_plan,
    "endpoint_resources": _fits_a_plan,
}
"""What a value that is not None has to fit."""


def _guarded(method: str) -> Callable[..., Any]:
    def call(self: _ForeignDriver, *given: Any) -> Any:
        return self._call(method, *given)

    return call


for _method in _RETURNED.keys() - {"traits"}:
    setattr(_ForeignDriver, _method, _guarded(_method))
