"""What stands in the street and what is mounted on it: assets and devices by id, address, asset and link.

One owner (the engine), many readers (decoder, engine, console). Order is the order of arrival, so everything derived
from a walk over the registry is the same after a replay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from gateway.core.model import Asset, Device

_NO_ASSETS: tuple[str, ...] = ()
_NOTHING: dict[str, Any] = {}  # of frozen values: nobody adds to it


class Registry:
    """Assets and devices, with the indexes that make every question one dictionary look-up.

    A device's address is its MQTT device id or its Modbus endpoint; an empty address means the device id itself.
    Of two devices with one address the one registered last answers.
    """

    def __init__(self) -> None:
        self.version = 0
        """Rises with every change: what was looked up under the same version still stands."""
        self._assets: dict[str, Asset] = {}
        self._devices: dict[str, Device] = {}
        self._by_address: dict[str, Device] = {}
        self._on_asset: dict[str, tuple[str, ...]] = {}
        self._children: dict[str, dict[str, list[str]]] = {}

    def upsert(self, assets: Iterable[Asset] = (), devices: Iterable[Device] = ()) -> None:
        """Add or replace by id. A device may name an asset that comes later; links may too."""
        for asset in assets:
            self._put_asset(asset)
        for device in devices:
            self._put_device(device)

    def asset(self, asset_id: str) -> Asset | None:
        return self._assets.get(asset_id)

    def device(self, device_id: str) -> Device | None:
        return self._devices.get(device_id)

    def device_by_address(self, address: str) -> Device | None:
        return self._by_address.get(address)

    def devices_of(self, asset_id: str) -> Sequence[str]:
        """Ids of the devices now mounted on an asset, in the order of mounting."""
        return self._on_asset.get(asset_id, _NO_ASSETS)

    def children(self, link: str, asset_id: str) -> Sequence[str]:
        """Ids of the assets whose ``links[link]`` is ``asset_id``: the lamps of a feeder, the devices of a network."""
        return self._children.get(link, {}).get(asset_id, _NO_ASSETS)

    def named_by(self, asset_id: str) -> Iterator[tuple[str, str]]:
        """(link, id) of every asset that names this one."""
        for link, parents in self._children.items():
            for child in parents.get(asset_id, _NO_ASSETS):
                yield link, child

    def assets(self) -> Iterable[Asset]:
        return self._assets.values()

    def devices(self) -> Iterable[Device]:
        return self._devices.values()

    @property
    def asset_count(self) -> int:
        return len(self._assets)

    @property
    def device_count(self) -> int:
        return len(self._devices)

    def _put_asset(self, asset: Asset) -> None:
        before = self._assets.get(asset.asset)
        if before == asset:
            return
        self.version += 1
        # One string and one empty mapping for all who mean the same: a city has 100,000 of each.
        asset = msgspec.structs.replace(
            asset,
            asset=sys.intern(asset.asset),
            kind=sys.intern(asset.kind),
            road=sys.intern(asset.road),
            town=sys.intern(asset.town),
            unit=sys.intern(asset.unit),
            links=asset.links or _NOTHING,
            attributes=asset.attributes or _NOTHING,
        )
        self._assets[asset.asset] = asset
        links_before = before.links if before is not None else {}
        for link, parent in links_before.items():
            if asset.links.get(link) != parent:
                self._children[link][parent].remove(asset.asset)
        for link, parent in asset.links.items():
            if links_before.get(link) != parent:
                self._children.setdefault(link, {}).setdefault(parent, []).append(asset.asset)

    def _put_device(self, device: Device) -> None:
        before = self._devices.get(device.device)
        if before == device:
            return
        self.version += 1
        device = msgspec.structs.replace(
            device,
            device=sys.intern(device.device),
            asset=sys.intern(device.asset),
            profile=sys.intern(device.profile),
            address=sys.intern(device.address),
            attributes=device.attributes or _NOTHING,
        )
        address = device.address or device.device
        if before is not None:
            address_before = before.address or before.device
            if self._by_address.get(address_before) is before:
                del self._by_address[address_before]
            if before.asset != device.asset:
                rest = tuple(d for d in self._on_asset[before.asset] if d != device.device)
                if rest:
                    self._on_asset[before.asset] = rest
                else:
                    del self._on_asset[before.asset]
        if before is None or before.asset != device.asset:
            self._on_asset[device.asset] = (*self._on_asset.get(device.asset, ()), device.device)
        self._devices[device.device] = device
        self._by_address[address] = device
