// The daemon's log as it comes: the newest 100,000 lines, shown a batch at a time.
import { create } from 'zustand';
import { apiEvents } from '@/api/client';

export const LEVELS = ['error', 'warn', 'info', 'debug'] as const;
export type Level = (typeof LEVELS)[number];
export const LINES_MAX = 100_000;
const BATCH_MS = 100;

export interface LogLine {
  seq: number;
  time: string;
  level: Level;
  part: string;
  message: string;
  [field: string]: unknown;
}

interface Logs {
  lines: readonly LogLine[];
  /** Lines that the daemon no longer had when they were asked for. */
  lost: number;
  error: string | null;
  follow: (signal: AbortSignal) => Promise<void>;
}

/** With the fresh ones behind them, without the oldest beyond the limit. */
export function append(lines: readonly LogLine[], fresh: readonly LogLine[], max = LINES_MAX): readonly LogLine[] {
  const last = lines.at(-1)?.seq ?? 0;
  // A daemon that was started anew counts from 1 again.
  const begun = (fresh[0]?.seq ?? 0) <= last ? fresh : [...lines, ...fresh];
  return begun.length > max ? begun.slice(-max) : begun;
}

/** Those of the level or worse that hold every word, in any of their fields. */
export function choose(lines: readonly LogLine[], level: Level, part: string, text: string): readonly LogLine[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const worst = LEVELS.indexOf(level);
  if (level === 'debug' && !part && !words.length) return lines;
  return lines.filter((line) => {
    if (LEVELS.indexOf(line.level) > worst || (part && line.part !== part)) return false;
    if (!words.length) return true;
    const all = JSON.stringify(line).toLowerCase();
    return words.every((word) => all.includes(word));
  });
}

export const useLogs = create<Logs>((set, get) => ({
  lines: [],
  lost: 0,
  error: null,
  follow: async (signal) => {
    const gone = () => signal.aborted; // asked for anew each time: it changes while we wait
    while (!gone()) {
      let batch: LogLine[] = [];
      let timer: ReturnType<typeof setTimeout> | undefined;
      const flush = () => {
        timer = undefined;
        if (batch.length) set({ lines: append(get().lines, batch), error: null });
        batch = [];
      };
      try {
        const query = { after: get().lines.at(-1)?.seq };
        for await (const { event, data } of apiEvents('GET /ui-api/logs', { query, signal })) {
          if (event === 'lost') {
            set({ lost: get().lost + (JSON.parse(data) as { lost: number }).lost });
          } else {
            batch.push(JSON.parse(data) as LogLine);
            timer ??= setTimeout(flush, BATCH_MS);
          }
        }
      } catch (error) {
        if (!gone()) set({ error: error instanceof Error ? error.message : String(error) });
      }
      clearTimeout(timer);
      flush();
      if (!gone()) await new Promise((done) => setTimeout(done, 1000));
    }
  },
}));
