// A key for something that must happen once, however often it is asked for.

/** A new Idempotency-Key. (`crypto.randomUUID` is not there on a page without TLS.) */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
