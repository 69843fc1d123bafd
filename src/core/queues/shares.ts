/**
 * Fair shares of something bounded, such as bytes in a queue or open questions. A holder is a port or an
 * overlay that has some of it.
 *
 * While there is room, a holder may have all of it. Once the bound is reached, each holder has a right to an
 * equal part. One that would have no more than its part gets the amount, and the largest holder gives way.
 * One that would have more is refused. So the busiest holder loses first, and none can keep the others out
 * ("longest queue drop", as in the buffers of switches).
 *
 * Some other holder then always has more than an equal part: otherwise all of them together would be within
 * the bound.
 *
 * Shares are asked for every frame that finds the bound reached, and there may be thousands of ports, so no
 * operation looks at all holders. The holders are a heap with the largest first, and a change moves one of
 * them past at most log2(holders) others. A holder may also have a list of the things that it holds, in the
 * order in which they came; the oldest gives way.
 */

/** A thing in the list of its holder. */
export interface Linked<Thing> {
  older: Thing | undefined;
  newer: Thing | undefined;
}

interface Holder<Key, Thing> {
  readonly key: Key;
  amount: number;
  place: number;
  oldest: Thing | undefined;
  newest: Thing | undefined;
}

export class Shares<Key, Thing extends Linked<Thing> = never> {
  readonly #bound: number;
  readonly #holders = new Map<Key, Holder<Key, Thing>>();
  /** First the heap: the holders at 2n + 1 and 2n + 2 have no more than the one at n. After the heap come
   * some that have nothing any more. They are kept because a Map becomes slower the larger it is if the same
   * key comes and goes: deleted entries stay in its chains. */
  readonly #places: Holder<Key, Thing>[] = [];
  /** Number of holders that have some. */
  #count = 0;
  #used = 0;

  constructor(bound: number) {
    this.#bound = bound;
  }

  /** The amount that all holders have together. */
  get used(): number {
    return this.#used;
  }

  /** Returns the amount that a holder has. */
  of(key: Key): number {
    return this.#holders.get(key)?.amount ?? 0;
  }

  /** Returns the equal part of a holder that has some, or is about to. */
  part(key: Key, bound = this.#bound): number {
    return bound / (this.of(key) > 0 ? this.#count : this.#count + 1);
  }

  /** Returns whether there is room for `amount` more. */
  hasRoom(amount: number): boolean {
    return this.#used + amount <= this.#bound;
  }

  /** Returns whether a holder may have `amount` more, if need be after others have given way. */
  mayTake(key: Key, amount: number, bound = this.#bound): boolean {
    return this.#used + amount <= bound || this.of(key) + amount <= this.part(key, bound);
  }

  /** Leaves `key` this amount to take. To be called while no holder has any. */
  leave(key: Key, amount: number): void {
    if (amount < this.#bound) this.#take(key, this.#bound - amount);
  }

  /** Returns the largest amount that a holder may take: `mayTake` is true for it, and for less. */
  most(key: Key, bound = this.#bound): number {
    return Math.max(bound - this.#used, this.part(key, bound) - this.of(key));
  }

  /** The holder that has the most and must give way. At least one holder must have some. */
  largest(): Key {
    return this.#places[0].key;
  }

  /** The oldest thing of a holder; undefined if it has none. */
  oldest(key: Key): Thing | undefined {
    return this.#holders.get(key)?.oldest;
  }

  take(key: Key, amount: number): void {
    this.#take(key, amount);
  }

  giveBack(key: Key, amount: number): void {
    const holder = this.#holders.get(key);
    if (holder !== undefined) this.#giveBack(holder, amount);
  }

  /** Takes `amount` for a thing, which becomes the holder's newest. */
  add(key: Key, thing: Thing, amount: number): void {
    const holder = this.#take(key, amount);
    thing.older = holder.newest;
    thing.newer = undefined;
    if (holder.newest === undefined) holder.oldest = thing;
    else holder.newest.newer = thing;
    holder.newest = thing;
  }

  /** Removes a thing and gives its amount back. */
  remove(key: Key, { older, newer }: Thing, amount: number): void {
    const holder = this.#holders.get(key)!;
    if (older === undefined) holder.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) holder.newest = older;
    else newer.older = older;
    this.#giveBack(holder, amount);
  }

  /** Forgets a holder that has nothing and never will. */
  forget(key: Key): void {
    const holder = this.#holders.get(key);
    if (holder?.amount !== 0) return;
    this.#holders.delete(key);
    const last = this.#places.pop()!;
    if (last !== holder) this.#put(last, holder.place);
  }

  #take(key: Key, amount: number): Holder<Key, Thing> {
    this.#used += amount;
    let holder = this.#holders.get(key);
    if (holder === undefined) {
      holder = { key, amount: 0, place: this.#places.length, oldest: undefined, newest: undefined };
      this.#holders.set(key, holder);
      this.#places.push(holder);
    }
    if (holder.amount === 0) this.#swap(holder, this.#count++);
    holder.amount += amount;
    this.#rise(holder);
    return holder;
  }

  #giveBack(holder: Holder<Key, Thing>, amount: number): void {
    this.#used -= amount;
    holder.amount -= amount;
    this.#sink(holder);
    if (holder.amount > 0) return;
    // A holder with 0 has sunk to a leaf of the heap.
    const last = this.#places[--this.#count];
    this.#swap(holder, this.#count);
    if (last !== holder) this.#rise(last);
    while (this.#places.length > 2 * this.#count) this.#holders.delete(this.#places.pop()!.key);
  }

  #rise(holder: Holder<Key, Thing>): void {
    const places = this.#places;
    let { place } = holder;
    for (let above; place > 0; place = above) {
      above = (place - 1) >> 1;
      if (places[above].amount >= holder.amount) break;
      this.#put(places[above], place);
    }
    this.#put(holder, place);
  }

  #sink(holder: Holder<Key, Thing>): void {
    const places = this.#places;
    let { place } = holder;
    for (let below = 2 * place + 1; below < this.#count; below = 2 * place + 1) {
      if (below + 1 < this.#count && places[below + 1].amount > places[below].amount) below++;
      if (places[below].amount <= holder.amount) break;
      this.#put(places[below], place);
      place = below;
    }
    this.#put(holder, place);
  }

  #swap(holder: Holder<Key, Thing>, place: number): void {
    this.#put(this.#places[place], holder.place);
    this.#put(holder, place);
  }

  #put(holder: Holder<Key, Thing>, place: number): void {
    this.#places[place] = holder;
    holder.place = place;
  }
}
