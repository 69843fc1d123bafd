/**
 * The datapath threads: as many as the overlay with the most queues needs, and at least one. Queue 0 of every overlay
 * belongs to thread 0, and so on, so the list has no gap. The first overlay that needs a further thread starts it; the
 * thread ends with the last overlay that needs it.
 *
 * A thread that does not start harms only the overlay that needs it. Overlays that have their threads go on.
 */
import { DatapathThread, type Request } from './thread.js';

export class Threads {
  readonly #list: DatapathThread[] = [];
  readonly #start: (index: number) => DatapathThread;
  /** Threads that each overlay needs, by a key of its own. */
  readonly #needs = new Map<object, number>();

  constructor(start: (index: number) => DatapathThread) {
    this.#start = start;
  }

  /** The current threads, always in the same array. */
  get list(): readonly DatapathThread[] {
    return this.#list;
  }

  /** Starts the missing threads of the first `count`. Resolves to those threads when all of them run; they
   * stay until `release`. Rejects with the error of a thread that does not start; then the owner needs
   * none. */
  async need(owner: object, count: number): Promise<readonly DatapathThread[]> {
    this.#needs.set(owner, count);
    try {
      // One after the other: a thread has many files open while it loads.
      for (let index = 0; index < count; index++) {
        if (index === this.#list.length) this.#add();
        await this.#list[index].running;
      }
      return this.#list.slice(0, count);
    } catch (error) {
      await this.release(owner);
      throw error;
    }
  }

  /** Ends the threads that no other owner needs. Resolves when they have ended. */
  async release(owner: object): Promise<void> {
    this.#needs.delete(owner);
    await this.#cut(Math.max(1, ...this.#needs.values()));
  }

  /** Resolves to the replies. */
  requestAll(request: Request): Promise<unknown[]> {
    return Promise.all(this.#list.map((thread) => thread.request(request)));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#list.map((thread) => thread.stop()));
  }

  #add(): void {
    const thread = this.#start(this.#list.length);
    this.#list.push(thread);
    thread.running.catch(() => {
      const index = this.#list.indexOf(thread);
      if (index >= 0) this.#list.splice(index);
    });
  }

  async #cut(count: number): Promise<void> {
    await Promise.all(this.#list.splice(count).map((thread) => thread.stop()));
  }
}
