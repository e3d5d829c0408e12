// Models: those there are, those in memory, and what is done to them.
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useMemo } from 'react';
import { api } from '@/api/client';
import type { Catalogue, LoadedModel, Model, ModelDetails } from '@/api/types';
import { useT } from '@/i18n';
import { showError, useToasts } from '@/stores/toasts';

const UNDO_S = 20;

export interface RegistryRow extends Model {
  loaded: LoadedModel | undefined;
}

/** Whether it takes part in a chat. A base model, which has no template, only goes on with texts. */
export const canChat = (model: Model): boolean => !model.why_not && (model.has_template || model.template !== null);

/** Whether the store can remove it: not what it only found in the model directory or in another program's folder. */
export const isRemovable = (model: Model): boolean =>
  model.alias_of !== null || !['directory', 'huggingface', 'ollama', 'lmstudio'].includes(model.source);

export function useModels() {
  const models = useQuery({
    queryKey: ['models'],
    queryFn: async ({ signal }) => ((await api('GET /ui-api/models', { signal })) as { models: Model[] }).models,
  });
  const loaded = useQuery({
    queryKey: ['loaded'],
    queryFn: async ({ signal }) => ((await api('GET /ui-api/loaded', { signal })) as { loaded: LoadedModel[] }).loaded,
  });
  const rows = useMemo<RegistryRow[] | undefined>(() => {
    // One file may have several names, and a name may be a link to a file.
    const found = new Map(loaded.data?.flatMap((one) => [[one.path, one] as const, [one.name, one] as const]));
    return models.data?.map((model) => ({ ...model, loaded: found.get(model.path) ?? found.get(model.name) }));
  }, [models.data, loaded.data]);
  return { rows, error: models.error };
}

export function useModelDetails(name: string) {
  return useQuery({
    queryKey: ['model', name],
    queryFn: async ({ signal }) =>
      (await api('GET /ui-api/models/{name}', { path: { name }, query: { details: true }, signal })) as ModelDetails,
  });
}

export function useCatalogue() {
  return useQuery({
    queryKey: ['catalogue'],
    queryFn: async ({ signal }) => (await api('GET /ui-api/catalogue', { signal })) as Catalogue,
    staleTime: Infinity,
  });
}

export function useModelActions() {
  const client = useQueryClient();
  const t = useT();
  const settled = () => {
    for (const key of ['models', 'model', 'loaded']) void client.invalidateQueries({ queryKey: [key] });
  };
  const options = { onError: showError, onSettled: settled };
  const load = useMutation({
    ...options,
    mutationFn: (what: { model: string; keep_alive_s?: number }) => api('POST /ui-api/models/load', { body: what }),
  });
  const unload = useMutation({
    ...options,
    mutationFn: (model: string) => api('POST /ui-api/models/unload', { body: { model } }),
  });
  const restore = useMutation({
    ...options,
    mutationFn: (model: string) => api('POST /ui-api/models/restore', { body: { model } }),
  });
  const remove = useMutation({
    ...options,
    mutationFn: (name: string) => api('DELETE /ui-api/models/{name}', { path: { name }, query: { grace_s: UNDO_S } }),
    onSuccess: (_, name) =>
      useToasts.getState().show(t('models.removed', { name }), {
        seconds: UNDO_S - 2,
        action: { label: t('undo'), run: () => restore.mutate(name) },
      }),
  });
  const alias = useMutation({
    ...options,
    mutationFn: (names: { from: string; to: string }) => api('POST /ui-api/models/copy', { body: { ...names, alias: true } }),
  });
  const unalias = useMutation({
    ...options,
    mutationFn: (name: string) => api('DELETE /ui-api/models/{name}', { path: { name } }),
  });
  return { load, unload, remove, alias, unalias };
}
