// The gateway's live stream as one browser hears it: connects, notices silence, comes back by itself.
//
// The browser's own EventSource reconnects after a cut, but not after an answer that is no stream (the gateway starts
// anew, a session ended); so we make a new one then, and carry the id of the last event ourselves as the gateway's
// `Last-Event-ID` cannot be set: a fresh snapshot is what we get, and it is whole.

/** What a browser hears, in order. */
export interface Listener {
  snapshot(data: string): void;
  alarm(data: string): void;
  load(data: string): void;
  /** live: we hear the gateway; connecting: not yet or not again; lost: silent for longer than it ever is. */
  link(state: LinkState): void;
  /** The session is over. */
  signedOut(): void;
}

export type LinkState = "connecting" | "live" | "lost";

export const SILENT_MS = 20_000; // the gateway says something every 15 s
const RETRY_MS = [500, 1_000, 2_000, 5_000]; // a restart takes about two seconds

/** Listens until `close`. */
export class Feed {
  private source: EventSource | null = null;
  private silence: ReturnType<typeof setTimeout> | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private closed = false;

  constructor(private readonly listener: Listener) {
    this.connect();
  }

  close(): void {
    this.closed = true;
    this.drop();
  }

  private connect(): void {
    if (this.closed) return;
    this.listener.link("connecting");
    const source = new EventSource("/api/v1/stream?packed=true");
    this.source = source;
    this.listen();
    const heard = (): void => {
      this.failures = 0;
      this.listener.link("live");
      this.listen();
    };
    source.addEventListener("snapshot", (event) => {
      heard();
      this.listener.snapshot(event.data as string);
    });
    source.addEventListener("alarm", (event) => {
      heard();
      this.listener.alarm(event.data as string);
    });
    source.addEventListener("load", (event) => {
      heard();
      this.listener.load(event.data as string);
    });
    source.addEventListener("alive", heard);
    source.onerror = () => {
      this.listener.link("lost");
      if (source.readyState === EventSource.CLOSED) void this.again();
    };
  }

  /** Wait for the next word; without one the line is lost, whatever the socket says. */
  private listen(): void {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => {
      this.listener.link("lost");
      void this.again();
    }, SILENT_MS);
  }

  private async again(): Promise<void> {
    this.drop();
    if (this.closed) return;
    const wait = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)] ?? 5_000;
    this.failures += 1;
    try {
      const answer = await fetch("/api/v1/session", { headers: { "X-Citywatch": "1" } });
      if (answer.status === 401) {
        this.listener.signedOut();
        return;
      }
    } catch {
      // not there: try again
    }
    this.retry = setTimeout(() => this.connect(), wait);
  }

  private drop(): void {
    clearTimeout(this.silence);
    clearTimeout(this.retry);
    this.source?.close();
    this.source = null;
  }
}
