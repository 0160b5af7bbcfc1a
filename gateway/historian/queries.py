"""Questions to the historian: the readings of one point, as they were or per step; and all of them as they arrived.

Each question is one transaction on a cursor of its own: it sees the hot tables and the list of files of one instant,
while appends and compaction go on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from gateway.core.model import Micros, Quality, Value
from gateway.historian import catalog
from gateway.historian.catalog import DAY, HOT_COLUMNS, READ_COLUMNS, STEPS, Kind, parquet
from gateway.historian.columns import QUALITIES, QUALITY_MASK, to_quality, to_value
from gateway.historian.compaction import AGGREGATES, DISTINCT, believed, floor_to

# Only what an answer needs: a third of the time goes into unpacking columns.
_ASKED = "series, time, value, text, flags, reason, sequence, cursor"


class Sample(msgspec.Struct, frozen=True, gc=False):
    """One reading of a point as it was given; ``time`` is its source time."""

    time: Micros
    value: Value
    quality: Quality
    reason: str | None = None


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a point did in the step that begins at ``time``: readings that are not bad and have a value.

    ``min`` … ``mean`` are None when none of them is a number; ``last`` is the newest number, else the newest text.
    ``bad``: how many other readings there were (0 in rollups older than this column); a step may hold only such.
    """

    time: Micros
    count: int
    min: float | None
    mean: float | None
    max: float | None
    last: float | str | None
    bad: int = 0


def series_of(db: Any, folder: Path, asset: str, point: str) -> tuple[int, ...]:
    """The numbers of all series of a point of an asset: one for each device that was ever mounted there."""
    found = db.execute("SELECT series FROM series WHERE asset = ? AND point = ?", [asset, point]).fetchall()
    return tuple(number for (number,) in found)


def samples(
    db: Any, folder: Path, series: Sequence[int], start: Micros, end: Micros, limit: int, quality: Quality | None
) -> list[Sample]:
    """Readings of ``series`` with start ≤ time < end, by time; the first ``limit`` of them."""
    condition = f"series IN ({_list(series)}) AND time >= {start} AND time < {end}"
    graded = "" if quality is None else f"WHERE (flags & {QUALITY_MASK}) = {QUALITIES.index(quality)}"
    db.execute("BEGIN")
    try:
        source = _readings(db, folder, condition, start, end)
        query = f"""
            SELECT time, value, text, flags, reason FROM ({source} {DISTINCT}) {graded}
            ORDER BY time, cursor LIMIT {limit}
        """
        rows = db.execute(query).fetchall()
    finally:
        db.execute("ROLLBACK")
    return [Sample(row[0], to_value(row[3], row[1], row[2]), to_quality(row[3]), row[4]) for row in rows]


def steps(
    db: Any, folder: Path, series: Sequence[int], start: Micros, end: Micros, step: Micros, limit: int
) -> list[Step]:
    """The steps that hold readings, from the one ``start`` is in to the one before ``end``; the first ``limit``.

    Days with a rollup in force are answered from it when ``step`` is a multiple of its own.
    """
    start, end = start - start % step, end + -end % step
    kind: Kind | None = next((kind for kind in ("1h", "1m") if step % STEPS[kind] == 0), None)
    chosen = f"series IN ({_list(series)})"
    db.execute("BEGIN")
    try:
        days = _rolled_up_days(db, kind, chosen, start, end) if kind else []
        condition = f"{chosen} AND time >= {start} AND time < {end}"
        for first, last in _runs(days):
            condition += f" AND NOT (time >= {first * DAY} AND time < {(last + 1) * DAY})"
        readings = _readings(db, folder, condition, start, end, but=days)
        parts = [f"SELECT series, {floor_to(step)} AS step, {AGGREGATES} FROM ({believed(readings)}) GROUP BY 1, 2"]
        if days:
            rollups = catalog.files(db, f"kind = ? AND day IN ({_list(days)})", [kind])
            in_step = floor_to(step).replace("time", "step")
            parts.append(f"""
                SELECT * REPLACE ({in_step} AS step)
                FROM {parquet([file.path(folder) for file in rollups], alike=False)}
                WHERE {chosen} AND step >= {start} AND step < {end}
            """)
        query = f"""
            SELECT step, sum(count)::BIGINT, min(min), sum(sum) / sum(numbers), max(max),
                   last(last ORDER BY last_time, series) FILTER (last IS NOT NULL),
                   last(last_text ORDER BY last_text_time, series) FILTER (last_text IS NOT NULL),
                   coalesce(sum(bad), 0)::BIGINT
            FROM ({" UNION ALL BY NAME ".join(parts)}) GROUP BY 1 ORDER BY 1 LIMIT {limit}
        """
        rows = db.execute(query).fetchall()
    finally:
        db.execute("ROLLBACK")
    return [
        Step(time, count, low, mean, high, number if number is not None else text, bad)
        for time, count, low, mean, high, number, text, bad in rows
    ]


