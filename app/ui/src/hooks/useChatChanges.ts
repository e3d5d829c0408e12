// Changes of a chat's fields: sent one after the other, shown before the daemon has answered, and waited for by what depends on them.
import { useMutationState, type MutationOptions, type QueryClient } from '@tanstack/react-query';
import { useMemo } from 'react';
import { api } from '@/api/client';
import type { UiChat, UiChatChange } from '@/api/schema';

interface ChatChange {
  /** As it was read. What is shown of a chat, its leaf, is changed without a revision. */
  chat: Pick<UiChat, 'id'> & Partial<Pick<UiChat, 'revision'>>;
  fields: UiChatChange;
}

const KEY = ['chat', 'change'];
const pending = { mutationKey: KEY, status: 'pending' } as const;

export const changing = (client: QueryClient): MutationOptions<UiChat, Error, ChatChange> => ({
  mutationKey: KEY,
  // Each upon what the one before has made.
  scope: { id: 'chat' },
  mutationFn: ({ chat: { id, revision = 0 }, fields }) => {
    const known = client.getQueryData<UiChat>(['chat', id])?.revision ?? 0;
    return api('PATCH /ui-api/chats/{id}', { path: { id }, body: { revision: Math.max(known, revision), ...fields } });
  },
  onSuccess: (chat) => client.setQueryData(['chat', chat.id], chat),
  onSettled: () => {
    for (const key of ['chats', 'chat', 'folders', 'search']) void client.invalidateQueries({ queryKey: [key] });
  },
});

/** For who is no component. */
export const changeChat = (client: QueryClient, change: ChatChange): Promise<UiChat> =>
  client.getMutationCache().build(client, changing(client)).execute(change);

/** The chat with what somebody has changed of it: the daemon's answer, whenever it comes, says the same, or that it was refused. */
export function useChanged(chat: UiChat | undefined): UiChat | undefined {
  const changes = useMutationState({ filters: pending, select: ({ state }) => state.variables as ChatChange });
  return useMemo(
    () => chat && changes.filter((change) => change.chat.id === chat.id).reduce((made, { fields }) => ({ ...made, ...fields }), chat),
    [chat, changes],
  );
}

/** When the daemon has answered all changes of a chat. */
export function changesAnswered(client: QueryClient, id: number): Promise<void> {
  const cache = client.getMutationCache();
  const left = () => cache.findAll(pending).some(({ state }) => (state.variables as ChatChange).chat.id === id);
  return new Promise((done) => {
    const look = () => {
      if (left()) return;
      leave();
      done();
    };
    const leave = cache.subscribe(look);
    look();
  });
}
