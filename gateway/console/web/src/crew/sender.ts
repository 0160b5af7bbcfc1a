// The crew's way to the gateway: an entry of the queue as a request, and what its answer means for the queue.
import { api, ask, Problem } from "../api/client";
import type { Alarm } from "../api/types";
import { deviceTime } from "./clock";
import type { Outcome, Sender } from "./queue";
import type { CrewStore, Entry } from "./store";

// A phone at the edge of a network may wait for ever.
const ACT_MS = 30_000;
const PHOTO_MS = 120_000; // 500 kB at 50 kbit/s take 80 s

const LATER = new Set([0, 408, 425, 429]);

export class GatewaySender implements Sender {
  constructor(private readonly store: CrewStore) {}

  async who(): Promise<string | null> {
    try {
      const who = await ask(api.GET("/api/v1/session", { signal: AbortSignal.timeout(ACT_MS) }));
      return who.must_change ? null : who.name;
    } catch (problem) {
      if (problem instanceof Problem && problem.status === 401) return null;
      throw problem;
    }
  }

  async send(entry: Entry): Promise<Outcome> {
    try {
      return { kind: "done", alarm: entry.act.what === "photo" ? await this.photo(entry, entry.act.photo) : await this.act(entry) };
    } catch (problem) {
      return meaning(problem);
    }
  }

  private async act(entry: Entry): Promise<Alarm> {
    const done = await ask(
      api.POST(`/api/v1/alarms/{alarm_id}/${entry.act.what}` as "/api/v1/alarms/{alarm_id}/accept", {
        params: { path: { alarm_id: entry.alarm }, header: { "idempotency-key": entry.key } },
        body: (await this.body(entry)) as never,
        signal: AbortSignal.timeout(ACT_MS),
      }),
    );
    if (typeof done?.alarm?.alarm_id !== "string") throw new Error("no answer of the gateway's"); // a portal's page, say
    return done.alarm;
  }

  private async body(entry: Entry): Promise<Record<string, unknown>> {
    const { what: _, ...given } = entry.act;
    const at = deviceTime(entry.at);
    if (entry.act.what !== "done") return { ...given, at };
    const photos = await Promise.all(entry.act.photos.map((id) => this.store.photo(id)));
    return { ...given, photos: photos.flatMap((photo) => photo?.sent ?? []), at };
  }

  private async photo(entry: Entry, id: string): Promise<null> {
    const photo = await this.store.photo(id);
    if (photo === undefined || photo.sent !== null) return null; // nothing left to tell
    const kept = await ask(
      api.POST("/api/v1/alarms/{alarm_id}/photos", {
        params: { path: { alarm_id: entry.alarm } },
        headers: { "Content-Type": photo.type, "Idempotency-Key": entry.key },
        body: photo.bytes as never,
        bodySerializer: (bytes: unknown) => bytes as ArrayBuffer,
        signal: AbortSignal.timeout(PHOTO_MS),
      }),
    );
    if (typeof kept?.id !== "string") throw new Error("no answer of the gateway's");
    await this.store.keepPhoto({ ...photo, sent: kept.id });
    return null;
  }
}

/** What a failed request means for what waits. */
export function meaning(problem: unknown): Outcome {
  if (!(problem instanceof Problem)) return { kind: "later", everything: true };
  if (problem.status === 401 || problem.code === "must_change") return { kind: "signed out" };
  const afterMs = problem.retryAfterS === undefined ? undefined : problem.retryAfterS * 1000;
  if (LATER.has(problem.status)) return { kind: "later", everything: true, afterMs };
  // The gateway, or what stands before it, has a fault: perhaps with this one only.
  if (problem.status >= 500) return { kind: "later", everything: false, afterMs };
  return { kind: "refused", refusal: { status: problem.status, titles: problem.titles, detail: problem.detail } };
}
