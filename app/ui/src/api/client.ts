// Requests to the daemon that served this page. An API key stays in this module's memory: not in URLs, cookies or storage.
import { messageOf } from '@/lib/format';
import type { Routes as UiRoutes } from './schema';
import { readEvents, type ServerEvent } from './sse';
import type { OtherRoutes } from './types';

type Routes = UiRoutes & OtherRoutes;

export type Route = keyof Routes;
type Body<R extends Route> = Routes[R] extends { body: infer B } ? B : never;

export interface CallOptions<R extends Route> {
  path?: Readonly<Record<string, string | number>>;
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  body?: Body<R>;
  signal?: AbortSignal;
  /** It is sent even if the page is closed meanwhile. */
  keepalive?: boolean;
  /** low: behind what the page is waiting for, as a stream that stays open has to be. */
  priority?: RequestPriority;
}

export class ApiError extends Error {
  constructor(
    /** 0: the daemon could not be reached. */
    readonly status: number,
    message: string,
    readonly code: string | null = null,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

/** It was read, and is not to be: asked again it is refused again. Where a key is missing or there is too much to do it may not be. */
export const isRefusal = (error: unknown): error is ApiError =>
  error instanceof ApiError && error.status >= 400 && error.status < 500 && ![401, 408, 429].includes(error.status);

/** Somebody else was faster. */
export const isConflict = (error: unknown): boolean => error instanceof ApiError && error.status === 409;

let apiKey = '';

export function setApiKey(key: string): void {
  apiKey = key;
}

/** The header that carries the key; '' without one. */
export const authorization = (): string => (apiKey ? `Bearer ${apiKey}` : '');

export function addressOf<R extends Route>(route: R, options: CallOptions<R> = {}): { method: string; url: string } {
  const space = route.indexOf(' ');
  const path = route
    .slice(space + 1)
    .replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(String(options.path?.[name] ?? '')));
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options.query ?? {})) {
    if (value !== undefined) query.set(name, String(value));
  }
  const text = query.toString();
  return { method: route.slice(0, space), url: text ? `${path}?${text}` : path };
}

async function send<R extends Route>(route: R, options: CallOptions<R>, accept: string): Promise<Response> {
  const { method, url } = addressOf(route, options);
  const headers: Record<string, string> = { Accept: accept };
  if (apiKey) headers.Authorization = authorization();
  if (options.body !== undefined) headers['Content-Type'] = 'application/json';
  let response: Response;
  try {
    response = await fetch(url, {
      method,
      headers,
      cache: 'no-store',
      keepalive: options.keepalive ?? false,
      priority: options.priority ?? 'auto',
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (error instanceof DOMException && error.name === 'AbortError') throw error;
    throw new ApiError(0, messageOf(error));
  }
  if (!response.ok) throw errorOf(response.status, await response.text().catch(() => ''));
  return response;
}

/** What an answer that is no success tells. */
export function errorOf(status: number, text: string): ApiError {
  try {
    const { error } = JSON.parse(text) as { error?: { message?: string; code?: string | null } };
    if (error?.message) return new ApiError(status, error.message, error.code ?? null);
  } catch {
    // Not JSON: a proxy's page, perhaps.
  }
  return new ApiError(status, text.slice(0, 200) || `HTTP ${status}`);
}

export async function api<R extends Route>(route: R, options: CallOptions<R> = {}): Promise<Routes[R]['answer']> {
  const response = await send(route, options, 'application/json');
  return (await response.json()) as Routes[R]['answer'];
}

export async function apiText<R extends Route>(route: R, options: CallOptions<R> = {}): Promise<string> {
  const response = await send(route, options, 'text/plain');
  return response.text();
}

export async function* apiEvents<R extends Route>(
  route: R,
  options: CallOptions<R> = {},
): AsyncGenerator<ServerEvent, void> {
  const response = await send(route, options, 'text/event-stream');
  if (response.body) yield* readEvents(response.body);
}
