// Figures of the daemon over the window that somebody has chosen.
import { useEffect, useMemo } from 'react';
import { modelsOf, windowOf, type History } from '@/lib/metrics';
import { useReadings } from '@/stores/metrics';
import { useSetting } from '@/stores/preferences';

export interface MetricsView {
  /** The rows of the window. */
  history: History;
  models: string[];
  error: string | null;
}

export function useMetrics(): MetricsView {
  const { history, error, follow } = useReadings();
  const seconds = useSetting('chart_window_s');
  useEffect(() => {
    const gone = new AbortController();
    void follow(gone.signal);
    return () => gone.abort();
  }, [follow]);
  return useMemo(() => ({ history: windowOf(history, seconds), models: modelsOf(history), error }), [history, seconds, error]);
}
