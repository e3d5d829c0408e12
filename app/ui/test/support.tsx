// A daemon that answers what a test says, and a component within what all of them need.
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { render, type RenderResult } from '@testing-library/react';
import type { ReactNode } from 'react';
import { vi } from 'vitest';
import { answering, type Answers, type Asked } from './fixtures';

export * from './fixtures';

/** What was asked is given back as it comes. */
export function fakeDaemon(answers: Answers): Asked[] {
  const asked: Asked[] = [];
  vi.stubGlobal('fetch', answering(answers, asked));
  return asked;
}

export const show = (children: ReactNode): RenderResult =>
  render(<QueryClientProvider client={new QueryClient({ defaultOptions: { queries: { retry: false } } })}>{children}</QueryClientProvider>);

/** jsdom has the element, but not what it does. */
export function withDialogs(): void {
  HTMLDialogElement.prototype.showModal = function () { this.open = true; };
  HTMLDialogElement.prototype.close = function () { this.open = false; };
}

/** jsdom lays nothing out: lists that show what is in sight are told a height. */
export function withSizes(): void {
  vi.stubGlobal('ResizeObserver', class { observe() { /* of one size */ } unobserve() { /* the same */ } disconnect() { /* the same */ } });
  for (const [name, px] of [['clientHeight', 600], ['clientWidth', 800]] as const) vi.spyOn(Element.prototype, name, 'get').mockReturnValue(px);
}
