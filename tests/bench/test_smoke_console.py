"""The benchmark of the console once, as small as it goes: that it works, not how fast it is."""

from __future__ import annotations

import pytest

from bench import console
from bench.big_city import BigCity
from tests.bench.measured import all_measured
from tests.servers import need_debian

pytestmark = pytest.mark.usefixtures("as_a_benchmark")


def test_the_console_is_measured_in_a_browser() -> None:
    need_debian("chromium", "chromium")
    city = BigCity(covers=200, bridges=100, probes=100, lamps=100)
    figures = console.run(city, probes=4, readers=3, window_s=1, loads=1)
    all_measured(figures, console.TARGETS)
    assert figures["browsers"]["ended_early"] == 0
