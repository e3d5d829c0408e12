// The newest of a long list. What is pushed costs what is pushed, not what is there: the front moves on, and the array is shortened when
// half of it is behind the front.

export class Tail<T> {
  private items: T[] = [];
  private start = 0;

  constructor(readonly max: number) {}

  get length(): number {
    return this.items.length - this.start;
  }

  at(index: number): T | undefined {
    return this.items[index < 0 ? this.items.length + index : this.start + index];
  }

  push(fresh: readonly T[]): void {
    for (const item of fresh) this.items.push(item);
    this.drop(this.length - this.max);
  }

  /** The oldest `n` go. */
  drop(n: number): void {
    if (n <= 0) return;
    this.start = Math.min(this.start + n, this.items.length);
    if (this.start * 2 > this.items.length) {
      this.items = this.items.slice(this.start);
      this.start = 0;
    }
  }

  toArray(): T[] {
    return this.items.slice(this.start);
  }
}
