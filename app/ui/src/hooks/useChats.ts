// The list of chats, its folders, search, and what is done to them.
import { keepPreviousData, useInfiniteQuery, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { api, ApiError } from '@/api/client';
import type { UiChat, UiFolder, UiMessage } from '@/api/schema';
import { changeChat, type ChatChange } from '@/hooks/useChatChanges';
import { useT } from '@/i18n';
import { forgetChat } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { showError, useToasts } from '@/stores/toasts';

export function useChats({ folder }: { folder?: number | undefined }) {
  const query = useInfiniteQuery({
    queryKey: ['chats', folder ?? 'all'],
    queryFn: ({ pageParam, signal }) =>
      api('GET /ui-api/chats', { query: { folder, after: pageParam ?? undefined, limit: 100 }, signal }),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next,
  });
  const chats = query.data?.pages.flatMap((page) => page.chats) ?? [];
  return { chats, error: query.error, hasMore: query.hasNextPage, more: () => void query.fetchNextPage() };
}

/** All chats of a folder. */
async function chatsIn(folder: number): Promise<number[]> {
  const found: number[] = [];
  let after: string | null | undefined;
  do {
    const page = await api('GET /ui-api/chats', { query: { folder, after: after ?? undefined, limit: 100 } });
    found.push(...page.chats.map(({ id }) => id));
    after = page.next;
  } while (after);
  return found;
}

/** Into a folder, unless somebody has put it into another one, or deleted it, meanwhile. */
async function moveBack(id: number, folder: number): Promise<void> {
  const chat = await api('GET /ui-api/chats/{id}', { path: { id } }).catch((error: unknown) => {
    if (error instanceof ApiError && error.status === 404) return null;
    throw error;
  });
  if (chat?.folder === null) await api('PATCH /ui-api/chats/{id}', { path: { id }, body: { revision: chat.revision, folder } });
}

export function useFolders() {
  return useQuery({
    queryKey: ['folders'],
    queryFn: async ({ signal }) => (await api('GET /ui-api/folders', { signal })).folders,
  });
}

export function useSearch(text: string) {
  return useQuery({
    queryKey: ['search', text],
    queryFn: async ({ signal }) => (await api('GET /ui-api/search', { query: { q: text, limit: 50 }, signal })).results,
    enabled: text !== '',
    placeholderData: keepPreviousData,
  });
}

export function useChatActions() {
  const client = useQueryClient();
  const t = useT();
  const onSettled = () => {
    for (const key of ['chats', 'chat', 'folders', 'search']) void client.invalidateQueries({ queryKey: [key] });
  };
  const options = { onError: showError, onSettled };
  const restore = useMutation({
    ...options,
    mutationFn: (id: number) => api('POST /ui-api/chats/{id}/restore', { path: { id } }),
  });
  const remove = useMutation({
    ...options,
    mutationFn: (chat: UiChat) => api('DELETE /ui-api/chats/{id}', { path: { id: chat.id } }),
    onSuccess: (_, chat) => {
      const { place, go } = useNavigation.getState();
      if (place.page === 'chat' && place.id === chat.id) go({ page: 'chat', id: null }, true);
      const messages = client.getQueryData<UiMessage[]>(['messages', chat.id]) ?? [];
      const bringBack = forgetChat(chat.id, messages.map(({ id }) => id));
      useToasts.getState().show(t('chat.removed', { title: chat.title || t('chat.untitled') }), {
        seconds: 15,
        action: { label: t('undo'), run: () => void restore.mutateAsync(chat.id).then(bringBack, () => undefined) },
      });
    },
  });
  const change = (one: ChatChange) => void changeChat(client, one).catch(showError);
  const addFolder = useMutation({
    ...options,
    mutationFn: (name: string) => api('POST /ui-api/folders', { body: { name } }),
  });
  const renameFolder = useMutation({
    ...options,
    mutationFn: ({ folder, name }: { folder: UiFolder; name: string }) =>
      api('PATCH /ui-api/folders/{id}', { path: { id: folder.id }, body: { revision: folder.revision, name } }),
  });
  const restoreFolder = useMutation({
    ...options,
    mutationFn: async ({ folder: { name, position }, inside }: { folder: UiFolder; inside: number[] }) => {
      const made = await api('POST /ui-api/folders', { body: { name, position } });
      const failures: unknown[] = [];
      for (const id of inside) await moveBack(id, made.id).catch((error: unknown) => failures.push(error));
      if (failures.length > 0) throw failures[0];
    },
  });
  const removeFolder = useMutation({
    ...options,
    mutationFn: async (folder: UiFolder) => {
      const inside = await chatsIn(folder.id);
      await api('DELETE /ui-api/folders/{id}', { path: { id: folder.id } });
      return inside;
    },
    onSuccess: (inside, folder) =>
      useToasts.getState().show(t('chat.removed', { title: folder.name }), {
        seconds: 15,
        action: { label: t('undo'), run: () => restoreFolder.mutate({ folder, inside }) },
      }),
  });
  const importFile = useMutation({
    ...options,
    mutationFn: async (file: File) => {
      const text = await file.text();
      const body = /\.json$/i.test(file.name) ? { chat: JSON.parse(text) as never } : { markdown: text };
      return api('POST /ui-api/import', { body });
    },
    onSuccess: (chat) => useNavigation.getState().go({ page: 'chat', id: chat.id }),
  });
  return { restore, remove, change, addFolder, renameFolder, removeFolder, importFile };
}

/** The chat as a file, into the browser's downloads. */
export async function downloadChat(chat: UiChat, format: 'json' | 'markdown'): Promise<void> {
  const answer: unknown = await api('GET /ui-api/chats/{id}/export', { path: { id: chat.id }, query: { format } });
  const text = format === 'json' ? JSON.stringify(answer, null, 1) : (answer as { markdown: string }).markdown;
  const url = URL.createObjectURL(new Blob([text], { type: format === 'json' ? 'application/json' : 'text/markdown' }));
  const link = document.createElement('a');
  const name = chat.title.replace(/[^\p{L}\p{N} _-]+/gu, '').trim() || `chat-${chat.id}`;
  link.href = url;
  link.download = `${name}.${format === 'json' ? 'json' : 'md'}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
