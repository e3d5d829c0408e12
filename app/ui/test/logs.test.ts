import { beforeEach, describe, expect, it } from 'vitest';
import { Tail } from '@/lib/tail';
import { ALL, LINES_MAX, passes, useLogs, type Level, type LogLine } from '@/stores/logs';

const line = (seq: number, level: Level = 'info', part = 'http', message = 'm', more: object = {}): LogLine =>
  ({ seq, time: '2026-01-01T00:00:00.000000Z', level, part, message, ...more });
const take = (...lines: LogLine[]) => useLogs.getState().take(lines);
const many = (first: number, n: number) => Array.from({ length: n }, (_, at) => line(first + at));
const shown = () => useLogs.getState().shown.toArray().map(({ seq }) => seq);

beforeEach(() => {
  take(line(1)); // begins anew
  useLogs.getState().setFilter(ALL);
});

describe('the log', () => {
  it('keeps the newest lines', () => {
    useLogs.getState().take(many(2, LINES_MAX));
    const { shown: lines, n } = useLogs.getState();
    expect([n, lines.length, lines.at(0)?.seq, lines.at(-1)?.seq]).toEqual([LINES_MAX, LINES_MAX, 2, LINES_MAX + 1]);
    take(line(LINES_MAX + 2));
    expect([lines.length, lines.at(0)?.seq]).toEqual([LINES_MAX, 3]);
  });
  it('begins anew with a daemon that counts from 1 again', () => {
    take(line(2), line(3));
    expect(shown()).toEqual([1, 2, 3]);
    take(line(1), line(2));
    expect(shown()).toEqual([1, 2]);
  });
  it('is filtered by level, part, and words in any field', () => {
    const lines = [line(1, 'error', 'engine', 'Disk full'), line(2, 'debug'), line(3, 'info', 'http', 'answered', { route: '/v1/models' })];
    const numbers = (filter: object) => lines.filter(passes({ ...ALL, ...filter })).map(({ seq }) => seq);
    expect(numbers({ level: 'warn' })).toEqual([1]);
    expect(numbers({ part: 'http' })).toEqual([2, 3]);
    expect(numbers({ text: 'ANSWERED v1' })).toEqual([3]);
    expect(numbers({ text: ' ' })).toEqual([1, 2, 3]);
  });
  it('is filtered as it comes, and lets go of what it does not keep', () => {
    useLogs.getState().setFilter({ ...ALL, level: 'error' });
    take(line(2, 'error'), line(3));
    expect(shown()).toEqual([2]);
    useLogs.getState().take([...many(4, LINES_MAX), line(LINES_MAX + 4, 'error')]);
    expect(shown()).toEqual([LINES_MAX + 4]);
  });
  it('costs what comes, not what is there', () => {
    let copied = 0;
    const tail = new Tail<number>(1000);
    tail.push(Array.from({ length: 1000 }, (_, at) => at));
    const slice = Object.getOwnPropertyDescriptor(Array.prototype, 'slice')?.value as typeof Array.prototype.slice;
    Array.prototype.slice = function <T>(this: T[], ...range: [number?, number?]): T[] {
      const part = slice.apply(this, range) as T[];
      copied += part.length;
      return part;
    };
    for (let at = 1000; at < 11_000; at++) tail.push([at]);
    Array.prototype.slice = slice;
    expect([tail.length, tail.at(0), tail.at(-1)]).toEqual([1000, 10_000, 10_999]);
    expect(copied).toBeLessThan(20_000);
  });
});
