// One chat: its messages, and everything that makes new ones.
import { useQuery, useQueryClient, type QueryClient } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import { api, ApiError } from '@/api/client';
import type { UiAttachmentFields, UiGenerate, UiMessage, UiParameters, UiQuestion, UiStarted } from '@/api/schema';
import { changeChat, changesAnswered, useChanged } from '@/hooks/useChatChanges';
import { childrenOf, newestBelow, pathTo } from '@/lib/tree';
import { useNavigation } from '@/stores/navigation';
import { useStreams } from '@/stores/streams';

async function readMessages(id: number, signal: AbortSignal): Promise<UiMessage[]> {
  const all: UiMessage[] = [];
  let after: number | null = null;
  do {
    const query: { after: number | undefined; limit: number } = { after: after ?? undefined, limit: 1000 };
    const page = await api('GET /ui-api/chats/{id}/messages', { path: { id }, query, signal });
    all.push(...page.messages);
    after = page.next;
  } while (after !== null);
  return all;
}

/** A new answer, and the question before it, are in the chat at once; the stream fills it. */
function putStarted(client: QueryClient, { chat, question, answer }: UiStarted): void {
  const known = client.getQueryData<UiMessage[]>(['messages', chat.id])?.find(({ id }) => id === answer.id);
  // Where the events of what changes were faster the chat has been read since, and more is known of it.
  if (!known || known.revision <= answer.revision) {
    client.setQueryData(['chat', chat.id], chat);
    client.setQueryData<UiMessage[]>(['messages', chat.id], (before = []) => {
      const fresh = question ? [question, answer] : [answer];
      const ids = new Set(fresh.map((message) => message.id));
      return [...before.filter((message) => !ids.has(message.id)), ...fresh];
    });
  }
  void client.invalidateQueries({ queryKey: ['chats'] });
}

const NONE: UiMessage[] = [];

/** Of answers that the chat says have ended nothing need be known besides. */
function forgetEnded(messages: readonly UiMessage[]): void {
  useStreams.getState().forget(messages.filter(({ state }) => state !== 'running').map(({ id }) => id));
}

export function useChat(id: number | null) {
  const client = useQueryClient();
  const follow = useStreams((streams) => streams.follow);
  const chat = useQuery({
    queryKey: ['chat', id],
    queryFn: ({ signal }) => api('GET /ui-api/chats/{id}', { path: { id: id ?? 0 }, signal }),
    enabled: id !== null,
  });
  const messages = useQuery({
    queryKey: ['messages', id],
    queryFn: ({ signal }) => readMessages(id ?? 0, signal),
    enabled: id !== null,
  });
  const list = messages.data ?? NONE;
  const changed = useChanged(chat.data);
  const leaf = changed?.leaf ?? null;
  const shown = useMemo(() => pathTo(list, leaf), [list, leaf]);

  // Answers under way are followed, whoever asked for them.
  useEffect(() => {
    if (id === null) return;
    forgetEnded(list);
    for (const { id: message, state, generation } of list) {
      if (state === 'running' && generation !== null) {
        follow(id, message, generation, () => {
          const read = client.invalidateQueries({ queryKey: ['messages', id] });
          void read.then(() => forgetEnded(client.getQueryData<UiMessage[]>(['messages', id]) ?? NONE));
          void client.invalidateQueries({ queryKey: ['chat', id] });
          void client.invalidateQueries({ queryKey: ['chats'] });
        });
      }
    }
  }, [id, list, follow, client]);

  return { chat: changed, messages: list, shown, error: chat.error ?? messages.error };
}

export interface Ask {
  content: string;
  attachments: UiAttachmentFields[];
  model: string;
  parameters: UiParameters;
  system: string;
}

/** What is to be answered, and by whom. Of two that are compared one is not `activate`: the chat shows the other. */
export interface Answer {
  chat: number;
  model: string;
  parent?: number;
  message?: UiQuestion;
  activate?: boolean;
}

export type Turns = ReturnType<typeof turnsOf>;

