// Errors: one class for what the engine answers, what a server answers, and what goes wrong before either is reached.

/** What went wrong on the library's side of the wire; errors of the API keep llama-server's types. */
export type LibraryErrorType =
  | "invalid_model_error"
  | "model_not_found"
  | "model_too_large_error"
  | "size_mismatch"
  | "checksum_mismatch"
  | "storage_full"
  | "offline"
  | "network_error"
  | "no_webgpu"
  | "not_isolated"
  | "not_supported"
  | "worker_error"
  | "out_of_memory"
  | "disposed"
  | "broken_stream"
  | "internal_error";

/** The parts of an error that cross from the worker to the page. */
export interface ErrorParts {
  name: string;
  status: number;
  type: string;
  message: string;
  cause?: string;
}

/**
 * Why a request, a download or a start failed.
 *
 * `status` and `type` are those of the wire error (`{"error": {code, message, type}}`). Errors that no request caused have
 * the status that fits best (404 for a model that is not there) and one of {@link LibraryErrorType}.
 */
export class RepriseError extends Error {
  readonly status: number;
  readonly type: LibraryErrorType | (string & {});

  constructor(
    message: string,
    { status, type, cause }: { status: number; type: LibraryErrorType | (string & {}); cause?: unknown },
  ) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "RepriseError";
    this.status = status;
    this.type = type;
  }
}

/** An error of the library itself, with the status that its type has. */
export function failure(type: LibraryErrorType, message: string, cause?: unknown): RepriseError {
  return new RepriseError(message, { status: STATUS[type], type, cause });
}

const STATUS: Record<LibraryErrorType, number> = {
  invalid_model_error: 422,
  model_not_found: 404,
  model_too_large_error: 507,
  size_mismatch: 422,
  checksum_mismatch: 422,
  storage_full: 507,
  offline: 503,
  network_error: 502,
  no_webgpu: 501,
  not_isolated: 501,
  not_supported: 501,
  worker_error: 500,
  out_of_memory: 507,
  disposed: 503,
  broken_stream: 502,
  internal_error: 500,
};

/** What is said of an engine that is gone. */
export const disposed = (): RepriseError =>
  failure("disposed", "This engine was disposed: create a new one with createEngine().");

/** The text of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Takes an error apart for the way to the page. The wasm module's errors have a `code` where ours have a `status`. */
export function toParts(thrown: unknown): ErrorParts {
  if (typeof thrown !== "object" || thrown === null) {
    return { name: "RepriseError", status: 500, type: "internal_error", message: String(thrown) };
  }
  const { name, status, code, type, message, cause } = thrown as {
    [key in "name" | "status" | "code" | "type" | "message" | "cause"]?: unknown;
  };
  const number = [status, code].find((value) => typeof value === "number");
  const parts: ErrorParts = {
    name: name === "AbortError" ? "AbortError" : "RepriseError",
    status: typeof number === "number" && name !== "AbortError" ? number : 500,
    type: typeof type === "string" ? type : "internal_error",
    message: typeof message === "string" ? message : String(thrown),
  };
  if (cause !== undefined) parts.cause = messageOf(cause);
  return parts;
}

/** Puts an error together again. */
export function fromParts({ name, status, type, message, cause }: ErrorParts): Error {
  if (name === "AbortError") return new DOMException(message, "AbortError");
  return new RepriseError(message, { status, type, cause: cause === undefined ? undefined : new Error(cause) });
}

/** The error in a JSON body or a stream event, if it is one. */
export function fromBody(body: unknown, status: number): RepriseError | undefined {
  if (typeof body !== "object" || body === null || !("error" in body)) return undefined;
  const { error } = body;
  if (typeof error === "string") return new RepriseError(error, { status, type: "server_error", cause: body });
  if (typeof error !== "object" || error === null) return undefined;
  const { code, type, message } = error as { code?: unknown; type?: unknown; message?: unknown };
  return new RepriseError(typeof message === "string" ? message : JSON.stringify(error), {
    status: typeof code === "number" ? code : status,
    type: typeof type === "string" ? type : "server_error",
    cause: body,
  });
}

/** The error that a response with a failure status stands for; its body is read. */
export async function fromResponse(response: Response): Promise<RepriseError> {
  const text = await response.text();
  const plain = (): RepriseError => {
    const said = text.trim().slice(0, 200) || response.statusText || "no message";
    return new RepriseError(`status ${response.status}: ${said}`, { status: response.status, type: "server_error" });
  };
  try {
    return fromBody(JSON.parse(text), response.status) ?? plain();
  } catch {
    return plain();
  }
}
