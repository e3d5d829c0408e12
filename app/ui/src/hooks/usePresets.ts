// Presets: a system prompt, parameters, and perhaps a model, under a name. They lie on the daemon.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { api } from '@/api/client';
import type { UiPreset, UiPresetFields } from '@/api/schema';
import { useT } from '@/i18n';
import { showError, useToasts } from '@/stores/toasts';

export function usePresets(wanted = true) {
  return useQuery({
    queryKey: ['presets'],
    queryFn: async ({ signal }) => (await api('GET /ui-api/presets', { signal })).presets,
    enabled: wanted,
  });
}

export function usePresetActions() {
  const client = useQueryClient();
  const t = useT();
  const options = { onError: showError, onSettled: () => void client.invalidateQueries({ queryKey: ['presets'] }) };
  const add = useMutation({ ...options, mutationFn: (fields: UiPresetFields) => api('POST /ui-api/presets', { body: fields }) });
  const change = useMutation({
    ...options,
    mutationFn: ({ preset, fields }: { preset: UiPreset; fields: Partial<UiPresetFields> }) =>
      api('PATCH /ui-api/presets/{id}', { path: { id: preset.id }, body: { revision: preset.revision, ...fields } }),
  });
  const remove = useMutation({
    ...options,
    mutationFn: (preset: UiPreset) => api('DELETE /ui-api/presets/{id}', { path: { id: preset.id } }),
    onSuccess: (_, { name, model, system, parameters }) =>
      useToasts.getState().show(t('preset.removed', { name }), {
        seconds: 15,
        action: { label: t('undo'), run: () => add.mutate({ name, model, system, parameters }) },
      }),
  });
  return { add, change, remove };
}