/** A message's attachments with their texts, to be sent again. */
async function readAttachments(chat: number, message: UiMessage): Promise<UiAttachmentFields[]> {
  if (!message.attachments.length) return [];
  const path = { id: chat, message: message.id };
  const { attachments } = await api('GET /ui-api/chats/{id}/messages/{message}', { path });
  return attachments.map(({ name, type, content }) => ({ name, type, content: content ?? '' }));
}

function turnsOf(client: QueryClient, id: number | null) {
  const asking = new Map<string, Promise<UiStarted>>();
  const generate = (body: UiGenerate, into: number): Promise<UiStarted> => {
    // A second click before the first one is answered is no second wish.
    const wish = JSON.stringify([into, body]);
    const begin = async () => {
      // The answer is made with what the chat says then, and behind its leaf.
      await changesAnswered(client, into);
      const started = await api('POST /ui-api/chats/{id}/generations', { path: { id: into }, body });
      putStarted(client, started);
      return started;
    };
    const begun = asking.get(wish) ?? begin().finally(() => asking.delete(wish));
    asking.set(wish, begun);
    return begun;
  };
  const answer = ({ chat, ...body }: Answer): Promise<UiStarted> => generate(body, chat);

  /** A new question at the end. A chat is made where there is none. */
  const ask = async ({ content, attachments, model, parameters, system }: Ask): Promise<UiStarted> => {
    const body: UiGenerate = { message: { content, attachments }, model };
    if (id !== null) return generate(body, id);
    const made = await api('POST /ui-api/chats', { body: { model, parameters, ...(system ? { system } : {}) } });
    let started: UiStarted;
    try {
      started = await generate(body, made.id);
    } catch (error) {
      // Refused: the question stays where it was written, and no empty chat is left.
      if (error instanceof ApiError) {
        await api('DELETE /ui-api/chats/{id}', { path: { id: made.id } }).catch(() => undefined);
      }
      throw error;
    }
    // Unless somebody has gone elsewhere meanwhile.
    const { place, go } = useNavigation.getState();
    if (place.page === 'chat' && place.id === null) go({ page: 'chat', id: made.id });
    return started;
  };
  const attachmentsOf = (question: UiMessage): Promise<UiAttachmentFields[]> => readAttachments(id ?? 0, question);
  /** The question in other words, with what was attached to it, beside the one it was. */
  const resend = async (question: UiMessage, content: string, model: string): Promise<void> => {
    if (id === null) return;
    const attachments = await attachmentsOf(question);
    await generate({ message: { content, attachments, parent: question.parent }, model }, id);
  };
  const regenerate = async (answer: UiMessage, model: string): Promise<void> => {
    if (answer.parent !== null && id !== null) await generate({ parent: answer.parent, model }, id);
  };
  const goOn = async (answer: UiMessage): Promise<void> => {
    if (id !== null) await generate({ continue: answer.id }, id);
  };
  const stop = async (generation: number): Promise<void> => {
    await api('POST /ui-api/generations/{id}/stop', { path: { id: generation } });
  };

  /** Where the branch through this message ends. */
  const leafBelow = (message: UiMessage): number => {
    const messages = client.getQueryData<UiMessage[]>(['messages', id]) ?? NONE;
    return newestBelow(childrenOf(messages), message)?.id ?? message.id;
  };
  /** Shows the branch that goes through this message. */
  const showBranch = async (message: UiMessage): Promise<void> => {
    if (id === null) return;
    await changeChat(client, { chat: { id }, fields: { leaf: leafBelow(message) } });
  };
  const editInPlace = async (message: UiMessage, content: string): Promise<void> => {
    if (id === null) return;
    const path = { id, message: message.id };
    const body = { revision: message.revision, content };
    await api('PATCH /ui-api/chats/{id}/messages/{message}', { path, body });
    await client.invalidateQueries({ queryKey: ['messages', id] });
  };
  return { ask, answer, attachmentsOf, leafBelow, resend, regenerate, goOn, stop, showBranch, editInPlace };
}

/** What is done in a chat. The same functions as long as it is the same chat: messages need not be drawn anew. */
export function useChatTurns(id: number | null) {
  const client = useQueryClient();
  return useMemo(() => turnsOf(client, id), [client, id]);
}
