// Answers under way, by message. They are the daemon's: a page follows their events, as often as the connection breaks,
// and shows what has come some times a second.
import { create } from 'zustand';
import { ApiError, apiEvents, isRefusal } from '@/api/client';
import type { UiGenerationEvent, UiMessage, UiStats, UiToolCall } from '@/api/schema';
import { Pace } from '@/lib/pace';
import { useConnection } from './connection';

export interface Live {
  generation: number;
  chat: number;
  content: string;
  reasoning: string;
  calls: readonly UiToolCall[];
  warnings: readonly string[];
  state: UiMessage['state'];
  stats: UiStats | undefined;
  promptTokens: number;
  contextTokens: number;
}

/** What an event makes of an answer so far. */
export function applyEvent(live: Live, event: UiGenerationEvent): Live {
  switch (event.type) {
    case 'start':
      return {
        ...live,
        content: event.content ?? '',
        reasoning: event.reasoning ?? '',
        calls: event.tool_calls ?? [],
        promptTokens: event.prompt_tokens ?? 0,
        contextTokens: event.context_tokens ?? 0,
      };
    case 'text':
      return { ...live, content: live.content + (event.text ?? '') };
    case 'reasoning':
      return { ...live, reasoning: live.reasoning + (event.text ?? '') };
    case 'tool_call':
      return event.tool_call ? { ...live, calls: [...live.calls, event.tool_call] } : live;
    case 'warning':
      return { ...live, warnings: [...live.warnings, event.text ?? ''] };
    case 'end':
      return { ...live, state: event.state ?? 'complete', stats: event.stats };
  }
}

interface Streams {
  live: Readonly<Record<number, Live>>;
  /** Follows until the end, or until it is forgotten; `ended` is called once, after it was shown. */
  follow: (chat: number, message: number, generation: number, ended: () => void) => void;
  /** Of these the chat has it all. */
  forget: (messages: readonly number[]) => void;
}

/** What the events of an answer tell of it; undefined where the chat itself has it all, as it does when it says that the answer has ended. */
export const useLive = (message: UiMessage | undefined): Live | undefined =>
  useStreams(({ live }) => {
    const found = message?.state === 'running' ? live[message.id] : undefined;
    return found?.generation === message?.generation ? found : undefined;
  });

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

export const useStreams = create<Streams>((set, get) => {
  /** By message: of what is followed, what ends that. */
  const followed = new Map<number, { generation: number; gone: AbortController }>();
  const fresh = new Map<number, Live>();

  const flush = () => {
    if (!fresh.size) return;
    set({ live: { ...get().live, ...Object.fromEntries(fresh) } });
    fresh.clear();
  };
  const pace = new Pace(flush);
  const show = (message: number, live: Live, now: boolean) => {
    fresh.set(message, live);
    if (now) pace.now();
    else pace.ask();
  };

  const run = async (chat: number, message: number, generation: number, { signal }: AbortController) => {
    const empty: Live = {
      generation, chat, content: '', reasoning: '', calls: [], warnings: [], state: 'running', stats: undefined,
      promptTokens: 0, contextTokens: 0,
    }; // prettier-ignore
    const gone = () => signal.aborted;
    let live = empty;
    let shown = 0;
    for (let pause = 250; live.state === 'running'; pause = Math.min(pause * 2, 4000)) {
      if (gone()) return; // while it waited
      // From the beginning: a daemon that was killed and started anew may have given numbers that were seen, but not saved,
      // to other events.
      live = empty;
      try {
        const route = 'GET /ui-api/generations/{id}/events';
        for await (const { event, data } of apiEvents(route, { path: { id: generation }, signal })) {
          pause = 250;
          if (event === 'reset') {
            live = empty;
          } else if (event !== 'saved') {
            const parsed = JSON.parse(data) as UiGenerationEvent;
            live = applyEvent(live, parsed);
            // What is read again is not shown again.
            if (parsed.n >= shown || live.state !== 'running') {
              shown = parsed.n;
              show(message, live, live.state !== 'running');
            }
          }
        }
      } catch (error) {
        // Gone: the daemon was started anew; what it had written stands in the chat.
        if (isRefusal(error)) return;
        if (error instanceof ApiError && error.status === 401) useConnection.getState().seen(error);
      }
      if (gone()) return;
      if (live.state === 'running') await wait(pause);
    }
  };

  return {
    live: {},
    follow: (chat, message, generation, ended) => {
      const before = followed.get(message);
      if (before?.generation === generation && !before.gone.signal.aborted) return;
      before?.gone.abort(); // gone on with since: what it was before is of no account
      const own = { generation, gone: new AbortController() };
      followed.set(message, own);
      void run(chat, message, generation, own.gone).finally(() => {
        if (followed.get(message) === own) followed.delete(message);
        ended();
      });
    },
    forget: (messages) => {
      // Events that fell silent, or come late: they would hold one of the few connections that a browser has for a server.
      for (const id of messages) followed.get(id)?.gone.abort();
      const gone = messages.filter((id) => fresh.delete(id) || Object.hasOwn(get().live, id));
      if (!gone.length) return;
      set({ live: Object.fromEntries(Object.entries(get().live).filter(([id]) => !gone.includes(Number(id)))) });
    },
  };
});
