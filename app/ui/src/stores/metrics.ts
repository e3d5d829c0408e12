// Readings of /metrics while somebody looks at them. They stay when the page is left, and what happened meanwhile is filled in.
import { create } from 'zustand';
import { apiText } from '@/api/client';
import { messageOf } from '@/lib/format';
import { addReading, EMPTY, EVERY_S, parseMetrics, type History } from '@/lib/metrics';

interface Metrics {
  history: History;
  error: string | null;
  follow: (signal: AbortSignal) => Promise<void>;
}

export const useReadings = create<Metrics>((set, get) => ({
  history: EMPTY,
  error: null,
  follow: async (signal) => {
    const gone = () => signal.aborted;
    while (!gone()) {
      try {
        const text = await apiText('GET /metrics', { signal });
        set({ history: addReading(get().history, parseMetrics(text, Date.now() / 1000)), error: null });
      } catch (error) {
        if (!gone()) set({ error: messageOf(error) });
      }
      if (!gone()) await new Promise((done) => setTimeout(done, EVERY_S * 1000));
    }
  },
}));
