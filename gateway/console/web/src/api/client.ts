// The gateway's API, typed by its OpenAPI document. Every failure becomes a Problem that can be shown to a person.
import createClient, { type Middleware } from "openapi-fetch";

import type { paths } from "./schema";

/** What the gateway, or the way to it, has to say about a request that was not done. */
export class Problem extends Error {
  constructor(
    readonly code: string,
    readonly titles: { zh: string; en: string },
    readonly detail: string | undefined,
    readonly status: number,
    readonly retryAfterS: number | undefined = undefined,
  ) {
    super(`${titles.en}${detail === undefined ? "" : `: ${detail}`}`);
  }
}

const UNREACHABLE = { zh: "连接不上网关", en: "The gateway cannot be reached" };
const UNREADABLE = { zh: "网关的回答无法识别", en: "The gateway's answer cannot be read" };

const ours: Middleware = {
  onRequest({ request }) {
    request.headers.set("X-Citywatch", "1"); // proves that our own page asks; see docs/api.md
    return request;
  },
  async onResponse({ response }) {
    if (response.ok || response.status === 304) return response;
    throw await problemOf(response);
  },
  onError({ error }) {
    if (error instanceof DOMException && error.name === "AbortError") return error;
    return new Problem("unreachable", UNREACHABLE, undefined, 0);
  },
};

export const api = createClient<paths>({ baseUrl: location.origin });
api.use(ours);

/** The data of an answer; a Problem is thrown on the way. */
export async function ask<T>(answer: Promise<{ data?: T }>): Promise<T> {
  const { data } = await answer;
  return data as T;
}

async function problemOf(response: Response): Promise<Problem> {
  const retry = Number(response.headers.get("retry-after"));
  const retryAfterS = Number.isFinite(retry) && retry > 0 ? retry : undefined;
  try {
    const document = (await response.json()) as { code?: string; titles?: { zh: string; en: string }; detail?: string };
    const titles = document.titles ?? UNREADABLE;
    return new Problem(document.code ?? "failed", titles, document.detail, response.status, retryAfterS);
  } catch {
    return new Problem("failed", UNREADABLE, undefined, response.status, retryAfterS);
  }
}
