import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { cleanup, configure, fireEvent, render, screen, within } from '@testing-library/react';
import type { ReactNode } from 'react';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { CompletionPlayground } from '@/components/playground/CompletionPlayground';
import { EmbeddingsPlayground } from '@/components/playground/EmbeddingsPlayground';
import PlaygroundPage from '@/components/playground/PlaygroundPage';
import { cosine, perplexityOf, tokensOf, visible } from '@/components/playground/tokens';
import { VisionPlayground } from '@/components/playground/VisionPlayground';
import { useNavigation } from '@/stores/navigation';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const HOSTILE = '<img src=x onerror=alert(1)>';
const asked: { url: string; body: unknown }[] = [];
const model = { name: 'm', path: 'm', why_not: null };

/** A daemon with one model that answers so. */
function daemon(answers: Readonly<Record<string, () => Response>>) {
  asked.length = 0;
  vi.stubGlobal('fetch', (url: string, { body }: { body?: string }) => {
    asked.push({ url, body: body === undefined ? undefined : JSON.parse(body) });
    if (url === '/ui-api/models') return Promise.resolve(Response.json({ models: [model] }));
    if (url === '/ui-api/loaded') return Promise.resolve(Response.json({ loaded: [] }));
    return Promise.resolve(answers[url]?.() ?? new Response('', { status: 404 }));
  });
}
const show = (children: ReactNode) => render(<QueryClientProvider client={new QueryClient()}>{children}</QueryClientProvider>);
const piece = (text: string, logprob: number, top: Record<string, number>) =>
  `data: ${JSON.stringify({ choices: [{ text, finish_reason: null, logprobs: { tokens: [text], token_logprobs: [logprob], top_logprobs: [top] } }] })}\n\n`;

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe('tokens', () => {
  it('have their alternatives, the likeliest first', () => {
    const logprobs = { tokens: ['a'], token_logprobs: [-2], top_logprobs: [{ c: -3, b: -1 }] };
    expect(tokensOf({ choices: [{ text: 'a', finish_reason: null, logprobs }] })).toEqual([
      { text: 'a', logprob: -2, alternatives: [{ text: 'b', logprob: -1 }, { text: 'c', logprob: -3 }] },
    ]);
    expect(tokensOf({ choices: [{ text: '', finish_reason: 'stop', logprobs: null }] })).toEqual([]);
    expect(perplexityOf([-1, -3].map((logprob) => ({ text: '', logprob, alternatives: [] })))).toBeCloseTo(Math.exp(2));
    expect(visible(' a\n')).toBe('·a↵');
  });
  it('and vectors are compared by their direction', () => {
    expect(cosine([1, 0], [2, 0])).toBe(1);
    expect(cosine([1, 0], [0, 3])).toBe(0);
    expect(cosine([0, 0], [1, 1])).toBe(0);
  });
});

describe('components of the playground', () => {
  it('CompletionPlayground shows how likely each token was, and never makes markup of one', async () => {
    const stream = piece(' sea', -0.1, { ' sea': -0.1, ' land': -2.5 }) + piece(HOSTILE, -4, { other: -0.5 }) + 'data: [DONE]\n\n';
    daemon({ '/v1/completions': () => new Response(stream) });
    const { container } = show(<CompletionPlayground />);
    await screen.findByRole('option', { name: 'm' });
    fireEvent.change(screen.getByRole('textbox'), { target: { value: 'The' } });
    fireEvent.click(screen.getByRole('button', { name: 'Complete' }));
    const tokens = await screen.findByRole('group', { name: 'Tokens' });
    await screen.findByText('2 tokens, perplexity 7.77');
    expect(asked.at(-1)?.body).toMatchObject({ model: 'm', prompt: 'The', logprobs: 5, stream: true });
    const [first, second] = within(tokens).getAllByRole('button');
    expect(first?.getAttribute('aria-label')).toBe('·sea 90 %');
    fireEvent.focus(first as HTMLElement);
    expect(screen.getByRole('row', { name: '·land 8.2 % -2.500' })).toBeTruthy();
    // With the arrow keys from token to token; what was drawn is told even where it was not among the likeliest.
    fireEvent.keyDown(tokens, { key: 'ArrowRight' });
    expect(document.activeElement).toBe(second);
    expect(screen.getByRole('row', { name: 'other 61 % -0.500' })).toBeTruthy();
    expect(screen.getByRole('row', { name: `${visible(HOSTILE)} 1.8 % -4.000` })).toBeTruthy();
    expect(container.querySelector('img')).toBeNull();
  });
  it('CompletionPlayground tells what went wrong', async () => {
    daemon({ '/v1/completions': () => Response.json({ error: { message: 'too long' } }, { status: 400 }) });
    show(<CompletionPlayground />);
    await screen.findByRole('option', { name: 'm' });
    fireEvent.change(screen.getByRole('textbox'), { target: { value: 'x' } });
    fireEvent.click(screen.getByRole('button', { name: 'Complete' }));
    await screen.findByText('too long');
  });
  it('EmbeddingsPlayground shows the matrix of cosines, and the warning', async () => {
    const data = [{ index: 1, embedding: [0, 1] }, { index: 0, embedding: [1, 0] }, { index: 2, embedding: [1, 1] }];
    daemon({ '/v1/embeddings': () => Response.json({ data, warnings: ['not made for it'] }) });
    const { container } = show(<EmbeddingsPlayground />);
    await screen.findByRole('option', { name: 'm' });
    fireEvent.change(screen.getByRole('textbox'), { target: { value: `cat\n\n ${HOSTILE}\nboth` } });
    fireEvent.click(screen.getByRole('button', { name: 'Compare' }));
    await screen.findByRole('row', { name: '1. cat 1.000 0.000 0.707' });
    expect(screen.getByRole('row', { name: `2. ${HOSTILE} 0.000 1.000 0.707` })).toBeTruthy();
    expect(screen.getByText('not made for it')).toBeTruthy();
    expect(asked.at(-1)?.body).toEqual({ model: 'm', input: ['cat', HOSTILE, 'both'] });
    expect(container.querySelector('img')).toBeNull();
  });
  it('VisionPlayground says that no model can see, and shows the way to the models', () => {
    show(<VisionPlayground />);
    expect(screen.getByText('No model here can see images yet.')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Go to: Models' }));
    expect(useNavigation.getState().place.page).toBe('models');
  });
  it('tabs go with the arrow keys, round and round', () => {
    daemon({});
    show(<PlaygroundPage />);
    const list = screen.getByRole('tablist');
    expect(screen.getByRole('tabpanel', { name: 'Completion' })).toBeTruthy();
    fireEvent.keyDown(list, { key: 'ArrowLeft' });
    expect(screen.getByRole('tabpanel', { name: 'Vision' }).textContent).toContain('No model here');
    fireEvent.keyDown(list, { key: 'ArrowRight' });
    expect(document.activeElement?.textContent).toBe('Completion');
  });
});
