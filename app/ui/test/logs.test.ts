import { describe, expect, it } from 'vitest';
import { append, choose, LINES_MAX, type Level, type LogLine } from '@/stores/logs';

const line = (seq: number, level: Level = 'info', part = 'http', message = 'm', more: object = {}): LogLine =>
  ({ seq, time: '2026-01-01T00:00:00.000000Z', level, part, message, ...more });
const numbers = (lines: readonly LogLine[]) => lines.map(({ seq }) => seq);

describe('the log', () => {
  it('keeps the newest lines', () => {
    const lines = append(Array.from({ length: LINES_MAX }, (_, at) => line(at + 1)), [line(LINES_MAX + 1)]);
    expect([lines.length, lines[0]?.seq, lines.at(-1)?.seq]).toEqual([LINES_MAX, 2, LINES_MAX + 1]);
  });
  it('begins anew with a daemon that counts from 1 again', () => {
    expect(numbers(append([line(7), line(8)], [line(1), line(2)]))).toEqual([1, 2]);
    expect(numbers(append([line(7)], [line(8)]))).toEqual([7, 8]);
  });
  it('is filtered by level, part, and words in any field', () => {
    const lines = [line(1, 'error', 'engine', 'Disk full'), line(2, 'debug'), line(3, 'info', 'http', 'answered', { route: '/v1/models' })];
    expect(numbers(choose(lines, 'warn', '', ''))).toEqual([1]);
    expect(numbers(choose(lines, 'debug', 'http', ''))).toEqual([2, 3]);
    expect(numbers(choose(lines, 'debug', '', 'ANSWERED v1'))).toEqual([3]);
    expect(choose(lines, 'debug', '', ' ')).toBe(lines);
  });
});
