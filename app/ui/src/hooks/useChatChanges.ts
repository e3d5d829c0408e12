// Changes of a chat's fields: sent one after the other, shown before the daemon has answered, and waited for by what depends on them.
import { useMutationState, type MutationOptions, type QueryClient } from '@tanstack/react-query';
import { useMemo } from 'react';
import { api, isConflict } from '@/api/client';
import type { UiChat, UiChatChange, UiParameters } from '@/api/schema';

type Fields = Readonly<Record<string, unknown>>;

export interface ChatChange {
  /** As it was read. What is shown of a chat, its leaf, is changed without a revision. */
  chat: Pick<UiChat, 'id'> & Partial<UiChat>;
  fields?: UiChatChange;
  /** These alone, over those that the chat has when it is their turn; null takes one away. */
  parameters?: Fields;
}

const KEY = ['chat', 'change'];
const pending = { mutationKey: KEY, status: 'pending' } as const;
/** What a body may have that is sent even if the page is closed: 64 KiB, at most three bytes a character. */
const KEEPALIVE_CHARACTERS = 20_000;

/** Those of a chat with others laid over them. */
export const withParameters = (before: UiParameters | undefined, over: Fields): UiParameters =>
  Object.fromEntries(Object.entries({ ...before, ...over }).filter(([, value]) => value !== null));

const fieldsOf = (now: Partial<UiChat>, { fields, parameters }: ChatChange): UiChatChange =>
  parameters ? { ...fields, parameters: withParameters(now.parameters, parameters) } : { ...fields };

/** null is as good as nothing. */
const same = (a: unknown, b: unknown) => JSON.stringify(a ?? null) === JSON.stringify(b ?? null);
/** Of what is wanted something was changed since it was read, and not to just that. */
const overtaken = (wanted: Fields, read: Fields, now: Fields): boolean =>
  Object.keys(wanted).some((name) => !same(read[name], now[name]) && !same(wanted[name], now[name]));

async function send(client: QueryClient, change: ChatChange): Promise<UiChat> {
  const { chat, fields = {}, parameters = {} } = change;
  const path = { id: chat.id };
  const patch = (now: Partial<UiChat>, revision: number) => {
    const body = { revision, ...fieldsOf(now, change) };
    return api('PATCH /ui-api/chats/{id}', { path, body, keepalive: JSON.stringify(body).length < KEEPALIVE_CHARACTERS });
  };
  const known = client.getQueryData<UiChat>(['chat', chat.id]);
  try {
    return await patch(known ?? chat, Math.max(known?.revision ?? 0, chat.revision ?? 0));
  } catch (error) {
    if (!isConflict(error)) throw error;
    // Another window was faster. What it has written is not written over, and what it has left alone is changed.
    const now = await api('GET /ui-api/chats/{id}', { path });
    const wanted = Object.fromEntries(Object.entries(fields).filter(([name]) => name in chat));
    if (overtaken(wanted, { ...chat }, { ...now })) throw error;
    if ('parameters' in chat && overtaken(parameters, { ...chat.parameters }, { ...now.parameters })) throw error;
    return patch(now, now.revision);
  }
}

const changing = (client: QueryClient, id: number): MutationOptions<UiChat, Error, ChatChange> => ({
  mutationKey: KEY,
  // Each upon what the one before has made of the same chat.
  scope: { id: `chat ${id}` },
  mutationFn: (change) => send(client, change),
  onSuccess: (chat) => client.setQueryData(['chat', chat.id], chat),
  onSettled: () => {
    for (const key of ['chats', 'chat', 'folders', 'search']) void client.invalidateQueries({ queryKey: [key] });
  },
});

/** Fails where the daemon does not take it. */
export const changeChat = (client: QueryClient, change: ChatChange): Promise<UiChat> =>
  client.getMutationCache().build(client, changing(client, change.chat.id)).execute(change);

/** The chat with what somebody has changed of it: the daemon's answer, whenever it comes, says the same, or that it was refused. */
export function useChanged(chat: UiChat | undefined): UiChat | undefined {
  const changes = useMutationState({ filters: pending, select: ({ state }) => state.variables as ChatChange });
  return useMemo(
    () => chat && changes.filter((change) => change.chat.id === chat.id).reduce((made, change) => ({ ...made, ...fieldsOf(made, change) }), chat),
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
