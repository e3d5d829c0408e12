// Pulls under way. They belong to the daemon: a page that is opened anew finds them, and shows how far they are.
import type { QueryClient } from '@tanstack/react-query';
import { create } from 'zustand';
import { api, apiEvents, isRefusal, type ApiError } from '@/api/client';
import type { ServerEvent } from '@/api/sse';
import type { JobEnd, JobProgress } from '@/api/types';

export interface Pull {
  id: number;
  source: string;
  progress: JobProgress | null;
  end: JobEnd | null;
}

interface JobInfo {
  id: number;
  kind: string;
  source: string;
  state: string;
  progress: JobProgress | null;
  end: JobEnd | null;
}

interface Pulls {
  pulls: Pull[];
  start: (client: QueryClient, source: string) => Promise<void>;
  find: (client: QueryClient) => Promise<void>;
  cancel: (id: number) => Promise<void>;
  forget: (id: number) => void;
}

const AGAIN_MS = 2000;
const PAUSED: JobEnd = { name: '', cancelled: true, error: null };

export const usePulls = create<Pulls>((set, get) => {
  const watched = new Set<number>();
  const put = (id: number, change: Partial<Pull>) => {
    const pulls = get().pulls;
    const before = pulls.find((pull) => pull.id === id) ?? { id, source: '', progress: null, end: null };
    const after = { ...before, ...change };
    set({ pulls: pulls.includes(before) ? pulls.map((pull) => (pull === before ? after : pull)) : [...pulls, after] });
  };
  /** Until the daemon says what has become of them. */
  const findAgain = (client: QueryClient) =>
    setTimeout(() => {
      get().find(client).catch((error: unknown) => {
        if (!isRefusal(error)) findAgain(client);
      });
    }, AGAIN_MS);
  const follow = async (client: QueryClient, source: string, events: AsyncGenerator<ServerEvent, void>, known = 0) => {
    let id = known;
    let ended = false;
    try {
      for await (const { event, data } of events) {
        if (event === 'job') {
          ({ id } = JSON.parse(data) as { id: number });
          watched.add(id);
          put(id, { source });
        } else if (event === 'progress') {
          put(id, { progress: JSON.parse(data) as JobProgress });
        } else if (event === 'end') {
          ended = true;
          put(id, { end: JSON.parse(data) as JobEnd });
          void client.invalidateQueries({ queryKey: ['models'] });
        }
      }
    } catch (error) {
      if (!id) throw error;
    } finally {
      // The connection broke, the job need not have: it is found again.
      watched.delete(id);
      if (!ended && id) findAgain(client);
    }
  };
  return {
    pulls: [],
    start: async (client, source) => {
      await follow(client, source, apiEvents('POST /ui-api/models/pull', { body: { source, keep_going: true } }));
    },
    find: async (client) => {
      const jobs = ((await api('GET /ui-api/jobs')) as { jobs: JobInfo[] }).jobs.filter(({ kind }) => kind === 'pull');
      const lost = get().pulls.filter(({ id, end }) => !end && !watched.has(id));
      for (const job of jobs) {
        if (job.end || watched.has(job.id)) continue;
        put(job.id, { source: job.source, progress: job.progress, end: null });
        watched.add(job.id);
        const events = apiEvents('GET /ui-api/jobs/{id}', { path: { id: job.id }, query: { after: job.progress?.number } });
        void follow(client, job.source, events, job.id);
      }
      for (const { id, source } of lost) {
        if (watched.has(id)) continue;
        // A daemon that was started anew has none of before. What has come is kept, as it is where somebody pauses.
        const end = jobs.find((job) => job.id === id && job.source === source)?.end ?? PAUSED;
        put(id, { end });
        void client.invalidateQueries({ queryKey: ['models'] });
      }
    },
    cancel: async (id) => {
      await api('DELETE /ui-api/jobs/{id}', { path: { id } }).catch((error: unknown) => {
        // It has just ended by itself.
        if ((error as ApiError).status !== 404) throw error;
      });
    },
    forget: (id) => set({ pulls: get().pulls.filter((pull) => pull.id !== id) }),
  };
});
