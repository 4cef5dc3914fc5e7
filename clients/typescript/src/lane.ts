// A queue that sends in the background: in batches, a few at a time, again after a while when that fails.

/** What became of a batch. @internal */
export interface Verdict<T> {
  /** What is to be sent again. */
  again: readonly T[];
  /** Not before so many milliseconds. */
  afterMs?: number | undefined;
}

/** How a lane sends. @internal */
export interface LaneOptions<T> {
  /** Items of one batch. */
  batchMax: number;
  /** Batches on their way at once. */
  flyingMax: number;
  /** How long an item waits for company while others are on their way. */
  lingerMs: number;
  /** How long anybody waits for an answer. */
  patienceMs: number;
  /** The pause after a failure, doubled by each further one. */
  backoffMs: {
    /** After the first. */
    first: number;
    /** At most. */
    max: number;
  };
  /** Hears when the answer to so many items takes longer than that. */
  slow: (items: number) => void;
  /** Never rejects. */
  send: (batch: readonly T[]) => Promise<Verdict<T>>;
}

/** The longest pause while somebody waits in `flush`. */
const FLUSH_PAUSE_MS = 250;

interface Entry<T> {
  readonly item: T;
  /** Called when there is nothing more to wait for. */
  readonly heard: () => void;
  /** Called when it has left the lane. */
  readonly leave: () => void;
  readonly left: Promise<void>;
}

/** One queue of things to be sent. @internal */
export class Lane<T> {
  readonly #options: LaneOptions<T>;
  readonly #waiting: Entry<T>[] = [];
  readonly #present = new Set<Entry<T>>();
  #flying = 0;
  #failures = 0;
  #flushes = 0;
  /** Whether the server answers: while it does not, nobody is kept waiting. */
  #steady = true;
  #soon = false;
  #linger: NodeJS.Timeout | undefined;
  #pause: NodeJS.Timeout | undefined;

  constructor(options: LaneOptions<T>) {
    this.#options = options;
  }

  /** Items waiting or on their way. */
  get size(): number {
    return this.#present.size;
  }

  /** Queues an item. Resolves when it was answered, or when waiting longer is of no use; never rejects. */
  push(item: T): Promise<void> {
    const answered = open();
    const left = open();
    const entry = { item, heard: answered.resolve, leave: left.resolve, left: left.promise };
    this.#waiting.push(entry);
    this.#present.add(entry);
    if (!this.#steady) {
      entry.heard();
    }
    this.#schedule();
    return answered.promise;
  }

  /** Sends at once, and waits until all that is here now has left, or `late` comes first. */
  async flush(late: Promise<unknown>): Promise<void> {
    this.#flushes += 1;
    try {
      clearTimeout(this.#pause);
      this.#pause = undefined;
      const present = [...this.#present];
      this.#fill();
      await Promise.race([Promise.all(present.map((entry) => entry.left)), late]);
    } finally {
      this.#flushes -= 1;
    }
  }

  #schedule(): void {
    if (this.#waiting.length === 0 || this.#pause !== undefined || this.#flying >= this.#options.flyingMax) {
      return;
    }
    if (this.#waiting.length >= this.#options.batchMax) {
      this.#fill();
    } else if (this.#flying === 0) {
      this.#sendSoon();
    } else {
      this.#linger ??= setTimeout(() => { this.#fill(); }, this.#options.lingerMs).unref();
    }
  }

  /** What is recorded in one turn of the event loop goes together. */
  #sendSoon(): void {
    if (!this.#soon) {
      this.#soon = true;
      setImmediate(() => {
        this.#soon = false;
        this.#fill();
      });
    }
  }

  #fill(): void {
    clearTimeout(this.#linger);
    this.#linger = undefined;
    while (this.#pause === undefined && this.#waiting.length > 0 && this.#flying < this.#options.flyingMax) {
      void this.#fly(this.#waiting.splice(0, this.#options.batchMax));
    }
  }

  async #fly(batch: Entry<T>[]): Promise<void> {
    this.#flying += 1;
    const patience = setTimeout(() => {
      this.#steady = false;
      this.#options.slow(batch.length);
      [...batch, ...this.#waiting].forEach((entry) => { entry.heard(); });
    }, this.#options.patienceMs).unref();
    const verdict = await this.#options.send(batch.map((entry) => entry.item));
    clearTimeout(patience);
    this.#flying -= 1;

    const again = new Set(verdict.again);
    const back = batch.filter((entry) => again.has(entry.item));
    for (const entry of batch) {
      entry.heard();
      if (!again.has(entry.item)) {
        this.#present.delete(entry);
        entry.leave();
      }
    }
    if (back.length > 0) {
      this.#waiting.unshift(...back);
      this.#rest(verdict.afterMs);
    } else {
      this.#failures = 0;
      this.#steady = true;
    }
    this.#schedule();
  }

  /** Waits before the next try, longer each time, never all clients at once. */
  #rest(afterMs: number | undefined): void {
    this.#steady = false;
    this.#waiting.forEach((entry) => { entry.heard(); });
    const { first, max } = this.#options.backoffMs;
    const backoff = Math.min(max, first * 2 ** Math.min(this.#failures, 20)) * (0.5 + Math.random() / 2);
    this.#failures += 1;
    const pause = Math.max(backoff, afterMs ?? 0);
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = undefined;
      this.#fill();
    }, this.#flushes > 0 ? Math.min(pause, FLUSH_PAUSE_MS) : pause);
    this.#pause.unref();
  }
}

function open(): { promise: Promise<void>; resolve: () => void } {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => { resolve = done; });
  return { promise, resolve };
}
