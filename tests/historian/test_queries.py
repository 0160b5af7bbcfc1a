"""Whatever was appended, sealed, merged, rolled up and reopened in between: the answers are those of plain loops."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.model import HOUR, MINUTE, SECOND, Micros, Quality, Reading
from gateway.historian.catalog import DAY
from gateway.historian.historian import Historian
from tests.historian import brute_force
from tests.historian.brute_force import Arrived

NOON: Micros = 20_000 * DAY + 12 * HOUR
TIMES = st.one_of(
    st.sampled_from([NOON, NOON + 1, NOON + MINUTE, NOON + HOUR, NOON - DAY, NOON + DAY, NOON + 12 * HOUR - 1]),
    st.integers(NOON - 2 * HOUR, NOON + 2 * HOUR),
    st.just(-5 * DAY - 1),
)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1000, 1000),
    st.integers(-1000, 1000).map(lambda n: n / 8),
    st.sampled_from(["on", "off", "Störung", "12", ""]),
)


@st.composite
def readings(draw: st.DrawFn) -> Reading:
    time = draw(TIMES)
    timed = draw(st.booleans())
    return Reading(
        draw(st.sampled_from(["lamp-1", "lamp-2"])),
        draw(st.sampled_from(["power", "state"])),
        draw(VALUES),
        draw(st.sampled_from(Quality)),
        time,
        draw(st.sampled_from([time, time + 250_000, NOON + 3 * DAY])) if timed else time,
        draw(st.sampled_from(["a", "b"])),
        draw(st.sampled_from([None, None, "sensor says so", "超出范围"])),
        draw(st.booleans()),
        draw(st.sampled_from([None, None, 0, 1, 2**40])),
        timed,
    )


ACTIONS = st.lists(
    st.one_of(st.lists(readings(), max_size=8), st.sampled_from(["seal", "compact", "late", "reopen"])), max_size=14
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=ACTIONS, data=st.data())
def test_every_answer_is_that_of_plain_loops(actions: list[list[Reading] | str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_tell(Path(folder), actions, data))


async def _tell(folder: Path, actions: list[list[Reading] | str], data: st.DataObject) -> None:
    historian = await Historian.open(folder)
    arrived: list[Arrived] = []
    position = 0
    now = NOON
    for action in actions:
        if action == "reopen":
            await historian.close()
            historian = await Historian.open(folder)
        elif action == "seal":
            await historian._run(historian._writer, historian._seal)
        elif action == "compact":
            now += HOUR
            await historian.compact(now)
        elif action == "late":
            now += 5 * DAY
            await historian.compact(now)
        else:
            assert isinstance(action, list)
            position += data.draw(st.integers(1, 3))
            await historian.append([(position, action)])
            await historian.append([(position, action)])
            arrived += [(position, place, reading) for place, reading in enumerate(action)]
    assert historian.position == position
    for asset in ("lamp-1", "lamp-2"):
        for point in ("power", "state"):
            start = data.draw(TIMES)
            end = data.draw(TIMES) + 1
            assert await historian.readings(asset, point, start, end) == brute_force.samples(
                arrived, asset, point, start, end
            )
            step = data.draw(st.sampled_from([7 * SECOND, MINUTE, 15 * MINUTE, HOUR, DAY]))
            expected = brute_force.steps(arrived, asset, point, start, end, step) if start < end else []
            assert await historian.readings(asset, point, start, end, step) == expected
    await historian.close()
