// What calls fail with.

/** The server answered, and refused: a wrong key, a bad field, an unknown tenant. */
export class MetergateError extends Error {
  /** For tests of its kind that survive bundling. */
  override readonly name = 'MetergateError';
  /** The HTTP status. */
  readonly status: number;
  /** The server's stable code; empty when it gave none. */
  readonly code: string;
  /** Such as `{field}`. */
  readonly details: Readonly<Record<string, unknown>>;
  /** When to try again, if the server said so. */
  readonly retryAfterSeconds: number | undefined;

  constructor(status: number, body: unknown, retryAfterSeconds?: number) {
    const fields = isObject(body) ? body : {};
    super(typeof fields['error'] === 'string' ? fields['error'] : `the server answered ${status}`);
    this.status = status;
    this.code = typeof fields['code'] === 'string' ? fields['code'] : '';
    this.details = isObject(fields['details']) ? fields['details'] : {};
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** The server did not answer in time, could not be reached, or could not do its work (5xx). */
export class UnreachableError extends Error {
  /** For tests of its kind that survive bundling. */
  override readonly name = 'UnreachableError';
  /** Whether the time ran out. */
  readonly timedOut: boolean;
  /** Whether something did answer: 5xx, or nothing that makes sense. */
  readonly answered: boolean;
  /** When to try again, if the server said so. */
  readonly retryAfterSeconds: number | undefined;

  constructor(message: string, options: {
    timedOut?: boolean; answered?: boolean; retryAfterSeconds?: number | undefined; cause?: unknown;
  } = {}) {
    super(message, options.cause === undefined ? {} : { cause: options.cause });
    this.timedOut = options.timedOut ?? false;
    this.answered = options.answered ?? false;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** Whether a value is a JSON object. @internal */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An error's sentence. @internal */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
