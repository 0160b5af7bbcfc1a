"""The historian's answers by the plainest means: a list of everything that was appended, and loops."""

from __future__ import annotations

from gateway.core.model import Micros, Quality, Reading
from gateway.historian.queries import Sample, Step

Arrived = tuple[int, int, Reading]
"""(journal position, place among its readings, reading)"""


def kept(arrived: list[Arrived]) -> list[Reading]:
    """In order of arrival, without duplicates: the first one counts."""
    seen = set()
    readings = []
    for position, place, reading in sorted(arrived, key=lambda each: each[:2]):
        own = None if reading.has_source_time else (position, place)
        key = (reading.asset, reading.point, reading.device, reading.source_time, reading.sequence, own)
        if key not in seen:
            seen.add(key)
            readings.append(reading)
    return readings


def samples(arrived: list[Arrived], asset: str, point: str, start: Micros, end: Micros) -> list[Sample]:
    chosen = [r for r in kept(arrived) if (r.asset, r.point) == (asset, point) and start <= r.source_time < end]
    chosen.sort(key=lambda reading: reading.source_time)
    return [Sample(r.source_time, r.value, r.quality, r.reason) for r in chosen]


def steps(arrived: list[Arrived], asset: str, point: str, start: Micros, end: Micros, step: Micros) -> list[Step]:
    series: dict[tuple[str, str, str], int] = {}
    for _, _, reading in arrived:
        series.setdefault((reading.asset, reading.point, reading.device), len(series))
    first, last = start // step, -(-end // step)
    chosen = [
        (r.source_time // step, r)
        for r in kept(arrived)
        if (r.asset, r.point) == (asset, point) and first <= r.source_time // step < last
    ]
    answer = []
    for number in sorted({number for number, _ in chosen}):
        everything = [r for which, r in chosen if which == number]
        inside = [r for r in everything if r.quality is not Quality.BAD and r.value is not None]
        inside.sort(key=lambda r: (r.source_time, series[r.asset, r.point, r.device]))
        numbers = [float(r.value) for r in inside if isinstance(r.value, float | int)]
        texts = [r.value for r in inside if isinstance(r.value, str)]
        answer.append(
            Step(
                number * step,
                len(inside),
                min(numbers, default=None),
                sum(numbers) / len(numbers) if numbers else None,
                max(numbers, default=None),
                numbers[-1] if numbers else texts[-1] if texts else None,
                len(everything) - len(inside),
            )
        )
    return answer
