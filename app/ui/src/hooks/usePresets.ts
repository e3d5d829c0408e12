// Presets: a system prompt, parameters, and perhaps a model, under a name. They lie on the daemon.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { api } from '@/api/client';
import type { UiPreset, UiPresetFields } from '@/api/schema';
import { useT } from '@/i18n';
import { usePreferences } from '@/stores/preferences';
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
    onSuccess: (_, { id, name, model, system, parameters }) => {
      const { settings, change: changeSettings } = usePreferences.getState();
      const byDefault = settings.default_preset === id;
      if (byDefault) changeSettings({ default_preset: null });
      const restore = async () => {
        const made = await add.mutateAsync({ name, model, system, parameters });
        // Unless new chats begin with another one by now.
        if (byDefault && usePreferences.getState().settings.default_preset === null) changeSettings({ default_preset: made.id });
      };
      useToasts.getState().show(t('preset.removed', { name }), {
        seconds: 15,
        action: { label: t('undo'), run: () => void restore().catch(() => undefined) }, // `add` tells of it
      });
    },
  });
  return { add, change, remove };
}
