import { afterEach, describe, expect, it, vi } from 'vitest';
import type { UiGenerationEvent } from '@/api/schema';
import { useConnection } from '@/stores/connection';
import { useStreams } from '@/stores/streams';

/** The events of an answer behind `after`, as the daemon sends them. */
function stream(events: UiGenerationEvent[], after: number, breaks: boolean): Response {
  const text = events
    .filter(({ n }) => n > after)
    .map((event) => `id: ${event.n}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
    .join('');
  let told = false;
  const body = new ReadableStream<Uint8Array>({
    pull: (controller) => {
      if (!told) controller.enqueue(new TextEncoder().encode(text));
      else if (breaks) controller.error(new TypeError('network error'));
      else controller.close();
      told = true;
    },
  });
  return new Response(body, { status: 200 });
}

describe('an answer whose daemon was killed', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('ends where the new daemon says, though the page had seen more', async () => {
    const start: UiGenerationEvent = { n: 1, type: 'start', content: '' };
    const seen: UiGenerationEvent[] = [start, { n: 2, type: 'text', text: 'saved' }, { n: 3, type: 'text', text: ' not saved' }];
    // The same numbers, one of them for another event.
    const kept: UiGenerationEvent[] = [start, { n: 2, type: 'text', text: 'saved' }, { n: 3, type: 'end', state: 'interrupted', stats: null }];
    let connections = 0;
    vi.stubGlobal('fetch', (url: string) => {
      const after = Number(new URL(url, 'http://localhost').searchParams.get('after') ?? 0);
      connections++;
      return Promise.resolve(connections === 1 ? stream(seen, after, true) : stream(kept, after, false));
    });
    const shown: string[] = [];
    const stop = useStreams.subscribe(({ live }) => shown.push(live[7]?.content ?? ''));
    await new Promise<void>((ended) => useStreams.getState().follow(1, 7, 70, ended));
    stop();
    expect(useStreams.getState().live[7]).toMatchObject({ content: 'saved', state: 'interrupted' });
    expect(connections).toBe(2);
    expect(shown.at(-1)).toBe('saved');
  });
  it('is not asked for again when it was forgotten between two attempts', async () => {
    let connections = 0;
    vi.stubGlobal('fetch', () => {
      connections++;
      return Promise.reject(new TypeError('network error'));
    });
    const ended = new Promise<void>((done) => useStreams.getState().follow(1, 8, 80, done));
    await new Promise((pausing) => setTimeout(pausing, 50));
    useStreams.getState().forget([8]);
    await ended;
    expect(connections).toBe(1);
  });
});

describe('an answer that is gone on with', () => {
  afterEach(() => vi.unstubAllGlobals());

  it('is not followed as what it was before, too', async () => {
    const signals: (AbortSignal | undefined)[] = [];
    vi.stubGlobal('fetch', (_: string, { signal }: RequestInit) => {
      signals.push(signal ?? undefined);
      return new Promise((__, left) => signal?.addEventListener('abort', () => left(new DOMException('gone', 'AbortError'))));
    });
    const { follow, forget } = useStreams.getState();
    const before = new Promise<void>((ended) => follow(1, 9, 90, ended));
    const after = new Promise<void>((ended) => follow(1, 9, 91, ended));
    await before;
    expect(signals.map((signal) => signal?.aborted)).toEqual([true, false]);
    forget([9]);
    await after;
  });
});

describe('events that the daemon does not send for the moment', () => {
  afterEach(() => {
    vi.unstubAllGlobals();
    vi.useRealTimers();
    useConnection.getState().seen();
  });

  const ending: UiGenerationEvent[] = [{ n: 1, type: 'start', content: '' }, { n: 2, type: 'text', text: 'there' }, { n: 3, type: 'end', state: 'complete', stats: null }];
  /** Answers with these statuses, and then as if nothing had been. */
  const after = (...statuses: number[]) => {
    const asked: number[] = [];
    vi.stubGlobal('fetch', () => {
      asked.push(performance.now());
      const status = statuses.shift();
      return Promise.resolve(status === undefined ? stream(ending, 0, false) : new Response('{"error":{"message":"not now"}}', { status }));
    });
    return asked;
  };

  it.each([408, 429])('are asked for again, ever later, behind %i', async (status) => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
    const asked = after(status, status, status);
    let ended = false;
    useStreams.getState().follow(1, status, 1, () => (ended = true));
    await vi.advanceTimersByTimeAsync(10_000);
    expect(ended).toBe(true);
    expect(useStreams.getState().live[status]).toMatchObject({ content: 'there', state: 'complete' });
    const pauses = asked.slice(1).map((time, at) => Math.round(time - (asked[at] ?? 0)));
    expect(pauses).toEqual([250, 500, 1000]);
    expect(useConnection.getState().needsKey).toBe(false);
  });
  it('ask for the key behind 401, and come once it is right', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'performance'] });
    after(401);
    let ended = false;
    useStreams.getState().follow(1, 401, 1, () => (ended = true));
    await vi.advanceTimersByTimeAsync(100);
    expect(useConnection.getState().needsKey).toBe(true);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(1000);
    expect(useStreams.getState().live[401]).toMatchObject({ content: 'there', state: 'complete' });
    expect(ended).toBe(true);
  });
  it.each([403, 404, 410])('are gone behind %i', async (status) => {
    const asked = after(status);
    await new Promise<void>((ended) => useStreams.getState().follow(1, status, 1, ended));
    expect(asked).toHaveLength(1);
  });
});
