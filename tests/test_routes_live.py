"""Routes in a running gateway: a change of the file is in force by itself, a mistake changes nothing and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.core.records import Role
from tests.console.living import Living, living

CITY: dict[str, Any] = {"assets": [{"asset": "lamp-1", "kind": "lamp"}], "devices": []}
RECEIVERS = [{"name": "desk", "url": "http://127.0.0.1:9/hook", "allow_loopback": True}]
ROUTES = """\
people: [{person: zhang, channels: [{receiver: desk}]}]
route: {steps: [{tell: person:zhang}]}
"""


def people(gateway: Living) -> set[str]:
    configuration = gateway.gateway.pipeline.processor.configuration
    return set() if configuration is None else set(configuration.routing.people)


async def test_routes_that_change_are_in_force_by_themselves_and_a_mistake_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    file = folder / "routes.yaml"
    file.write_text(ROUTES, encoding="utf-8")
    async with living(tmp_path, CITY, {"routes": str(file), "receivers": RECEIVERS}) as gateway:
        assert people(gateway) == {"zhang"}
        file.write_text(ROUTES.replace("zhang", "li"), encoding="utf-8")
        await gateway.until(lambda: people(gateway) == {"li"})
        file.write_text(ROUTES.replace("person:zhang", "person:zhagn"), encoding="utf-8")
        await gateway.until(lambda: bool(gateway.gateway.reload_mistakes))
        (mistake,) = gateway.gateway.reload_mistakes
        assert (mistake.file, mistake.line) == (str(file), 2)
        assert "did you mean `zhang`" in mistake.message
        assert people(gateway) == {"li"}
        beside = folder / "new.yaml"  # as editors do: written beside, then in its place
        beside.write_text(ROUTES.replace("zhang", "wang"), encoding="utf-8")
        beside.rename(file)
        await gateway.until(lambda: people(gateway) == {"wang"})
        assert gateway.gateway.reload_mistakes == []
        async with gateway.client(Role.ENGINEER) as client:
            shown = (await client.get("configuration")).json()
        assert shown["sources"]["routes"] == str(file)
