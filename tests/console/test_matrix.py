"""Route × role, from the OpenAPI document: every route without a name, with each role, and with a scope that does not
cover what is asked for. A route that is not in the table fails the test: whoever adds one says here who may."""

from __future__ import annotations

import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import httpx

from gateway.core.cases import Case, CaseRow, TicketRow
from gateway.core.model import (
    SECOND,
    Frame,
    FrameKind,
    FrameRejected,
    Maintenance,
    MaintenanceChanged,
    Rejection,
    WorkOrder,
)
from gateway.core.records import Role, Scope
from tests.console.city import ASSETS, DEVICES, START, Running, record, running, step


class Outside(Enum):
    """What somebody gets whose scope does not cover lamp-1 and its device d-1."""

    ABSENT = "404: it is not there"
    EMPTY = "200, and nothing of it"
    WHOLE = "403 narrowed: this is about the gateway or the city as a whole"
    ANY = "as everybody: it is about no asset"


class Row(NamedTuple):
    """Who may: this role and the ones above it; None: whoever comes, without a name."""

    role: Role | None
    outside: Outside


VIEWER, OPERATOR, MAINTAINER, SUPERVISOR, ENGINEER, ADMIN = Role
ABSENT, EMPTY, WHOLE, ANY = Outside

TABLE: dict[tuple[str, str], Row] = {
    ("GET", "/api/v1/health"): Row(None, ANY),
    ("GET", "/api/v1/sign-in-ways"): Row(None, ANY),
    ("POST", "/api/v1/session"): Row(None, ANY),
    ("GET", "/api/v1/oidc/start"): Row(None, ABSENT),  # the settings of this gateway name no provider
    ("GET", "/api/v1/oidc/callback"): Row(None, ABSENT),
    ("POST", "/api/v1/inbound/sms"): Row(None, ABSENT),  # nor an SMS gateway
    ("POST", "/api/v1/inbound/cases/{platform}"): Row(None, ANY),  # 403: nothing is signed, whoever the platform
    # cases with the city's platforms
    ("GET", "/api/v1/cases"): Row(OPERATOR, EMPTY),
    ("GET", "/api/v1/cases/figures"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/tickets"): Row(OPERATOR, EMPTY),
    # alarms
    ("GET", "/api/v1/alarms"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/alarms/{alarm_id}"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/alarms/{alarm_id}/history"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/alarms/{alarm_id}/why"): Row(VIEWER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/acknowledge"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/unacknowledge"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/shelve"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/unshelve"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/reset"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/silence"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/comment"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/assign"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/out-of-service"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/in-service"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/confirm"): Row(SUPERVISOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/force-clear"): Row(SUPERVISOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/dispatch"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/accept"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/refuse"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/on-site"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/done"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/verify"): Row(SUPERVISOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/return"): Row(SUPERVISOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/close"): Row(OPERATOR, ABSENT),
    ("POST", "/api/v1/alarms/{alarm_id}/photos"): Row(MAINTAINER, ABSENT),
    ("GET", "/api/v1/photos/{photo_id}"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/alarms/{alarm_id}/calls"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/duty"): Row(VIEWER, ANY),
    ("GET", "/api/v1/crews"): Row(VIEWER, ANY),
    ("GET", "/api/v1/maintenance"): Row(VIEWER, EMPTY),
    ("POST", "/api/v1/maintenance"): Row(MAINTAINER, ABSENT),
    ("POST", "/api/v1/maintenance/{id}/end"): Row(MAINTAINER, ABSENT),
    ("GET", "/api/v1/work"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/work/{alarm_id}"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/stream"): Row(VIEWER, ANY),  # what it tells: below
    ("GET", "/api/v1/operator-load"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/shadow"): Row(VIEWER, EMPTY),
    # the journal and the shift
    ("GET", "/api/v1/journal"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/journal/export"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/shift"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/handovers"): Row(VIEWER, EMPTY),
    ("POST", "/api/v1/handovers"): Row(OPERATOR, EMPTY),  # a report of their own part
    ("GET", "/api/v1/handovers/{handover_id}"): Row(VIEWER, ABSENT),
    ("POST", "/api/v1/handovers/{handover_id}/take"): Row(OPERATOR, ABSENT),
    ("GET", "/api/v1/notifications"): Row(VIEWER, EMPTY),
    # the city
    ("GET", "/api/v1/assets"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/assets/{asset_id}"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/assets/{asset_id}/points"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/assets/{asset_id}/alarm-bands"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/assets/{asset_id}/limits"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/assets/{asset_id}/notes"): Row(VIEWER, ABSENT),
    ("POST", "/api/v1/assets/{asset_id}/notes"): Row(OPERATOR, ABSENT),
    ("GET", "/api/v1/readings"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/points"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/places"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/names"): Row(VIEWER, ANY),
    ("GET", "/api/v1/overview"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/overview/history"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/map"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/map/lines"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/map/base"): Row(VIEWER, ANY),
    ("GET", "/api/v1/map/settings"): Row(VIEWER, ANY),
    ("GET", "/api/v1/map/tiles.pmtiles"): Row(VIEWER, ABSENT),  # the settings of this gateway name no tiles
    ("GET", "/api/v1/profiles"): Row(VIEWER, ANY),
    ("GET", "/api/v1/devices"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/devices/{device_id}"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/devices/{device_id}/frames"): Row(VIEWER, ABSENT),
    ("POST", "/api/v1/devices/{device_id}/credentials"): Row(ADMIN, ABSENT),
    ("DELETE", "/api/v1/devices/{device_id}/credentials"): Row(ADMIN, ABSENT),
    ("POST", "/api/v1/devices/{device_id}/points/{point}"): Row(SUPERVISOR, ABSENT),
    ("GET", "/api/v1/unknown-devices"): Row(VIEWER, WHOLE),
    ("POST", "/api/v1/unknown-devices/{name}/claim"): Row(SUPERVISOR, WHOLE),
    # the gateway
    ("GET", "/api/v1/ledger"): Row(VIEWER, WHOLE),
    ("GET", "/api/v1/rejected"): Row(VIEWER, EMPTY),
    ("POST", "/api/v1/rejected/replay"): Row(SUPERVISOR, EMPTY),
    ("POST", "/api/v1/rejected/{position}/{index}/replay"): Row(SUPERVISOR, ABSENT),
    ("GET", "/api/v1/modbus"): Row(VIEWER, EMPTY),
    ("GET", "/api/v1/system"): Row(VIEWER, WHOLE),
    ("GET", "/api/v1/configuration"): Row(SUPERVISOR, WHOLE),
    ("POST", "/api/v1/configuration/check"): Row(ENGINEER, WHOLE),
    ("POST", "/api/v1/configuration/reload"): Row(ENGINEER, WHOLE),
    ("GET", "/api/v1/audit"): Row(SUPERVISOR, WHOLE),
    ("GET", "/metrics"): Row(VIEWER, WHOLE),
    ("GET", "/api/v1/canaries"): Row(VIEWER, WHOLE),
    # rules
    ("GET", "/api/v1/rules"): Row(VIEWER, ANY),
    ("GET", "/api/v1/rules/{rule}"): Row(VIEWER, ANY),
    ("GET", "/api/v1/rules/{rule}/limits"): Row(VIEWER, ABSENT),
    ("GET", "/api/v1/rules/{rule}/changes"): Row(VIEWER, ANY),
    ("GET", "/api/v1/rule-changes"): Row(VIEWER, ANY),
    ("POST", "/api/v1/rules/check"): Row(ENGINEER, ANY),
    ("POST", "/api/v1/rules/stories"): Row(ENGINEER, ANY),
    ("PUT", "/api/v1/rules/{rule}"): Row(ENGINEER, WHOLE),
    ("PATCH", "/api/v1/rules/{rule}"): Row(ENGINEER, WHOLE),
    ("DELETE", "/api/v1/rules/{rule}"): Row(ENGINEER, WHOLE),
    ("POST", "/api/v1/rule-changes/{id}/undo"): Row(ENGINEER, WHOLE),
    ("POST", "/api/v1/backtests"): Row(ENGINEER, WHOLE),
    ("GET", "/api/v1/backtests"): Row(ENGINEER, WHOLE),
    ("GET", "/api/v1/backtests/{id}"): Row(ENGINEER, WHOLE),
    ("DELETE", "/api/v1/backtests/{id}"): Row(ENGINEER, WHOLE),
    # people
    ("GET", "/api/v1/views"): Row(VIEWER, ANY),
    ("PUT", "/api/v1/views/{page}/{name}"): Row(VIEWER, ANY),
    ("DELETE", "/api/v1/views/{page}/{name}"): Row(VIEWER, ANY),
    ("GET", "/api/v1/session"): Row(VIEWER, ANY),
    ("DELETE", "/api/v1/session"): Row(VIEWER, ANY),
    ("PUT", "/api/v1/session/password"): Row(VIEWER, ANY),
    ("GET", "/api/v1/users"): Row(ADMIN, WHOLE),
    ("POST", "/api/v1/users"): Row(ADMIN, WHOLE),
    ("PATCH", "/api/v1/users/{name}"): Row(ADMIN, WHOLE),
    ("POST", "/api/v1/users/{name}/password"): Row(ADMIN, WHOLE),
    ("GET", "/api/v1/tokens"): Row(ADMIN, WHOLE),
    ("POST", "/api/v1/tokens"): Row(ADMIN, WHOLE),
    ("DELETE", "/api/v1/tokens/{name}"): Row(ADMIN, WHOLE),
}

PHOTO = b"\xff\xd8\xff\xe0 a lamp"

# What stands for a placeholder of a path, and for what a query or a body must have.
PATH = {
    "alarm_id": "lamp-1%2Flamp-out",
    "asset_id": "lamp-1",
    "device_id": "d-1",
    "point": "setpoint",
    "name": "nobody",
    "rule": "bridge-wind",
    "id": "1",
    "handover_id": "1",  # signed by somebody of the whole city
    "page": "alarms",
    "position": "9",  # a rejected frame of d-1
    "index": "0",
    "photo_id": hashlib.sha256(PHOTO).hexdigest(),  # of an alarm of lamp-1
}
QUERY = {"asset": "lamp-1", "point": "power", "from": "2025-07-20T00:00:00Z", "to": "2025-07-21T00:00:00Z"}
BODY: dict[str, Any] = {
    "asset": "lamp-2",
    "profile": "generic/json-lamp",
    "rev": 999,
    "comment": "c",
    "reason": "r",
    "seconds": 60,
    "work": "w",
    "cause_code": "c",
    "to": "li",
    "role": "viewer",
    "value": 1.5,
    "why": "w",
    "name": "x",
    "old": "the old password",
    "new": "the new password",
    "yaml": "- {rule: bridge-wind, applies_to: {kind: bridge}, when: {point: wind, above: 15 m/s}}",
    "rule": "bridge-wind",
    "since": "2025-07-20T00:00:00Z",
    "until": "2025-07-21T00:00:00Z",
    "enabled": True,
    "text": "a note",
    "code": "bad_payload",
    "words": "quiet",
    "action": "a new fuse",
    "query": "?level=I",
}
RULE_REV = {"rev": "0" * 12, "why": "w"}  # a rule's rev is a text
OTHER_BODY: dict[tuple[str, str], dict[str, Any]] = {
    ("PUT", "/api/v1/rules/{rule}"): RULE_REV,
    ("PATCH", "/api/v1/rules/{rule}"): RULE_REV,
    ("DELETE", "/api/v1/rules/{rule}"): RULE_REV,
    ("POST", "/api/v1/maintenance"): {
        "asset": "lamp-1",
        "since": None,
        "until": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    },
}
OURS = [asset.asset for asset in ASSETS] + [device.device for device in DEVICES]


class Route(NamedTuple):
    """One operation of the document, ready to be asked: something of everything that it needs."""

    method: str
    path: str
    url: str
    query: dict[str, str]
    body: dict[str, Any] | bytes | None

    async def ask(self, client: httpx.AsyncClient) -> tuple[int, str]:
        """Status and text; of a stream only the head is read."""
        raw = self.body if isinstance(self.body, bytes) else None
        sent = None if raw is not None else self.body
        async with client.stream(self.method, self.url, params=self.query, json=sent, content=raw) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return answer.status_code, ""
            return answer.status_code, (await answer.aread()).decode("utf-8", "replace")


def routes_of(document: dict[str, Any]) -> list[Route]:
    found = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            given = operation.get("parameters", [])
            names = [one["name"] for one in given if one["in"] == "path"]
            url = path
            for name in names:
                url = url.replace(f"{{{name}}}", PATH.get(name, "1"))
            query = {one["name"]: QUERY[one["name"]] for one in given if one["in"] == "query" and one.get("required")}
            body = body_of(document, operation)
            if (method.upper(), path) in OTHER_BODY:
                assert not isinstance(body, bytes)
                body = (body or {}) | OTHER_BODY[method.upper(), path]
            found.append(Route(method.upper(), path, url, query, body))
    return found


def body_of(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any] | bytes | None:
    """A body with every member that the operation knows and BODY has; an image where it takes one."""
    if "requestBody" not in operation:
        return None
    if "image/jpeg" in operation["requestBody"]["content"]:
        return PHOTO
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    name = schema.get("$ref", "").rsplit("/", 1)[1] if "$ref" in schema else None
    known = document["components"]["schemas"][name]["properties"] if name is not None else {}
    return {key: value for key, value in BODY.items() if key in known}


def in_table(routes: list[Route]) -> list[Route]:
    """Those that have a row; the others fail one test, not all."""
    return [route for route in routes if (route.method, route.path) in TABLE]


async def something(console: Running) -> None:
    """An alarm of lamp-1 with work, a photo, a case and a ticket, a rejected frame of its device, and the report of a
    shift that has both of them."""
    frame = Frame(FrameKind.MQTT, "mqtt", "citywatch/v1/lamp/d-1/telemetry", b"nonsense", START)
    rejected = FrameRejected(9, 0, frame, Rejection("bad_payload", "not JSON", "d-1"))
    order = WorkOrder("01J", "crew-1", "li", START)
    await console.gateway.commit(step(record(work="DISPATCHED", order=order)), rejected)
    window = Maintenance("1", "lamp-1", START, START + 60 * SECOND, "W-1", "new lamp", "li", START)
    await console.gateway.commit(MaintenanceChanged(START, window))
    await console.gateway.store.work.add_photo("lamp-1/lamp-out", "01J", START, "li", "image/jpeg", PHOTO, 9)
    cases = console.gateway.store.cases
    row = CaseRow("city", Case("01J", "lamp-1/lamp-out", "01J", START))
    await cases.change("city", "01J", lambda _: row)
    await cases.keep_ticket(TicketRow(0, "city", "T-1", START, START, alarm_id="lamp-1/lamp-out"))
    async with console.client() as client:
        signed = await client.post("/api/v1/handovers", json={"words": "lamp-1 is out"})
        assert (signed.status_code, signed.json()["id"]) == (201, 1), signed.text


async def test_every_route_has_a_row_and_every_row_a_route(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as nobody:
        document = (await nobody.get("/openapi.json")).json()
        found = {(route.method, route.path) for route in routes_of(document)}
        assert not (new := sorted(found - TABLE.keys())), f"say in TABLE who may use these: {new}"
        assert not (gone := sorted(TABLE.keys() - found)), f"these are in TABLE and not in the API: {gone}"


async def test_every_route_by_every_role_is_as_the_table_says(tmp_path: Path) -> None:
    async with running(tmp_path) as console:
        await something(console)
        async with contextlib.AsyncExitStack() as stack:
            nobody = await stack.enter_async_context(console.client(None))
            people = {role: await stack.enter_async_context(console.client(role)) for role in Role}
            found = in_table(routes_of((await nobody.get("/openapi.json")).json()))
            wrong: list[tuple[object, ...]] = []
            for route in found:
                row = TABLE[route.method, route.path]
                status, _ = await route.ask(nobody)
                if (status == 401) is (row.role is None):
                    wrong.append((route.method, route.path, "nobody", status))
                for role in Role if row.role is not None else ():
                    status, text = await route.ask(people[role])
                    assert row.role is not None
                    if (status == 403) is (role >= row.role) or status in (401, 405, 422) or status >= 500:
                        wrong.append((route.method, route.path, role.word, status, text[:200]))
                    if status == 403 and '"forbidden"' not in text:
                        wrong.append((route.method, route.path, role.word, text[:200]))
            assert wrong == []


async def test_what_is_outside_a_scope_is_not_there(tmp_path: Path) -> None:
    """Asked by an administrator of another town, who may do everything there."""
    async with running(tmp_path) as console:
        scope = Scope(towns=("别处",))
        secret = await console.gateway.store.create_token("elsewhere", Role.ADMIN, START, None, scope)
        await something(console)
        headers = {"Authorization": f"Bearer {secret}"}
        async with console.client(None) as client, console.client() as whole:
            found = in_table(routes_of((await client.get("/openapi.json")).json()))
            client.headers.update(headers)
            wrong: list[tuple[object, ...]] = []
            for route in found:
                row = TABLE[route.method, route.path]
                status, text = await route.ask(client)
                match row.outside:
                    case Outside.ABSENT:
                        right = status == 404 and '"not_found"' in text
                    case Outside.EMPTY:
                        right = status in (200, 201) and not any(f'"{name}' in text for name in OURS)
                    case Outside.WHOLE:
                        right = status == 403 and '"narrowed"' in text
                    case Outside.ANY:
                        right = status not in (401, 404) and status < 500 and '"narrowed"' not in text
                if not right:
                    wrong.append((route.method, route.path, row.outside.value, status, text[:200]))
                if row.outside is Outside.EMPTY:  # there was something to be hidden
                    seen, _ = await route.ask(whole)
                    assert seen in (200, 201), route.path
            assert wrong == []


async def test_every_route_but_the_public_ones_says_in_openapi_that_it_needs_a_name(tmp_path: Path) -> None:
    async with running(tmp_path) as console, console.client(None) as client:
        document = (await client.get("/openapi.json")).json()
        for route in in_table(routes_of(document)):
            operation = document["paths"][route.path][route.method.lower()]
            public = TABLE[route.method, route.path].role is None
            assert bool(operation.get("security")) is not public, (route.method, route.path)
