"""The registry answers by id, address, asset and link, and follows every change."""

from gateway.core.model import Asset, Device
from gateway.core.registry import Registry


def test_a_lamp_that_moves_to_another_feeder_is_found_under_the_new_one_only() -> None:
    registry = Registry()
    registry.upsert([Asset("l1", "lamp", links={"feeder": "F1"}), Asset("l2", "lamp", links={"feeder": "F1"})])
    assert list(registry.children("feeder", "F1")) == ["l1", "l2"]
    registry.upsert([Asset("l1", "lamp", links={"feeder": "F2"})])
    assert list(registry.children("feeder", "F1")) == ["l2"]
    assert list(registry.children("feeder", "F2")) == ["l1"]
    assert list(registry.children("network", "F2")) == []


def test_a_device_is_found_by_its_address_or_by_its_id_when_it_has_none() -> None:
    registry = Registry()
    registry.upsert(devices=[Device("d1", "l1", "generic/lamp"), Device("m1", "s1", "x/meter", "10.0.0.1:502/3")])
    assert registry.device_by_address("d1") is registry.device("d1")
    assert registry.device_by_address("10.0.0.1:502/3") is registry.device("m1")
    registry.upsert(devices=[Device("m1", "s1", "x/meter", "10.0.0.2:502/3")])
    assert registry.device_by_address("10.0.0.1:502/3") is None


def test_a_replaced_sensor_leaves_the_asset_to_its_successor() -> None:
    registry = Registry()
    registry.upsert(devices=[Device("old", "cover-1", "p"), Device("new", "cover-1", "p")])
    assert list(registry.devices_of("cover-1")) == ["old", "new"]
    registry.upsert(devices=[Device("old", "depot", "p")])
    assert list(registry.devices_of("cover-1")) == ["new"]
    assert list(registry.devices_of("depot")) == ["old"]
