// The daemon's log as it comes: the newest 100,000 lines, shown a batch at a time.
import { create } from 'zustand';
import { apiEvents } from '@/api/client';
import { messageOf } from '@/lib/format';
import { Tail } from '@/lib/tail';

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

export interface Filter {
  level: Level;
  part: string;
  text: string;
}
export const ALL: Filter = { level: 'debug', part: '', text: '' };

interface Logs {
  /** Those that the filter lets through, the newest last. They change in place: `version` tells that they have. */
  shown: Tail<LogLine>;
  version: number;
  n: number;
  parts: readonly string[];
  filter: Filter;
  /** Lines that the daemon no longer had when they were asked for. */
  lost: number;
  error: string | null;
  setFilter: (filter: Filter) => void;
  take: (fresh: readonly LogLine[]) => void;
  follow: (signal: AbortSignal) => Promise<void>;
}

/** Whether a line is of the level or worse, of the part, and holds every word, in any of its fields. */
export function passes({ level, part, text }: Filter): (line: LogLine) => boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const worst = LEVELS.indexOf(level);
  return (line) => {
    if (LEVELS.indexOf(line.level) > worst || (part && line.part !== part)) return false;
    if (!words.length) return true;
    const all = JSON.stringify(line).toLowerCase();
    return words.every((word) => all.includes(word));
  };
}

export const useLogs = create<Logs>((set, get) => {
  let lines = new Tail<LogLine>(LINES_MAX);
  let fits = passes(ALL);
  const chosen = (from: readonly LogLine[]) => {
    const shown = new Tail<LogLine>(LINES_MAX);
    shown.push(from.filter(fits));
    return shown;
  };
  const put = (change: Partial<Logs>) => set({ ...change, version: get().version + 1, n: lines.length });
  return {
    shown: new Tail<LogLine>(LINES_MAX),
    version: 0,
    n: 0,
    parts: [],
    filter: ALL,
    lost: 0,
    error: null,
    setFilter: (filter) => {
      fits = passes(filter);
      put({ filter, shown: chosen(lines.toArray()) });
    },
    take: (fresh) => {
      let { shown } = get();
      // A daemon that was started anew counts from 1 again.
      if ((fresh[0]?.seq ?? Infinity) <= (lines.at(-1)?.seq ?? 0)) {
        lines = new Tail(LINES_MAX);
        shown = chosen([]);
      }
      lines.push(fresh);
      shown.push(fresh.filter(fits));
      // What is not kept any more is not shown any more.
      const oldest = lines.at(0)?.seq ?? 0;
      while ((shown.at(0)?.seq ?? Infinity) < oldest) shown.drop(1);
      const seen = new Set(get().parts);
      const more = fresh.some(({ part }) => !seen.has(part));
      put({ shown, error: null, ...(more ? { parts: [...new Set([...seen, ...fresh.map(({ part }) => part)])].sort() } : {}) });
    },
    follow: async (signal) => {
      const gone = () => signal.aborted; // asked for anew each time: it changes while we wait
      while (!gone()) {
        let batch: LogLine[] = [];
        let timer: ReturnType<typeof setTimeout> | undefined;
        const flush = () => {
          timer = undefined;
          if (batch.length) get().take(batch);
          batch = [];
        };
        try {
          const query = { after: lines.at(-1)?.seq };
          for await (const { event, data } of apiEvents('GET /ui-api/logs', { query, signal, priority: 'low' })) {
            if (event === 'lost') {
              set({ lost: get().lost + (JSON.parse(data) as { lost: number }).lost });
            } else {
              batch.push(JSON.parse(data) as LogLine);
              timer ??= setTimeout(flush, BATCH_MS);
            }
          }
        } catch (error) {
          if (!gone()) set({ error: messageOf(error) });
        }
        clearTimeout(timer);
        flush();
        if (!gone()) await new Promise((done) => setTimeout(done, 1000));
      }
    },
  };
});
