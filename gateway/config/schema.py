"""JSON Schemas of profiles, rules and asset files, for editors that complete and check YAML while it is written.

They come from the same models that read the files, so they cannot fall behind; what these hold against units, names of
points and one another only ``citywatch check`` can say.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.config import rule_models
from gateway.config.assets import ASSET_KINDS, ATTRIBUTE_UNITS, LINKS
from gateway.config.profiles import ProfileModel
from gateway.core.vocabulary import COMMON, GATEWAY_POINTS, KINDS, POINTS

What = Literal["profile", "rules", "assets"]
DIALECT = "https://json-schema.org/draft/2020-12/schema"

_LEAVES: tuple[type[BaseModel], ...] = (
    rule_models.LimitModel,
    rule_models.OutsideModel,
    rule_models.IsModel,
    rule_models.RateModel,
    rule_models.SilentModel,
    rule_models.ShareModel,
    rule_models.WindowModel,
    rule_models.FrozenModel,
    rule_models.DeviationModel,
    rule_models.StandsModel,
    rule_models.BadModel,
    rule_models.ExprModel,
)
_CONDITION = {"$ref": "#/$defs/Condition"}


def schema_of(what: What) -> dict[str, Any]:
    """The schema of one profile file, of a file of rules, or of a file of assets."""
    match what:
        case "profile":
            return _profile()
        case "rules":
            return _rules()
        case "assets":
            return _assets()


def _profile() -> dict[str, Any]:
    schema = ProfileModel.model_json_schema()
    kind = {"enum": list(KINDS)}
    schema["properties"]["kind"] = {"anyOf": [kind, {"type": "array", "items": kind}], "title": "Kind"}
    names = sorted({name for points in POINTS.values() for name in points} | set(COMMON))
    # Names of the vocabulary are offered; a vendor's own are as good.
    schema["properties"]["points"]["propertyNames"] = {"anyOf": [{"enum": names}, {"pattern": "^[a-z][a-z0-9_]*$"}]}
    return {"$schema": DIALECT, **schema, "title": "citywatch profile"}


def _rules() -> dict[str, Any]:
    models = [(model, "validation") for model in (rule_models.RuleModel, *_LEAVES)]
    _, found = models_json_schema(models, ref_template="#/$defs/{model}")  # type: ignore[arg-type]
    defs: dict[str, Any] = found["$defs"]
    defs["Condition"] = {
        "anyOf": [
            *({"$ref": f"#/$defs/{leaf.__name__}"} for leaf in _LEAVES),
            *(_only(key, {"type": "array", "items": _CONDITION, "minItems": 1}) for key in ("all", "any")),
            *(_only(key, _CONDITION) for key in ("not", "any_pump", "every_pump")),
        ]
    }
    rule = defs["RuleModel"]
    rule["properties"]["when"] = rule["properties"]["clear_when"] = _CONDITION
    defs["ShareBodyModel"]["properties"]["where"] = _CONDITION
    kind = {"enum": sorted({*ASSET_KINDS, "gateway"})}
    defs["AppliesToModel"]["properties"]["kind"] = {"anyOf": [kind, {"type": "array", "items": kind}]}
    points = sorted({name for points in (*POINTS.values(), GATEWAY_POINTS) for name in points} | set(COMMON))
    for leaf in _LEAVES:
        properties = defs[leaf.__name__]["properties"]
        if "point" in properties:
            properties["point"] = {"anyOf": [{"enum": points}, {"type": "string"}]}
    return {
        "$schema": DIALECT,
        "title": "citywatch rules",
        "type": "array",
        "items": {"$ref": "#/$defs/RuleModel"},
        "$defs": defs,
    }


def _only(key: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {key: value}, "required": [key], "additionalProperties": False}


def _assets() -> dict[str, Any]:
    scalar = {"type": ["string", "number", "boolean"]}
    attributes = {
        "type": "object",
        "properties": {name: {**scalar, "description": unit} for name, unit in ATTRIBUTE_UNITS.items()},
        "additionalProperties": scalar,
    }
    text = {"type": "string"}
    degrees = {"type": ["number", "null"]}
    asset = {
        "type": "object",
        "properties": {
            "asset": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
            "kind": {"enum": sorted(ASSET_KINDS)},
            **dict.fromkeys(("name", "road", "town", "unit"), text),
            "longitude": degrees,
            "latitude": degrees,
            "links": {"type": "object", "properties": dict.fromkeys(LINKS, text), "additionalProperties": text},
            "attributes": attributes,
            "simulated": {"type": "boolean"},
        },
        "required": ["asset", "kind"],
        "additionalProperties": False,
    }
    device = {
        "type": "object",
        "properties": {
            "device": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
            "asset": text,
            "profile": text,
            "address": text,
            "expected_interval": {"type": ["string", "number", "null"]},
            "attributes": attributes,
        },
        "required": ["device", "asset", "profile"],
        "additionalProperties": False,
    }
    return {
        "$schema": DIALECT,
        "title": "citywatch assets",
        "type": "object",
        "properties": {"assets": {"type": "array", "items": asset}, "devices": {"type": "array", "items": device}},
        "additionalProperties": False,
    }
