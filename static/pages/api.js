// Asking the API in the visitor's name.

import { bearer } from "./visitor.js";

const PATIENCE = 8000; // ms
const UNAUTHENTICATED = 401;

/** The API has answered, and said no. `code` is the API's; `wait` are the milliseconds it asks to be left alone for. */
export class Refused extends Error {
  constructor(status, body, wait) {
    super(body.detail ?? String(status));
    this.code = body.code ?? "other";
    this.body = body;
    this.wait = wait;
  }

  /** Whether the same request may be answered otherwise in a moment. */
  get passes() {
    return this.code === "unavailable" || this.code === "rate_limited" || this.code === "error" || this.code === "other";
  }
}

/** The answer's JSON, null where it is empty. Throws `Refused`, and whatever fetch throws when nobody answers. */
export async function call(method, address, { key, body: said } = {}) {
  for (const anew of [false, true]) {
    const token = await bearer(anew);
    const headers = { Accept: "application/json" };
    if (token) headers.Authorization = `Bearer ${token}`;
    if (key) headers["Idempotency-Key"] = key;
    if (said) headers["Content-Type"] = "application/json";
    const response = await fetch(address, { method, headers, body: said && JSON.stringify(said), credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (response.ok) return response.status === 204 ? null : response.json();
    if (response.status === UNAUTHENTICATED && token && !anew) continue; // it may have ended while the computer slept
    const body = await response.json().catch(() => ({}));
    throw new Refused(response.status, body, Number(response.headers.get("Retry-After") ?? 0) * 1000);
  }
}
