/** Typed arrays that grow. A mapping is kept in columns of numbers, since an object for each row would take 500 bytes. */

type Numbers = Uint32Array | Int32Array;

export class Column<A extends Numbers> {
  #items: A;
  length = 0;

  /** `empty` sets the type of the array and the room at the start. */
  constructor(empty: A) {
    this.#items = empty;
  }

  push(value: number): void {
    if (this.length === this.#items.length) this.#grow();
    this.#items[this.length++] = value;
  }

  pushAll(values: A, count: number): void {
    for (let index = 0; index < count; index++) this.push(values[index]);
  }

  at(index: number): number {
    return this.#items[index];
  }

  /** Returns a copy of the values, without room to grow. */
  compact(): A {
    return this.#items.slice(0, this.length) as A;
  }

  #grow(): void {
    const make = this.#items.constructor as new (length: number) => A;
    const larger = new make(Math.max(16, 2 * this.length));
    larger.set(this.#items);
    this.#items = larger;
  }
}
