/** Requests to the API: same origin, session cookie, errors as sentences for a person. */

/** A request over this is a failure a person should hear about; the server's own limit is shorter. */
const TIMEOUT_MS = 20_000;

export class ApiError extends Error {
  /** HTTP status, or 0 when no answer came. */
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message: string) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
  }
}

let unauthorized: () => void = () => {};

/** Any 401, wherever it happens, means one thing: log in again. */
export function onUnauthorized(listener: () => void): void {
  unauthorized = listener;
}

interface RequestOptions {
  method?: "GET" | "POST";
  csrfToken?: string;
  signal?: AbortSignal;
}

async function request(path: string, options: RequestOptions): Promise<Response> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (options.csrfToken !== undefined) headers["X-CSRF-Token"] = options.csrfToken;
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  let response: Response;
  try {
    response = await fetch(path, {
      method: options.method ?? "GET",
      headers,
      credentials: "same-origin",
      cache: "no-store",
      signal: options.signal ? AbortSignal.any([options.signal, limit]) : limit,
    });
  } catch (cause) {
    if (options.signal?.aborted) throw cause;
    throw new ApiError(0, "unreachable", "Guildhall cannot be reached right now.");
  }
  if (response.ok) return response;
  if (response.status === 401) unauthorized();
  throw await errorOf(response);
}

async function errorOf(response: Response): Promise<ApiError> {
  const fallback = `Guildhall could not answer (${response.status}).`;
  try {
    const body: unknown = await response.json();
    if (typeof body === "object" && body !== null && "error" in body && typeof body.error === "string") {
      const code = "error_code" in body && typeof body.error_code === "string" ? body.error_code : "unknown";
      return new ApiError(response.status, code, body.error);
    }
  } catch {
    // a proxy's error page, not ours
  }
  return new ApiError(response.status, "unknown", fallback);
}

export async function getJson<Answer>(path: string, signal?: AbortSignal): Promise<Answer> {
  const response = await request(path, signal ? { signal } : {});
  return (await response.json()) as Answer;
}

export async function post(path: string, csrfToken: string): Promise<void> {
  await request(path, { method: "POST", csrfToken });
}
