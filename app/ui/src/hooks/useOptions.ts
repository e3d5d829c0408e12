// The daemon's own options: in use, in its file, by default.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { api } from '@/api/client';
import type { UiOptions, UiOptionValues } from '@/api/schema';

export type OptionName = keyof UiOptionValues;
/** Those that have a row; the others are for the file alone. */
export type ShownOption = Exclude<OptionName, 'rope_scale' | 'rope_base' | 'rope_original' | `yarn_${string}`>;
export type OptionChange = Partial<Record<OptionName, string | number | boolean | null>>;

const QUERY = ['options'];

export function useOptions() {
  return useQuery({ queryKey: QUERY, queryFn: ({ signal }) => api('GET /ui-api/options', { signal }), retry: false });
}

/** What the file would be, without writing it; throws with the daemon's own words. */
export const checkOptions = (values: OptionChange, signal?: AbortSignal): Promise<UiOptions> =>
  api('PATCH /ui-api/options', { body: { values, check_only: true }, ...(signal ? { signal } : {}) });

export function useChangeOptions() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (values: OptionChange) => api('PATCH /ui-api/options', { body: { values } }),
    onSuccess: (answer) => client.setQueryData(QUERY, answer),
  });
}

export function useRestart() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => api('POST /ui-api/restart', { body: { now: false } }),
    onSettled: () => void client.invalidateQueries(),
  });
}
