// Pulls under way. They belong to the daemon: a page that is opened anew finds them, and shows how far they are.
import type { QueryClient } from '@tanstack/react-query';
import { create } from 'zustand';
import { api, apiEvents, type ApiError } from '@/api/client';
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

export const usePulls = create<Pulls>((set, get) => {
  const watched = new Set<number>();
  const put = (id: number, change: Partial<Pull>) => {
    const pulls = get().pulls;
    const before = pulls.find((pull) => pull.id === id) ?? { id, source: '', progress: null, end: null };
    const after = { ...before, ...change };
    set({ pulls: pulls.includes(before) ? pulls.map((pull) => (pull === before ? after : pull)) : [...pulls, after] });
  };
  const follow = async (client: QueryClient, source: string, events: AsyncGenerator<ServerEvent, void>) => {
    let id = 0;
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
    } finally {
      // The connection broke, the job need not have: it is found again.
      watched.delete(id);
      if (!ended && id) setTimeout(() => void get().find(client).catch(() => undefined), 2000);
    }
  };
  return {
    pulls: [],
    start: async (client, source) => {
      await follow(client, source, apiEvents('POST /ui-api/models/pull', { body: { source, keep_going: true } }));
    },
    find: async (client) => {
      const { jobs } = (await api('GET /ui-api/jobs')) as { jobs: JobInfo[] };
      for (const job of jobs) {
        if (job.kind === 'pull' && !job.end && !watched.has(job.id)) {
          put(job.id, { source: job.source, progress: job.progress, end: null });
          watched.add(job.id);
          const events = apiEvents('GET /ui-api/jobs/{id}', { path: { id: job.id }, query: { after: job.progress?.number } });
          void follow(client, job.source, events).catch(() => watched.delete(job.id));
        }
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
