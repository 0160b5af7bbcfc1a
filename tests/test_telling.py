"""Receivers out of the settings: what is written where, what is refused, and what each of them listens to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.check import check_everything
from gateway.config.settings import Settings, parse_settings
from gateway.core.model import Level
from gateway.errors import ConfigError
from gateway.notify.apprise import AppriseReceiver
from gateway.notify.log import LogReceiver
from gateway.notify.robot import RobotReceiver
from gateway.notify.webhook import WebhookReceiver
from gateway.telling import receivers_of
from gateway.upkeep import redacted
from tests.notify.messages import wording

WEBHOOK = {"name": "hook", "url": "https://hook.example.gov.cn/x"}
MAIL = {"name": "mail", "type": "apprise", "url_env": "MAIL_URL"}
ROBOT = {"name": "group", "type": "robot", "platform": "dingtalk", "url_env": "ROBOT_URL", "secret_env": "ROBOT_SECRET"}
MIRROR = {"name": "wall", "type": "mqtt", "url": "mqtts://broker.example.gov.cn"}
ENVIRONMENT = {
    "MAIL_URL": "mailtos://alarm:s3cret@smtp.example.gov.cn?to={to}",
    "ROBOT_URL": "https://oapi.dingtalk.com/robot/send?access_token=t0ken",
    "ROBOT_SECRET": "SEC123",
}


def parse(folder: Path = Path("/etc/citywatch"), **settings: Any) -> Settings:
    return parse_settings(yaml.safe_dump(settings), "citywatch.yaml", folder, {})


def test_every_kind_of_receiver_is_made_and_people_only_ones_are_no_feeds() -> None:
    hook = WEBHOOK | {"level": "II", "kinds": ["pump"], "groups": ["flood-desk"], "simulated": True}
    settings = parse(receivers=[hook, MAIL, ROBOT | {"people_only": False, "level": "I"}, MIRROR])
    told = receivers_of(settings, wording(), wording(None), ENVIRONMENT)
    assert {name: type(one) for name, one in told.receivers.items()} == {
        "log": LogReceiver, "hook": WebhookReceiver, "mail": AppriseReceiver, "group": RobotReceiver,
    }  # fmt: skip
    assert [(feed.receivers, feed.level, feed.kinds, feed.groups, feed.simulated) for feed in told.feeds] == [
        (("log",), Level.IV, (), (), None),
        (("hook",), Level.II, ("pump",), ("flood-desk",), True),
        (("group",), Level.I, (), (), False),
    ]
    assert told.for_simulated == {"log", "hook"}
    assert len(told.close) == 2


def test_secrets_of_addresses_come_from_files_too(tmp_path: Path) -> None:
    (tmp_path / "mail.url").write_text("mailto://u:p@smtp.example.org?to={to}\n")
    settings = parse(tmp_path, receivers=[{"name": "mail", "type": "apprise", "url_file": "mail.url"}])
    assert set(receivers_of(settings, wording(), wording(None), {}).receivers) == {"log", "mail"}


@pytest.mark.parametrize(
    ("receiver", "said"),
    [
        ({"name": "m", "type": "apprise", "url": "mailto://u:p@h"}, "its address holds secrets: say url_file"),
        ({"name": "m", "type": "robot", "platform": "wecom", "url": "https://x"}, "its address holds secrets"),
        ({"name": "m", "type": "apprise"}, "say either `url_file` or `url_env`"),
        ({"name": "m", "type": "apprise", "url_file": "a", "url_env": "A"}, "say either"),
        ({"name": "m", "type": "pigeon"}, "type must be webhook, apprise, robot"),
        ({"name": "m", "type": ["webhook"]}, "type must be webhook"),
        ({"name": "m", "type": "robot", "platform": "qq", "url_env": "A"}, "platform"),
        ({"name": "m", "url": "ftp://x"}, "receivers[0].url"),
        ({"name": "m", "url": "https://x", "secrt_file": "x"}, "no such key: did you mean `secret_file`?"),
        ({"name": "log", "url": "https://x"}, "a receiver cannot be called 'log'"),
        ({"name": "m", "type": "mqtt"}, "say either `embedded: true` or `url"),
        ({"name": "m", "type": "mqtt", "url": "mqtt://u:p@h"}, "url must be mqtt://host:port"),
        ({"name": "m", "type": "mqtt", "embedded": True}, "there is no embedded broker"),
        ({"name": "m", "type": "mqtt", "url": "mqtt://h", "readers": ["a"]}, "readers are those of the embedded"),
    ],
)
def test_a_mistake_is_named(receiver: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(receivers=[receiver])
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"canary": {"every": "10s"}}, "every: between 1m and 24h"),
        ({"canary": {"every": "5m", "patience": "6m"}}, "patience: between 1s and"),
        ({"inbound": {"sms": {}}}, "`secret_file` is missing"),
        ({"console": {"public_url": "alarm.example.gov.cn"}}, "console.public_url"),
        ({"console": {"public_url": "https://x/?y"}}, "console.public_url"),
        ({"receivers": [WEBHOOK, WEBHOOK]}, "two receivers entries are called 'hook'"),
    ],
)
def test_a_mistake_elsewhere_is_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(**settings)
    assert said in str(caught.value)


def test_a_file_from_before_there_were_kinds_is_as_it_was() -> None:
    (receiver,) = parse(receivers=[WEBHOOK]).receivers
    assert (receiver.type, receiver.name) == ("webhook", "hook")
    assert parse().canary is None


def test_what_is_missing_is_said_for_all_of_them_at_once() -> None:
    settings = parse(receivers=[MAIL, ROBOT, {"name": "sms", "type": "apprise", "url_env": "SMS"}])
    with pytest.raises(ConfigError) as caught:
        receivers_of(settings, wording(), wording(None), {"SMS": "syslog://x"})
    said = str(caught.value)
    assert "receivers mail: the environment has no variable MAIL_URL" in said
    assert "receivers group: the environment has no variable ROBOT_URL" in said
    assert "receivers sms: syslog:// cannot be used here" in said


def test_the_console_shows_no_secret(tmp_path: Path) -> None:
    (tmp_path / "mail.url").write_text(ENVIRONMENT["MAIL_URL"])
    mail = {"name": "mail", "type": "apprise", "url_file": "mail.url"}
    sms = {"sms": {"secret_file": "sms.secret"}}
    shown = str(redacted(parse(tmp_path, receivers=[mail, ROBOT, MIRROR], inbound=sms, canary={})))
    assert "s3cret" not in shown
    assert "15m" in shown


def test_check_finds_what_the_start_would_find(tmp_path: Path) -> None:
    file = tmp_path / "citywatch.yaml"
    (tmp_path / "sms.url").write_text("d7sms://token@{to}")
    file.write_text(
        yaml.safe_dump({"receivers": [
            {"name": "sms", "type": "apprise", "url_file": "sms.url"},
            {"name": "x", "type": "apprise", "url_file": "no"},
        ]})
    )  # fmt: skip
    assert [str(mistake) for mistake in check_everything(file).mistakes] == [
        f"{file}: receivers x.url_file: there is no file {tmp_path / 'no'}"
    ]
    (tmp_path / "no").write_text("mailto://u:p@smtp.example.org?to={to}")
    (mistake,) = check_everything(file).mistakes
    assert "{to} must stand behind the host" in str(mistake)
