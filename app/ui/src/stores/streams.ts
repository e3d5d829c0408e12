// Answers under way, by message. They are the daemon's: a page follows their events, as often as the connection breaks,
// and shows what has come once a frame.
import { create } from 'zustand';
import { ApiError, apiEvents } from '@/api/client';
import type { UiGenerationEvent, UiMessage, UiStats, UiToolCall } from '@/api/schema';

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
  /** Follows until the end; `ended` is called once, after it was shown. */
  follow: (chat: number, message: number, generation: number, ended: () => void) => void;
  /** What was shown can be read from the chat again. */
  forget: (message: number) => void;
}

const wait = (ms: number) => new Promise((done) => setTimeout(done, ms));

export const useStreams = create<Streams>((set, get) => {
  const followed = new Set<number>();
  const fresh = new Map<number, Live>();
  let asked = false;

  const flush = () => {
    asked = false;
    if (!fresh.size) return;
    set({ live: { ...get().live, ...Object.fromEntries(fresh) } });
    fresh.clear();
  };
  const show = (message: number, live: Live, now: boolean) => {
    fresh.set(message, live);
    if (now || document.hidden) flush();
    else if (!asked) {
      asked = true;
      requestAnimationFrame(flush);
    }
  };

  const run = async (chat: number, message: number, generation: number) => {
    const empty: Live = {
      generation, chat, content: '', reasoning: '', calls: [], warnings: [], state: 'running', stats: undefined,
      promptTokens: 0, contextTokens: 0,
    }; // prettier-ignore
    let live = empty;
    let shown = 0;
    for (let pause = 250; live.state === 'running'; pause = Math.min(pause * 2, 4000)) {
      // From the beginning: a daemon that was killed and started anew may have given numbers that were seen, but not saved,
      // to other events.
      live = empty;
      try {
        const route = 'GET /ui-api/generations/{id}/events';
        for await (const { event, data } of apiEvents(route, { path: { id: generation } })) {
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
        if (error instanceof ApiError && error.status >= 400 && error.status < 500) return;
      }
      if (live.state === 'running') await wait(pause);
    }
  };

  return {
    live: {},
    follow: (chat, message, generation, ended) => {
      if (followed.has(generation)) return;
      followed.add(generation);
      void run(chat, message, generation).finally(() => {
        followed.delete(generation);
        ended();
      });
    },
    forget: (message) => {
      fresh.delete(message);
      set({ live: Object.fromEntries(Object.entries(get().live).filter(([id]) => Number(id) !== message)) });
    },
  };
});
