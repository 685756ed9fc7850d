# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: cnm.fabric contributors
"""The drivers there are: ours, and those of other collections, which are found by their FQCN."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...module_utils.plan.base import Resource
from ..declaration.driver import DriverError, Option, Traits
from ..declaration.errors import show
from ..declaration.validation import did_you_mean
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
        """The driver of that name.  Raises `DriverError` if there is none, or none that can be used."""
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
    if match is None:
        raise DriverError("There is no such driver.", did_you_mean(name, own, f"The drivers are {', '.join(own)}."))
    namespace, collection, file = match.groups()
    root = f"ansible_collections.{namespace}.{collection}"
    path = f"{root}.{_DIRECTORY}.{file}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not f"{path}.".startswith(f"{missing}."):
            raise DriverError(f"The driver {name} needs the Python library {missing}.", "Install it.") from error
        if f"{root}.".startswith(f"{missing}."):
            problem = f"The collection {namespace}.{collection} is not installed."
            remedy = f"Run `ansible-galaxy collection install {namespace}.{collection}`."
            raise DriverError(problem, remedy) from error
        where = f"plugins/plugin_utils/cnm_drivers/{file.replace('.', '/')}.py"
        raise DriverError(
            f"The collection {namespace}.{collection} has no driver {file}.", f"It would be {where}."
        ) from error
    except Exception as error:
        raise DriverError(f"The driver {name} cannot be loaded: {_describe(error)}.") from error
    return _ForeignDriver(name, getattr(module, "DRIVER", None))


def _describe(error: Exception) -> str:
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
        self.name = driver.name = name
        self._driver = driver
        self.options: Mapping[str, Option] = driver.options
        self.subnets_per_family = driver.subnets_per_family

    def traits(self, network: Any) -> Traits:
        found: Traits = self._call("traits", network)
        if found.tunnel is not None and not (found.spans_hosts and found.scope == "global"):
            raise DriverError(f"The driver {self.name} has traits with a tunnel that do not span hosts globally.")
        return found

    def _call(self, method: str, *given: Any) -> Any:
        try:
            found = getattr(self._driver, method)(*given)
        except Exception as error:
            raise DriverError(f"The driver {self.name} failed in {method}: {_describe(error)}.") from error
        wanted = _RETURNED[method]
        items = found if isinstance(found, list) else []
        if not isinstance(found, wanted) or not all(isinstance(item, _ITEMS.get(method, object)) for item in items):
            raise DriverError(f"The driver {self.name} returned a wrong value from {method}: {show(repr(found))}.")
        return found


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


def _guarded(method: str) -> Callable[..., Any]:
    def call(self: _ForeignDriver, *given: Any) -> Any:
        return self._call(method, *given)

    return call


for _method in _RETURNED.keys() - {"traits"}:
    setattr(_ForeignDriver, _method, _guarded(_method))
