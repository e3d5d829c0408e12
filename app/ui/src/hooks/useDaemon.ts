// The daemon's state, asked for every two seconds while the page is seen.
import { useQuery, type UseQueryResult } from '@tanstack/react-query';
import { api } from '@/api/client';
import type { DaemonStatus } from '@/api/types';
import { useConnection } from '@/stores/connection';

export function useDaemon(): UseQueryResult<DaemonStatus> {
  return useQuery({
    queryKey: ['status'],
    queryFn: async ({ signal }) => {
      try {
        const status = (await api('GET /ui-api/status', { signal })) as DaemonStatus;
        useConnection.getState().seen();
        return status;
      } catch (error) {
        if (!signal.aborted) useConnection.getState().seen(error);
        throw error;
      }
    },
    refetchInterval: 2000,
    retry: false,
  });
}
