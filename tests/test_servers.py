"""The servers the other tests lean on come up, can be killed and come back, and are gone afterwards."""

from __future__ import annotations

import aiomqtt
import httpx
import pytest

from tests import servers


async def test_a_broker_comes_back_on_the_same_port_after_a_kill() -> None:
    async with servers.mosquitto() as broker:
        port = broker.port
        assert await broker.kill() == -9
        assert not broker.running
        await broker.start()
        assert broker.port == port
        async with aiomqtt.Client("127.0.0.1", port) as client:
            await client.publish("a", "b", qos=1)
    assert not broker.running


async def test_only_the_users_named_may_connect_and_the_acl_holds() -> None:
    acl = "user gateway\ntopic read #\n\npattern write citywatch/v1/+/%u/telemetry\n"
    async with servers.mosquitto(users={"gateway": "g", "lamp-1": "l"}, acl=acl) as broker:
        with pytest.raises(aiomqtt.MqttError):
            async with aiomqtt.Client("127.0.0.1", broker.port, username="gateway", password="wrong"):
                pass
        async with (
            aiomqtt.Client("127.0.0.1", broker.port, username="gateway", password="g") as gateway,
            aiomqtt.Client("127.0.0.1", broker.port, username="lamp-1", password="l") as lamp,
        ):
            await gateway.subscribe("#", qos=1)
            await lamp.publish("citywatch/v1/lamp/lamp-2/telemetry", "not mine", qos=1)
            await lamp.publish("citywatch/v1/lamp/lamp-1/telemetry", "mine", qos=1)
            assert (await anext(aiter(gateway.messages))).payload == b"mine"


async def test_what_is_written_as_line_protocol_can_be_read_back(victoria_metrics: servers.Database) -> None:
    async with httpx.AsyncClient(trust_env=False, verify=False) as client:
        answer = await client.post(
            f"{victoria_metrics.url}/api/v2/write?precision=ms", content="lamp,asset=L1 power=95 1700000000000\n"
        )
    assert answer.status_code == 204
    await victoria_metrics.flush()
    (series,) = await victoria_metrics.export('{asset="L1"}')
    assert series["metric"]["__name__"] == "lamp_power"
    assert (series["values"], series["timestamps"]) == ([95], [1700000000000])


def test_a_program_that_does_not_exist_skips_the_test_and_fails_it_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "_tried", {"no-such-package"})
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="apt-get install no-such-package"):
        servers.need_debian("no-such-package", "no-such-program")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception):
        servers.need_debian("no-such-package", "no-such-program")
