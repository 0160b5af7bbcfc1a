"""The payload of an ASSETS frame: assets and devices to add or change, as JSON ``{"assets": […], "devices": […]}``.

Field names and units are those of ``model.Asset`` and ``model.Device``; fields at their default may be left out.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from gateway.core.model import Asset, Device
from gateway.errors import DecodeError


class _Payload(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    assets: list[Asset] = []
    devices: list[Device] = []


_decoder = msgspec.json.Decoder(_Payload)


def to_json(assets: Iterable[Asset], devices: Iterable[Device]) -> bytes:
    """The payload; the same assets and devices in the same order give the same bytes."""
    return msgspec.json.encode(_Payload(list(assets), list(devices)), order="sorted")


def parse_assets(payload: bytes) -> tuple[list[Asset], list[Device]]:
    """``to_json`` undone. Raises DecodeError for anything else; the meaning is not checked again (``config.assets``
    did that before the frame was made)."""
    try:
        content = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DecodeError(f"not a list of assets and devices: {error}") from error
    return content.assets, content.devices
