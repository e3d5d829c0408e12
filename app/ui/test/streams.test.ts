import { afterEach, describe, expect, it, vi } from 'vitest';
import type { UiGenerationEvent } from '@/api/schema';
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
