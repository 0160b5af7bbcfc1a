"""A broken sensor changes the device's main point in its own way, and nothing else."""

from __future__ import annotations

import json
import statistics

import pytest

from simulators.sensors import MAIN, OUT_OF_RANGE, Fault, Sensors
from tests.simulators.playing import messages, play, small_city

VALUES: dict[str, object] = {"flow": 12.0, "level": 1.5, "temp": 18.0}


def sensed(sensors: Sensors, at: float, level: float = 1.5) -> float:
    values = sensors.sensed("lv-01", {**VALUES, "level": level}, at)
    assert {**values, "level": level} == {**VALUES, "level": level}, "the rest stays as it is"
    value = values["level"]
    assert isinstance(value, float)
    return value


@pytest.fixture
def sensors() -> Sensors:
    return Sensors(1)


def test_a_sensor_that_nobody_broke_tells_the_truth(sensors: Sensors) -> None:
    assert sensors.sensed("lv-01", VALUES, 5.0) is VALUES
    sensors.breaks("lv-02", Fault.STICKS, 0.0)
    assert sensors.sensed("lv-01", VALUES, 5.0) is VALUES
    assert (sensors.fault("lv-01"), sensors.fault("lv-02")) == (None, Fault.STICKS)


def test_a_stuck_sensor_says_for_ever_what_it_said_first(sensors: Sensors) -> None:
    sensors.breaks("lv-01", Fault.STICKS, 0.0)
    assert [sensed(sensors, at, level) for at, level in ((10, 1.5), (20, 1.7), (9000, 0.2))] == [1.5, 1.5, 1.5]


def test_a_drifting_sensor_is_off_by_its_size_an_hour(sensors: Sensors) -> None:
    sensors.breaks("lv-01", Fault.DRIFTS, 600.0, 0.1)
    assert [sensed(sensors, 600.0 + 3600 * hours) for hours in (0, 0.5, 1, 10)] == [1.5, 1.55, 1.6, 2.5]
    sensors.breaks("lv-01", Fault.DRIFTS, 0.0, -0.2)
    assert sensed(sensors, 3600.0) == 1.3


def test_a_spiking_sensor_is_now_and_then_off_by_its_size_and_else_right(sensors: Sensors) -> None:
    sensors.breaks("lv-01", Fault.SPIKES, 0.0, 3.0)
    seen = [sensed(sensors, float(at)) for at in range(500)]
    assert set(seen) == {1.5, 4.5}
    assert 0.2 < seen.count(4.5) / 500 < 0.4


def test_a_sensor_out_of_range_says_what_no_sensor_can_have(sensors: Sensors) -> None:
    sensors.breaks("lv-01", Fault.OUT_OF_RANGE, 0.0)
    assert sensed(sensors, 1.0) == sensed(sensors, 99.0, 0.1) == OUT_OF_RANGE


def test_a_noisy_sensor_is_right_in_the_mean(sensors: Sensors) -> None:
    sensors.breaks("lv-01", Fault.NOISY, 0.0, 0.02)
    seen = [sensed(sensors, float(at)) for at in range(500)]
    assert statistics.mean(seen) == pytest.approx(1.5, abs=0.005)
    assert statistics.stdev(seen) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize("fault", Fault)
def test_a_mended_sensor_tells_the_truth_again(sensors: Sensors, fault: Fault) -> None:
    sensors.breaks("lv-01", fault, 0.0, 5.0)
    later = [sensors.sensed("lv-01", {**VALUES, "level": 1.5 + at / 100}, float(at)) for at in range(60)]
    assert any(values["level"] != 1.5 + at / 100 for at, values in enumerate(later))
    sensors.is_mended("lv-01")
    assert sensors.fault("lv-01") is None
    assert sensors.sensed("lv-01", VALUES, 99.0) is VALUES
    sensors.is_mended("lv-01")  # nobody minds


@pytest.mark.parametrize("fault", [Fault.SPIKES, Fault.NOISY])
def test_chance_is_the_seed_s_and_the_device_s(fault: Fault) -> None:
    def seen(seed: int, device: str) -> list[object]:
        sensors = Sensors(seed)
        sensors.breaks(device, fault, 0.0, 1.0)
        return [sensors.sensed(device, VALUES, float(at))["level"] for at in range(50)]

    assert seen(1, "a") == seen(1, "a")
    assert seen(1, "a") != seen(2, "a")
    assert seen(1, "a") != seen(1, "b")


def test_only_the_first_point_of_the_list_is_changed_and_only_if_it_is_a_number(sensors: Sensors) -> None:
    sensors.breaks("d", Fault.OUT_OF_RANGE, 0.0)
    assert sensors.sensed("d", {"power": 80.0, "depth": 2.0}, 0.0) == {"power": 80.0, "depth": OUT_OF_RANGE}
    assert sensors.sensed("d", {"level": None, "power": 80.0}, 0.0) == {"level": None, "power": OUT_OF_RANGE}
    nothing: dict[str, object] = {"occupied": True, "battery": 90.0}
    assert sensors.sensed("d", nothing, 0.0) is nothing


def test_of_every_kind_but_parking_that_point_breaks_which_it_is_mounted_for() -> None:
    """A LoRaWAN cover has three angles, and none of them alone is what it is mounted for."""
    kinds = {asset.asset: asset.kind for asset in small_city().assets}
    of_device = {device.device: kinds[device.asset] for device in small_city().devices}
    mains: dict[str, set[str | None]] = {}
    for message in messages(play(60.0, pace="demo")):
        if message.payload.startswith(b'{"ts"') and message.topic.endswith("/telemetry"):
            values = json.loads(message.payload)["values"]
            if "gvw" not in values:  # a vehicle: an event, not the report
                main = next((point for point in MAIN if point in values), None)
                mains.setdefault(of_device[message.device], set()).add(main)
    assert mains == {
        "lamp": {"power"}, "feeder": {"power"}, "manhole": {"tilt"}, "pipe": {"level"}, "road": {"depth"},
        "rain": {"rain_1h"}, "bridge": {"strain_mean"}, "water": {"pressure"}, "gas": {"gas"},
        "heat": {"supply_temp"}, "site": {"pm10"}, "parking": {None},
    }  # fmt: skip
