/**
 * Shares of something bounded: who may have more of it, and who has to give way. While there is room, anybody may have
 * all of it. Once the bound is reached, each of those that have some has a right to an equal part: who would have no more
 * than that gets it from the one that has most, and who would is refused. So the noisy one loses first, and a bound is never
 * for one alone ("longest queue drop", as in the buffers of switches).
 *
 * That there is somebody who has more than a part follows: if nobody had, all of them together would be below the bound.
 *
 * Asked for every frame that finds the bound reached, of thousands of ports perhaps, so nothing here looks at all of them. Those
 * that have some are a heap: who has most is its first, and a change moves one of them past as many others as their number
 * has binary digits. What each has may be things in the order in which they came, of which the oldest is to give way.
 */

/** Such a thing: in a chain of those of the same one. */
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
  /** First the heap: at 2n + 1 and 2n + 2 is nobody who has more than the one at n. Behind it some of those that have nothing
   * any more: a Map gets slower with its size where the same key comes and goes (what it deletes stays in its chains). */
  readonly #places: Holder<Key, Thing>[] = [];
  /** That have some. */
  #count = 0;
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
    return this.#holders.get(key)?.amount ?? 0;
  }

  /** The equal part of one that has some, or is about to. */
  part(key: Key, bound = this.#bound): number {
    return bound / (this.of(key) > 0 ? this.#count : this.#count + 1);
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
    return this.#places[0].key;
  }

  /** Undefined where it has none. */
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

  /** Takes `amount` for a thing, which is the newest of this one. */
  add(key: Key, thing: Thing, amount: number): void {
    const holder = this.#take(key, amount);
    thing.older = holder.newest;
    thing.newer = undefined;
    if (holder.newest === undefined) holder.oldest = thing;
    else holder.newest.newer = thing;
    holder.newest = thing;
  }

  /** And gives it back. */
  remove(key: Key, { older, newer }: Thing, amount: number): void {
    const holder = this.#holders.get(key)!;
    if (older === undefined) holder.oldest = newer;
    else older.newer = newer;
    if (newer === undefined) holder.newest = older;
    else newer.older = older;
    this.#giveBack(holder, amount);
  }

  /** One that has nothing, and never will. */
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
    // It has nobody below it.
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
