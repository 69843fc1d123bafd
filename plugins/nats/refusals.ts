/**
 * Records that are refused, and addresses that two entries have: a sentence for the note of the overlay. A refused record
 * harms no other, and where its key had a valid entry before, that entry stays in force.
 */
const MAX_KEPT = 1000;
/** Records that the note names. The log has each. */
const MAX_NAMED = 3;

export class Refusals {
  readonly #reasons = new Map<string, string>();
  /** Refused keys that are not kept. */
  #more = 0;

  /** `reason` quotes nothing of the record. Returns whether the log should have it. */
  add(key: string, reason: string): boolean {
    const isNew = this.#reasons.get(key) !== reason;
    if (this.#reasons.has(key) || this.#reasons.size < MAX_KEPT) this.#reasons.set(key, reason);
    else this.#more++;
    return isNew && this.#more === 0;
  }

  delete(key: string): boolean {
    return this.#reasons.delete(key);
  }

  clear(): void {
    this.#reasons.clear();
    this.#more = 0;
  }

  /** Undefined when nothing is refused. */
  sentence(bucket: string): string | undefined {
    const count = this.#reasons.size + this.#more;
    if (count === 0) return undefined;
    const named = [...this.#reasons].slice(0, MAX_NAMED).map(([key, reason]) => `${key}: ${reason}`);
    const rest = count - named.length;
    return (
      `${count} ${count === 1 ? 'record' : 'records'} of the bucket ${bucket} refused, the others are in force: ` +
      `${named.join('; ')}${rest > 0 ? `; and ${rest} more` : ''}`
    );
  }
}
