// A daemon that answers what a test says, and a component within what all of them need.
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { render, type RenderResult } from '@testing-library/react';
import type { ReactNode } from 'react';
import { vi } from 'vitest';
import type { UiChat, UiMessage } from '@/api/schema';
import type { LoadedModel, Model } from '@/api/types';

export interface Asked {
  method: string;
  url: string;
  body: unknown;
}

/** Answers by `METHOD /path`, without the query; what is not named is not there. What was asked is given back as it comes. */
export function fakeDaemon(answers: Readonly<Record<string, unknown>>): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal('fetch', (url: string, { method = 'GET', body }: { method?: string; body?: string } = {}) => {
    asked.push({ method, url, body: body === undefined ? undefined : JSON.parse(body) });
    const answer = answers[`${method} ${url.split('?')[0] ?? ''}`];
    if (answer === undefined) return Promise.resolve(new Response('not here', { status: 404 }));
    const made: unknown = typeof answer === 'function' ? (answer as (asked: Asked | undefined) => unknown)(asked.at(-1)) : answer;
    return Promise.resolve(made instanceof Response ? made : Response.json(made));
  });
  return asked;
}

export const show = (children: ReactNode): RenderResult =>
  render(<QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>{children}</QueryClientProvider>);

/** jsdom lays nothing out: lists that show what is in sight are told a height. */
export function withSizes(): void {
  vi.stubGlobal('ResizeObserver', class { observe() { /* of one size */ } unobserve() { /* the same */ } disconnect() { /* the same */ } });
  for (const [name, px] of [['clientHeight', 600], ['clientWidth', 800]] as const) vi.spyOn(Element.prototype, name, 'get').mockReturnValue(px);
}

export const chat = (fields: Partial<UiChat> = {}): UiChat => ({
  id: 1, title: 'Rivers', folder: null, model: 'm', pinned: false, leaf: null, n_messages: 0, generation: null, revision: 1,
  created_ms: 1, modified_ms: 1, removed_ms: null, purge_ms: null, system: '', parameters: {}, ...fields,
}); // prettier-ignore

export const message = (fields: Partial<UiMessage> = {}): UiMessage => ({
  id: 1, parent: null, role: 'user', state: 'complete', content: 'Which?', reasoning: '', tool_calls: null, tool_call_id: null,
  model: null, parameters: null, stats: null, generation: null, attachments: [], revision: 1, created_ms: 1, modified_ms: 1, ...fields,
}); // prettier-ignore

export const model = (fields: Partial<Model> = {}): Model => ({
  name: 'm', path: '/m.gguf', source: '', digest: 'sha256:0', id: '0', origin: '', alias_of: null, bytes: 98362432, modified: 1,
  family: 'llama', quantization: 'Q4_1', n_params: 134515008, n_ctx_train: 2048, has_template: true, why_not: null, template: 'T{{x}}',
  system: null, license: 'Apache-2.0', parameters: [], warnings: [], ...fields,
}); // prettier-ignore

export const loaded = (fields: Partial<LoadedModel> = {}): LoadedModel => ({
  name: 'm', path: '/m.gguf', n_ctx: 2048, weight_bytes: 1, kv_bytes_per_token: 1, n_uses: 0, loading: false, pinned: false, expires_in_ms: null, ...fields,
}); // prettier-ignore
