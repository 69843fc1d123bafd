/**
 * Shares of something bounded: who may have more of it, and who has to give way. While there is room, anybody may have
 * all of it. Once the bound is reached, each of those that have some has a right to an equal part: who would have no more
 * than that gets it from the one that has most, and who would is refused. So the noisy one loses first, and a bound is never
 * for one alone ("longest queue drop", as in the buffers of switches).
 *
 * That there is somebody who has more than a part follows: if nobody had, all of them together would be below the bound.
 */
export class Shares<Key> {
  readonly #bound: number;
  readonly #of = new Map<Key, number>();
  #used = 0;

  constructor(bound: number) {
    this.#bound = bound;
  }

  /** Of all. */
  get used(): number {
    return this.#used;
  }

  /** What this one has. */
  of(key: Key): number {
    return this.#of.get(key) ?? 0;
  }

  /** The equal part of one that has some, or is about to. */
  part(key: Key, bound = this.#bound): number {
    return bound / (this.#of.has(key) ? this.#of.size : this.#of.size + 1);
  }

  /** Whether all of them could have `amount` more. */
  hasRoom(amount: number): boolean {
    return this.#used + amount <= this.#bound;
  }

  /** Whether this one may have `amount` more, where need be after others have given way. */
  mayTake(key: Key, amount: number, bound = this.#bound): boolean {
    return this.#used + amount <= bound || this.of(key) + amount <= this.part(key, bound);
  }

  /** Who has to give way: the one that has most. Somebody has some. */
  largest(): Key {
    let [[largest, most]] = this.#of;
    for (const [key, amount] of this.#of) {
      if (amount <= most) continue;
      most = amount;
      largest = key;
    }
    return largest;
  }

  take(key: Key, amount: number): void {
    this.#used += amount;
    this.#of.set(key, this.of(key) + amount);
  }

  giveBack(key: Key, amount: number): void {
    this.#used -= amount;
    const left = this.of(key) - amount;
    if (left === 0) this.#of.delete(key);
    else this.#of.set(key, left);
  }
}
