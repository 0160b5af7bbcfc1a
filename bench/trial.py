"""One try at a rate: a load of so many messages a second for some seconds, and whether who takes them in keeps up.

Two can be tried: the gateway, and the bare gmqtt subscriber it is measured against.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

import psutil

from bench.faults.disk import HarnessError
from bench.faults.processes import REPOSITORY, die_with_parent
from bench.stand import (
    CONNECTIONS,
    DRAIN_S,
    START_S,
    BrokerKind,
    Gateway,
    Load,
    Stand,
    cpu_s,
    forget_rss_peak,
    rss_bytes,
    wait_for,
)
from simulators.load import Plan

LAG_S = 1.0  # a rate holds when this long after the last message everything has been taken in;
LAG_SHARE = 0.05  # after a short load sooner: in 6 s, a second's delay would hide a sixth too much
LAG_LEAST_S = 0.25
SENT_SHARE = 0.97  # of what the rate asks for; a load that cannot be sent proves nothing about who takes it in
HISTORY_BATCHES = 300  # the historian may follow by so many batches of 10 ms when the load ends …
HISTORY_S = 5.0  # … and must have caught up after so long


@dataclass(frozen=True, slots=True)
class Trial:
    """One load of a fixed rate and what came of it. CPU in µs a message; ``lag_s``: from the load's end until all was
    taken in; ``rss_peak``: the most during this load; ``why``: None when the rate holds."""

    rate: float
    sent: int
    seconds: float
    lag_s: float
    cpu_us: float
    broker_cpu_us: float
    load_cpu_us: float
    rss: int
    rss_peak: int
    why: str | None = None

    @property
    def holds(self) -> bool:
        return self.why is None

    @property
    def delivered(self) -> float:
        """Messages a second over the whole time, the lag included."""
        return self.sent / (self.seconds + self.lag_s)

    def __str__(self) -> str:
        verdict = "holds" if self.holds else f"does not hold: {self.why}"
        return (
            f"{self.rate:,.0f} msg/s for {self.seconds:.0f} s {verdict}; {self.cpu_us:.1f} µs CPU a message "
            f"(broker {self.broker_cpu_us:.1f}, load {self.load_cpu_us:.1f})"
        )


class Subject(Protocol):
    """Something that takes messages in, and can be tried at a rate."""

    name: str

    async def trial(self, rate: float, seconds: float) -> Trial: ...


class GatewaySubject:
    """The gateway. A rate holds when the load could send it, all of it was received, journaled and decided within a
    second of its end, and the historian never fell off and caught up within 5 s; a message missing is an error."""

    name = "citywatch"

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def trial(self, rate: float, seconds: float) -> Trial:
        gateway = self._gateway
        await gateway.idle()
        before, account = await gateway.counts(), await gateway.ledger()
        forget_rss_peak(gateway.pid)
        cpu, broker_cpu, overflows = cpu_s(gateway.pid), cpu_s(gateway.broker_pid), gateway.history_overflows()
        await gateway.load.start(gateway.mqtt_url, rate, seconds=seconds)
        summary = await gateway.load.ended()
        sent, ended = summary["sent"], time.monotonic()
        behind = (await gateway.counts()).behind
        await wait_for(lambda: gateway.taken(before.received + sent), "all messages are in", DRAIN_S)
        lag = time.monotonic() - ended
        await gateway.idle()
        history_s = time.monotonic() - ended
        after = await gateway.ledger()
        stored = after["stored"] - account["stored"]
        if stored != sent or not after["balanced"]:
            raise HarnessError(f"{sent} messages were sent and {stored} stored; the ledger: {after}")
        why = _too_slow(summary, rate, seconds, lag)
        if why is None and gateway.history_overflows() > overflows:
            why = "the historian fell behind and had to read the journal again"
        if why is None and behind > HISTORY_BATCHES and history_s > HISTORY_S:
            why = f"the historian was {behind} batches behind"
        return Trial(
            rate,
            sent,
            summary["seconds"],
            lag,
            (cpu_s(gateway.pid) - cpu) / max(1, sent) * 1e6,
            (cpu_s(gateway.broker_pid) - broker_cpu) / max(1, sent) * 1e6,
            summary["cpu_us_per_message"],
            rss_bytes(gateway.pid),
            rss_bytes(gateway.pid, peak=True),
            why,
        )


class BareSubject:
    """``bench.bare_gmqtt``: a fresh broker and a fresh subscriber every time, for what a trial above the limit leaves
    in a broker must not reach the next one."""

    name = "bare gmqtt"

    def __init__(self, stand: Stand, kind: BrokerKind, plan: Plan) -> None:
        self._stand = stand
        self._kind = kind
        self._plan = plan

    async def trial(self, rate: float, seconds: float) -> Trial:
        broker = await self._stand.broker(self._kind)
        load = Load(self._plan, self._stand.folder)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bench.bare_gmqtt", "--mqtt-url", broker.url, "--for", str(seconds + 60),
            cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            await wait_for(lambda: _linked(process.pid, broker.port), "the subscriber has connected", START_S)
            await asyncio.sleep(1.0)  # it says nothing when it has subscribed, which takes it some ms
            broker_cpu = cpu_s(broker.pid)
            await load.start(broker.url, rate, seconds=seconds)
            summary = await load.ended()
            await asyncio.sleep(patience_s(seconds))
            rss, rss_peak = rss_bytes(process.pid), rss_bytes(process.pid, peak=True)
            process.terminate()
            output, _ = await process.communicate()
            figures = json.loads(output)
            broker_cpu = (cpu_s(broker.pid) - broker_cpu) / summary["sent"] * 1e6
        finally:
            await load.kill()
            if process.returncode is None:
                process.kill()
                await process.wait()
            broker.kill()
        missing = summary["sent"] - figures["messages"]
        lag = patience_s(seconds) if missing else 0.0
        why = _too_slow(summary, rate, seconds, lag) or (
            f"{missing:,} messages missing after {lag:g} s" if missing > 0 else None
        )
        cpu = figures["cpu_us_per_message"] or 0.0
        load_cpu = summary["cpu_us_per_message"]
        return Trial(rate, summary["sent"], summary["seconds"], lag, cpu, broker_cpu, load_cpu, rss, rss_peak, why)


def patience_s(seconds: float) -> float:
    """How long after a load of ``seconds`` the last message may be in."""
    return min(LAG_S, max(LAG_LEAST_S, LAG_SHARE * seconds))


def _too_slow(summary: dict[str, Any], rate: float, seconds: float, lag: float) -> str | None:
    if summary["unacked"] or summary["reconnects"]:
        return f"the broker left {summary['unacked']} unacknowledged, {summary['reconnects']} connections broke"
    if summary["sent"] < SENT_SHARE * rate * seconds - CONNECTIONS:  # each may have been about to send one
        return f"only {summary['rate']:,.0f} msg/s could be sent"
    return f"the last message was in after {lag:.1f} s" if lag > patience_s(seconds) else None


async def _linked(pid: int, port: int) -> bool:
    try:
        links = psutil.Process(pid).net_connections("tcp")
    except psutil.Error as error:
        raise HarnessError("the bare subscriber ended") from error
    return any(link.raddr and link.raddr.port == port and link.status == psutil.CONN_ESTABLISHED for link in links)