def resolution(db: Any, folder: Path, start: Micros, end: Micros) -> Micros:
    """The finest step in which everything kept between ``start`` and ``end`` can be told: 0 while the readings
    themselves are there, else that of the rollups of the day that has the coarsest ones."""
    finest = " ".join(f"WHEN '{kind}' THEN {step}" for kind, step in STEPS.items())
    query = f"""
        SELECT max(finest) FROM (
            SELECT min(CASE kind {finest} ELSE 0 END) AS finest FROM files
            WHERE obsolete_at IS NULL AND last_time >= ? AND first_time < ? GROUP BY day)
    """
    (found,) = db.execute(query, [start, end]).fetchone()
    return int(found or 0)


def arrived(db: Any, folder: Path, after: int, limit: int) -> tuple[int, list[tuple[Any, ...]]]:
    """Up to ``limit`` rows (columns of a hot table) behind cursor ``after`` in order of arrival.

    Also gives the cursor up to which these rows are all there is.
    """
    db.execute("BEGIN")
    try:
        hot = [
            (table, *db.execute(f"SELECT min(cursor), max(cursor) FROM {table}").fetchone())
            for table in (f"hot_{number}" for number in catalog.hot_numbers(db))
        ]
        spans = [(first, last) for _, first, last in hot if last is not None and last > after]
        files = catalog.files(db, "kind = 'raw' AND last_cursor > ?", [after])
        spans += [(file.first_cursor, file.last_cursor) for file in files]
        if not spans:
            return after, []
        # Tables and files may overlap in time of arrival (a file a day): take all up to where the earliest one ends.
        _, end = min((max(first, after + 1), last) for first, last in spans)
        between = f"WHERE cursor > {after} AND cursor <= {end}"
        sources = [f"SELECT {HOT_COLUMNS} FROM {table} {between}" for table, *_ in hot]
        overlapping = [file.path(folder) for file in files if file.first_cursor <= end]
        if overlapping:
            sources.append(f"SELECT {READ_COLUMNS} FROM {parquet(overlapping)} {between}")
        query = f"{' UNION ALL '.join(sources)} ORDER BY cursor LIMIT {limit}"
        rows = db.execute(query).fetchall()
    finally:
        db.execute("ROLLBACK")
    return (rows[-1][8] if len(rows) == limit else end), rows


def _readings(db: Any, folder: Path, condition: str, start: Micros, end: Micros, but: Sequence[int] = ()) -> str:
    """SQL for every stored reading that meets ``condition`` (duplicates too), without the files of the days ``but``."""
    sources = [f"SELECT {_ASKED} FROM hot_{number} WHERE {condition}" for number in catalog.hot_numbers(db)]
    found = catalog.files(db, "kind = 'raw' AND last_time >= ? AND first_time < ?", [start, end])
    paths = [file.path(folder) for file in found if file.day not in but]
    if paths:
        sources.append(f"SELECT {_ASKED} FROM {parquet(paths)} WHERE {condition}")
    return f"SELECT * FROM ({' UNION ALL '.join(sources)})"


def _rolled_up_days(db: Any, kind: Kind, chosen: str, start: Micros, end: Micros) -> list[int]:
    """Days between whose rollup of ``kind`` says all there is about the ``chosen`` series."""
    query = """
        SELECT DISTINCT files.day FROM files LEFT JOIN days USING (day)
        WHERE kind = ? AND obsolete_at IS NULL AND last_time >= ? AND first_time < ?
          AND (changed = rolled_up OR NOT EXISTS (
              SELECT 1 FROM files AS raw WHERE raw.kind = 'raw' AND raw.day = files.day AND raw.obsolete_at IS NULL))
        ORDER BY 1
    """
    days = [row[0] for row in db.execute(query, [kind, start, end]).fetchall()]
    if not days:
        return []
    span = f"time >= {days[0] * DAY} AND time < {(days[-1] + 1) * DAY}"
    hot = " UNION ".join(
        f"SELECT {floor_to(DAY)} // {DAY} FROM hot_{number} WHERE {chosen} AND {span}"
        for number in catalog.hot_numbers(db)
    )
    touched = {row[0] for row in db.execute(hot).fetchall()}
    return [day for day in days if day not in touched]


def _runs(days: Iterable[int]) -> list[tuple[int, int]]:
    """Sorted days as runs (first, last)."""
    runs: list[tuple[int, int]] = []
    for day in days:
        if runs and runs[-1][1] == day - 1:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
