// An answer under way: its events are shown, until the chat itself has it.
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, configure, render, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { UiGenerationEvent, UiMessage } from '@/api/schema';
import { ChatPane } from '@/components/chat/ChatPane';
import { useStreams } from '@/stores/streams';
import { answering, chat, loaded, message, model, withSizes } from './support';

configure({ asyncUtilTimeout: 15_000 });

const question = message({ id: 1, content: 'Which?' });
const running = message({ id: 2, parent: 1, role: 'assistant', model: 'm', state: 'running', content: '', generation: 70 });
const complete = message({ ...running, state: 'complete', content: 'The Nile, as the chat has it.', generation: null });

/** A chat with an answer under way: what the daemon says of its messages, as often as it is asked, and the answer's events. */
function underWay() {
  let tell: (event: UiGenerationEvent) => void = () => undefined;
  let end: () => void = () => undefined;
  const left = vi.fn();
  const asked: ((messages: UiMessage[]) => void)[] = [];
  const answers = answering({
      'GET /ui-api/models': { models: [model()] },
      'GET /ui-api/loaded': { loaded: [loaded()] },
      'GET /ui-api/chats/1': chat({ leaf: 2 }),
      'GET /ui-api/chats/1/messages': () =>
        new Promise((done) => asked.push((messages) => done({ messages, next: null }))),
      'GET /ui-api/generations/70/events': () =>
        new Response(
          new ReadableStream<Uint8Array>({
            start: (controller) => {
              tell = (event) => controller.enqueue(new TextEncoder().encode(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`));
              end = () => controller.close();
            },
            cancel: left,
          }),
        ),
  });
  // As a browser has it, a body ends with its request.
  vi.stubGlobal('fetch', async (url: string, options: RequestInit & { method: string; body: string }) => {
    const { body, headers } = await answers(url, options);
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    void body?.pipeTo(writable, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
    return new Response(readable, { headers });
  });
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  render(
    <QueryClientProvider client={client}>
      <ChatPane id={1} />
    </QueryClientProvider>,
  );
  return {
    /** In answer to the n-th time it was asked. */
    messages: async (n: number, answer: UiMessage) => {
      await waitFor(() => expect(asked.length).toBeGreaterThan(n));
      await act(async () => {
        asked[n]?.([question, answer]);
        await new Promise((done) => setTimeout(done, 50));
      });
    },
    stale: () => act(() => void client.invalidateQueries({ queryKey: ['messages', 1] })),
    tell: (event: UiGenerationEvent) => act(() => tell(event)),
    end: () => act(() => end()),
    asked,
    left,
  };
}

beforeEach(() => {
  withSizes();
  useStreams.setState({ live: {} });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('an answer under way', () => {
  const shownState = () => screen.getByRole('article', { name: 'Answer' }).dataset.state;

  it('stays what it was at its end until the chat has it, however often that is read', async () => {
    const daemon = underWay();
    await daemon.messages(0, running);
    await waitFor(() => expect(shownState()).toBe('running'));
    daemon.tell({ n: 1, type: 'start', content: '' });
    daemon.tell({ n: 2, type: 'text', text: 'The Nile, of course.' });
    daemon.tell({ n: 3, type: 'end', state: 'complete', stats: null });
    daemon.end();
    // The end is seen twice: in the answer's events, and in those of all that changes. The second reading takes the first one's place.
    await waitFor(() => expect(daemon.asked).toHaveLength(2));
    daemon.stale();
    await waitFor(() => expect(daemon.asked).toHaveLength(3));
    await daemon.messages(1, running);
    expect([shownState(), screen.queryByText('The Nile, of course.') !== null]).toEqual(['complete', true]);
    await daemon.messages(2, complete);
    expect([shownState(), screen.queryByText('The Nile, as the chat has it.') !== null]).toEqual(['complete', true]);
    await waitFor(() => expect(useStreams.getState().live).toEqual({}));
  });

  it('has ended when the chat says so, though its events fell silent', async () => {
    const daemon = underWay();
    await daemon.messages(0, running);
    await waitFor(() => expect(shownState()).toBe('running'));
    daemon.tell({ n: 1, type: 'start', content: '' });
    daemon.tell({ n: 2, type: 'text', text: 'The Ni' });
    await screen.findByText('The Ni');
    expect(screen.getByRole('button', { name: 'Stop' })).toBeTruthy();
    daemon.stale();
    await daemon.messages(1, complete);
    await screen.findByText('The Nile, as the chat has it.');
    expect(shownState()).toBe('complete');
    expect(screen.queryByRole('button', { name: 'Stop' })).toBeNull();
    // The connection is given back, and nothing is kept of it.
    await waitFor(() => expect(daemon.left).toHaveBeenCalled());
    await daemon.messages(2, complete);
    expect(shownState()).toBe('complete');
    await waitFor(() => expect(useStreams.getState().live).toEqual({}));
  });
});
