"""Who was heard when, and whose silence has lasted too long.

Silence is measured on the *listening clock*: engine time less the time in which the gateway could not listen. While it
was away, nobody was silent. A message only notes when it came; when an old deadline fires, the watch looks again, so a
device that speaks every second costs one entry in the heap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from gateway.core.model import Device, Micros
from gateway.core.points import NOTHING, AssetState, DeviceState, Watch, own
from gateway.core.registry import Registry

Touched: TypeAlias = tuple[AssetState, int, int]  # an asset, and the bits of the checks and memberships to ask
SavedDevice: TypeAlias = tuple[str, int, Micros, Micros, float]  # id, no, seen, newest, skew
SavedWatch: TypeAlias = tuple[int, str, str, Micros, bool]  # no, device, silence, since, silent


class Silences:
    """All devices, and one watch per silence a rule asks for and device mounted on the asset.

    ``number`` gives the next stable number (order among deadlines of one instant); ``schedule`` puts a deadline on the
    engine's heap.
    """

    def __init__(
        self,
        registry: Registry,
        intervals: Callable[[Device], Micros | None],
        lateness: Callable[[Device], Micros],
        number: Callable[[], int],
        schedule: Callable[[Watch, Micros | None], None],
    ) -> None:
        self.devices: dict[str, DeviceState] = {}
        self.deaf: Micros = 0  # how long the gateway has not listened, in all
        self._registry = registry
        self._intervals = intervals
        self._lateness = lateness
        self._number = number
        self._schedule = schedule

    def heard(self, device: DeviceState, now: Micros) -> list[Touched]:
        """A good reading came from a silent device: it, and those of its points that spoke, are silent no longer. Gives
        what that touches."""
        touched: list[Touched] = []
        for watch in device.watches:
            if watch.silent and watch.expires(self.deaf) > now:
                watch.silent = False
                device.silenced -= 1
                silent = watch.asset.silent
                silent[watch.key] -= 1
                if not silent[watch.key]:
                    del silent[watch.key]
                self._schedule(watch, watch.due(self.deaf))
                touched.append((watch.asset, *watch.asset.plan.by_silence.get(watch.key, (0, 0))))
        return touched

    def fall_silent(self, watch: Watch) -> Touched:
        """The deadline of ``watch`` passed without a reading. Gives what that touches."""
        watch.silent = True
        watch.device.silenced += 1
        asset = watch.asset
        asset.silent = own(asset.silent)
        asset.silent[watch.key] = asset.silent.get(watch.key, 0) + 1
        return (asset, *asset.plan.by_silence.get(watch.key, (0, 0)))

    def stranger(self, device_id: str, asset_id: str, now: Micros) -> DeviceState:
        """The state of a device that is mounted nowhere."""
        device = self._registry.device(device_id) or Device(device_id, asset_id, "")
        state = self.devices[device_id] = DeviceState(device, self._number(), now - self.deaf)
        state.lateness = self._lateness(device)
        return state

    # -- mounting -----------------------------------------------------------------------------------------------------

    def mount(self, asset: AssetState, now: Micros) -> None:
        """Exactly one watch per silence and device now on the asset; those that stay keep their clock."""
        mounted = tuple(self._registry.devices_of(asset.id))
        for device_id in asset.devices:
            if device_id not in mounted:
                self._unwatch(self.devices[device_id], asset)
        asset.devices = mounted
        for device_id in mounted:
            device = self._registry.device(device_id)
            if device is None:
                continue
            known = self.devices.get(device_id)
            if known is None:
                known = self.devices[device_id] = DeviceState(device, self._number(), now - self.deaf)
            known.device = device
            known.lateness = self._lateness(device)
            known.interval = self._intervals(device)
            self._watch(known, asset, now)
        self._count_silent(asset)

    def _watch(self, device: DeviceState, asset: AssetState, now: Micros) -> None:
        before = {watch.key: watch for watch in device.watches if watch.asset is asset}
        watches: list[Watch] = []
        for silence in asset.plan.silences if device.interval is not None else ():
            wait = round(silence.intervals * (device.interval or 0)) + silence.plus
            watch = before.pop(silence.key, None)
            if watch is None:
                watch = Watch(self._number(), asset, device, silence.key, wait, now - self.deaf, silence.point)
            watch.wait = wait
            watch.silent = watch.silent and watch.expires(self.deaf) <= now
            watches.append(watch)
            self._schedule(watch, watch.due(self.deaf))
        for gone in before.values():
            gone.silent = True  # never due again: its entry in the heap falls away
        device.watches = [watch for watch in device.watches if watch.asset is not asset] + watches
        device.silenced = sum(watch.silent for watch in device.watches)

    def _unwatch(self, device: DeviceState, asset: AssetState) -> None:
        """The device left the asset: its silence is no longer the asset's."""
        for watch in device.watches:
            if watch.asset is asset:
                watch.silent = True
        device.watches = [watch for watch in device.watches if watch.asset is not asset]
        device.silenced = sum(watch.silent for watch in device.watches)

    def _count_silent(self, asset: AssetState) -> None:
        asset.silent = NOTHING
        for device_id in asset.devices:
            for watch in self.devices[device_id].watches:
                if watch.silent and watch.asset is asset:
                    asset.silent = own(asset.silent)
                    asset.silent[watch.key] = asset.silent.get(watch.key, 0) + 1

    # -- snapshots ----------------------------------------------------------------------------------------------------

    def dump_watches(self) -> dict[str, list[SavedWatch]]:
        """All watches by asset."""
        saved: dict[str, list[SavedWatch]] = {}
        for device_id, device in self.devices.items():
            for watch in device.watches:
                row = (watch.no, device_id, watch.key, watch.since, watch.silent)
                saved.setdefault(watch.asset.id, []).append(row)
        return saved

    def load(self, deaf: Micros, devices: Iterable[SavedDevice]) -> None:
        """Begin anew with these devices; assets are mounted, and their watches loaded, afterwards."""
        self.deaf = deaf
        self.devices = {}
        for name, no, seen, newest, skew in devices:
            device = self._registry.device(name) or Device(name, "", "")
            state = self.devices[name] = DeviceState(device, no, seen)
            state.lateness = self._lateness(device)
            state.newest = newest
            state.skew = skew

    def load_watches(self, asset: AssetState, saved: Iterable[SavedWatch]) -> None:
        """Give the watches of a mounted asset their numbers, clocks and findings back."""
        for no, device_id, key, since, silent in saved:
            for watch in self.devices[device_id].watches:
                if watch.asset is asset and watch.key == key:
                    watch.no, watch.since, watch.silent = no, since, silent
        for device_id in asset.devices:
            device = self.devices[device_id]
            device.silenced = sum(watch.silent for watch in device.watches)
        self._count_silent(asset)

    def schedule_all(self) -> None:
        """Put every watch on an empty heap."""
        for device in self.devices.values():
            for watch in device.watches:
                watch.scheduled = None
                self._schedule(watch, watch.due(self.deaf))
