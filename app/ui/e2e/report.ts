// What is told of a test that failed: what the page shows, what it waits for, and what the daemon knows of it.
import { join } from 'node:path';
import type { Page, Request } from 'playwright-core';
import type { UiMessage } from '@/api/schema';
import type { Watched } from './support';

interface Told {
  /** Newest last. */
  log: readonly string[];
  url: string;
}

/** Requests of the page that have no end yet, and since when. */
export function openRequests(page: Page): ReadonlyMap<Request, number> {
  const open = new Map<Request, number>();
  page.on('request', (request) => open.set(request, Date.now()));
  const close = (request: Request) => open.delete(request);
  page.on('requestfinished', close);
  page.on('requestfailed', close);
  return open;
}

/** Something that may itself hang or fail, as a failing test's page and daemon may. */
async function within(what: string, ms: number, work: () => Promise<unknown>): Promise<string> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((done) => {
    timer = setTimeout(() => done(`no answer within ${ms} ms`), ms);
  });
  try {
    const found = await Promise.race([work(), late]);
    return `${what}: ${typeof found === 'string' ? found : JSON.stringify(found)}`;
  } catch (error) {
    return `${what}: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    clearTimeout(timer);
  }
}

const shown = (page: Page) =>
  page.evaluate(() => ({
    articles: [...document.querySelectorAll<HTMLElement>('article')].map(
      (one) => `${one.closest('[role=log]')?.getAttribute('aria-label') ?? ''}: ${one.dataset.role} ${one.dataset.state}, ${one.innerText.length} characters`,
    ),
    told: [...document.querySelectorAll<HTMLElement>('[role=alert], [role=status], [role=dialog], dialog[open]')].map((one) => one.innerText.slice(0, 300)),
    question: document.querySelector('textarea')?.value,
    send: [...document.querySelectorAll<HTMLButtonElement>('form button')].map((one) => `${one.innerText || one.ariaLabel || ''}${one.disabled ? ' (disabled)' : ''}`),
    focus: document.activeElement?.outerHTML.slice(0, 120),
    hidden: document.hidden,
  }));

/** What the daemon has of the open chat: messages, and the answers under way twice, so that it is seen whether they go on. */
async function chatOf(url: string, chat: string): Promise<string> {
  const get = async <T>(path: string): Promise<T> => (await (await fetch(`${url}${path}`)).json()) as T;
  const { messages } = await get<{ messages: UiMessage[] }>(`/ui-api/chats/${chat}/messages?limit=40`);
  const runs = () => get<{ generations: unknown[] }>(`/ui-api/generations?chat=${chat}`);
  const before = await runs();
  await new Promise((done) => setTimeout(done, 1000));
  return [
    JSON.stringify(await get(`/ui-api/chats/${chat}`)),
    ...messages.map(
      ({ id, parent, role, model, state, content, stats }) =>
        `  ${id} under ${parent ?? '-'}: ${role} ${model ?? ''} ${state}, ${content.length} characters, ${stats?.answer_tokens ?? '?'} tokens`,
    ),
    `  answers: ${JSON.stringify(before.generations.slice(-6))}`,
    `  a second later: ${JSON.stringify((await runs()).generations.slice(-6))}`,
  ].join('\n');
}

/** All of it as text; the page is photographed into `folder`. */
export async function reportOf({ page, problems, open }: Watched, daemon: Told, folder: string, name: string): Promise<string> {
  const chat = /\/chat\/(\d+)$/.exec(page.url())?.[1];
  const picture = join(folder, `failed-${name.replace(/\W+/g, '-').slice(0, 60)}.png`);
  const waits = [...open].map(([request, since]) => `${request.method()} ${new URL(request.url()).pathname} for ${((Date.now() - since) / 1000).toFixed(1)} s`);
  const parts = [
    `the page is at ${page.url()}`,
    await within('it shows', 5000, () => shown(page)),
    `it complains of: ${problems.join(', ') || 'nothing'}`,
    `it waits for: ${waits.join(', ') || 'nothing'}`,
    await within('picture', 5000, () => page.screenshot({ path: picture }).then(() => picture)),
    await within('status', 5000, async () => (await fetch(`${daemon.url}/ui-api/status`)).text()),
    ...(chat ? [await within('chat', 5000, () => chatOf(daemon.url, chat))] : []),
    `the daemon’s log:\n  ${daemon.log.slice(-25).join('\n  ')}`,
  ];
  return `“${name}” failed.\n${parts.join('\n')}`;
}
