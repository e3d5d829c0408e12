// A daemon of one's own with the default model, and Chromium before it.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { createReadStream, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createInterface } from 'node:readline';
import type { UiChat, UiChatChange, UiMessage } from '@/api/schema';
import { chromium, type Browser, type Page, type Request } from 'playwright-core';
import { afterAll, beforeAll, beforeEach } from 'vitest';
import { chromiumPath, MODEL, modelFile, program } from './needs';
import { openRequests, reportOf } from './report';

export { MODEL, modelFile };

/** Where the pictures of the pages go. */
export const images =
  process.env.MLXR_UI_IMAGES ?? join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'build', 'ui', 'images');
mkdirSync(images, { recursive: true });

const LOG_LINES = 200;

/** What is in the page stays the same for a moment: lists have come, and what they brought is drawn. */
export async function atRest(page: Page): Promise<void> {
  await page.evaluate(
    (quietMs) =>
      new Promise<void>((done) => {
        const end = () => {
          observer.disconnect();
          done();
        };
        let timer = setTimeout(end, quietMs);
        const observer = new MutationObserver(() => {
          clearTimeout(timer);
          timer = setTimeout(end, quietMs);
        });
        observer.observe(document.documentElement, { subtree: true, childList: true, attributes: true, characterData: true });
      }),
    200,
  );
}

export class Daemon {
  readonly home = mkdtempSync(join(tmpdir(), 'mlxr-ui-'));
  /** Of its environment, beside what all have. */
  readonly variables: Record<string, string> = {};
  /** The newest lines of its log. */
  readonly log: string[] = [];
  private process: ChildProcess | undefined;
  port = 0;

  constructor(withModel: boolean) {
    mkdirSync(join(this.home, 'models'));
    if (withModel) symlinkSync(modelFile(), join(this.home, 'models', `${MODEL}.gguf`));
  }

  /** The same model under another name. */
  addModel(name: string): void {
    symlinkSync(modelFile(), join(this.home, 'models', `${name}.gguf`));
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  private environment() {
    const own = { PATH: process.env.PATH ?? '', HOME: this.home, MLXR_MODELS: join(this.home, 'models'), MLXR_ALLOW_PRIVATE: '127.0.0.1' };
    return { ...own, ...this.variables };
  }

  /** What `mlxr …` prints beside it, in the same folder of models. */
  mlxr(...words: string[]): string {
    return execFileSync(program, words, { env: this.environment(), encoding: 'utf8' });
  }

  /** On the port it had before, if it is started anew. */
  async start(...more: string[]): Promise<void> {
    const env = this.environment();
    const args = ['serve', '--port', String(this.port), '--threads', '2', ...more];
    const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.process = child;
    const lines = createInterface({ input: child.stderr });
    await new Promise<void>((ready, failed) => {
      lines.on('line', (line) => {
        this.log.push(line);
        if (this.log.length > LOG_LINES) this.log.shift();
        const found = /listening on http:\/\/\S+:(\d+)$/.exec(line);
        if (found) this.port = Number(found[1]);
        if (/: ready$/.test(line)) ready();
      });
      lines.on('close', () => failed(new Error(`the daemon did not start: ${this.log.join('\n')}`)));
    });
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const child = this.process;
    if (!child || child.exitCode !== null) return;
    const ended = new Promise((done) => child.once('exit', done));
    child.kill(signal);
    await ended;
  }

  async end(): Promise<void> {
    await this.stop('SIGKILL');
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** A server of one's own, for what the daemon gets from elsewhere; its address. It ends with the tests of the describe(). */
export function serving(listener: RequestListener): { url: string } {
  const server = createServer(listener);
  const place = { url: '' };
  beforeAll(async () => {
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    place.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });
  return place;
}

/** A file, or the piece of it that is asked for; of that `most` bytes, and then nothing more. */
export function sendFile(ask: IncomingMessage, answer: ServerResponse, path: string, most = Infinity): void {
  const size = statSync(path).size;
  const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(ask.headers.range ?? '') ?? [];
  const first = Number(from);
  const last = to === '' ? size - 1 : Math.min(Number(to), size - 1);
  answer.writeHead(ask.headers.range ? 206 : 200, {
    'Content-Length': last - first + 1,
    ETag: '"one"',
    'Accept-Ranges': 'bytes',
    ...(ask.headers.range ? { 'Content-Range': `bytes ${first}-${last}/${size}` } : {}),
  });
  if (ask.method === 'HEAD') answer.end();
  else createReadStream(path, { start: first, end: Math.min(last, first + most - 1) }).pipe(answer, { end: first + most > last });
}

export async function openBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: chromiumPath ?? '', args: ['--no-sandbox', '--disable-gpu'] });
}

export interface Watched {
  page: Page;
  /** What the browser complained about: errors of scripts, refusals by the content security policy. */
  problems: string[];
  /** What it waits for, and since when. */
  open: ReadonlyMap<Request, number>;
}

/** Complaints from now on. */
export function problemsOf(page: Page): string[] {
  const problems: string[] = [];
  page.on('pageerror', (error) => problems.push(error.message));
  page.on('console', (message) => {
    // That a request failed is told by the browser, too; whether it should have is the test's business.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) problems.push(message.text());
  });
  return problems;
}

export async function openPage(browser: Browser, url: string): Promise<Watched> {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 },
    locale: 'en-GB',
    colorScheme: 'light',
    acceptDownloads: true,
    // What a page keeps for when the daemon is away has a test of its own; here requests are to be the page's.
    serviceWorkers: 'block',
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000); // so that a test tells what it waited for
  const problems = problemsOf(page);
  const open = openRequests(page);
  await page.goto(url);
  await page.locator('header nav').waitFor();
  return { page, problems, open };
}

interface Wanted {
  /** Without the default model. */
  bare?: boolean;
  /** The page that is opened. */
  path?: string;
  /** Of `mlxr serve`. */
  options?: readonly string[];
  /** What the daemon shall find when it starts. */
  before?: (daemon: Daemon) => void;
}

interface Stage {
  daemon: Daemon;
  /** Is there from the first test on. */
  watched: Watched;
  browser: () => Browser;
}

/** For the tests of a describe(): a daemon of their own, Chromium, and a page of it, until the last of them. */
export function stage({ bare = false, path = '', options = [], before }: Wanted = {}): Stage {
  const daemon = new Daemon(!bare);
  const watched = {} as Watched;
  let browser: Browser | undefined;
  beforeAll(async () => {
    before?.(daemon);
    await daemon.start(...options);
    browser = await openBrowser();
    Object.assign(watched, await openPage(browser, `${daemon.url}${path}`));
  });
  beforeEach(({ task, onTestFailed }) => {
    onTestFailed(async () => {
      if (Object.hasOwn(watched, 'page')) console.error(await reportOf(watched, daemon, images, task.name));
    });
  });
  afterAll(async () => {
    await browser?.close();
    await daemon.end();
  });
  return {
    daemon,
    watched,
    browser: () => {
      if (!browser) throw new Error('no browser before the first test');
      return browser;
    },
  };
}

/** A request of the page's own origin, for what a test wants to know or to have beforehand. */
export async function request<T>(page: Page, method: string, path: string, body?: unknown): Promise<T> {
  return page.evaluate(
    async ([how, where, text]) => {
      const response = await fetch(where, {
        method: how,
        headers: { 'Content-Type': 'application/json' },
        ...(text === null ? {} : { body: text }),
      });
      if (!response.ok) throw new Error(`${how} ${where}: ${response.status} ${await response.text()}`);
      return (await response.json()) as T;
    },
    [method, path, body === undefined ? null : JSON.stringify(body)] as const,
  );
}

/** Asks as soon as it can be sent: when the page knows whom to, and with what preset. */
export async function askIn(page: Page, text: string): Promise<void> {
  await page.getByRole('textbox', { name: 'Ask something' }).fill(text);
  await page.locator('button[type=submit]:enabled', { hasText: 'Send' }).waitFor();
  await page.keyboard.press('Enter');
}

export const chatOf = (page: Page): string => new URL(page.url()).pathname.slice('/chat/'.length);

/** The end of the branch that the open chat shows, as the daemon has it. */
export async function lastMessage(page: Page): Promise<UiMessage> {
  const { leaf } = await request<UiChat>(page, 'GET', `/ui-api/chats/${chatOf(page)}`);
  return request<UiMessage>(page, 'GET', `/ui-api/chats/${chatOf(page)}/messages/${leaf ?? 0}`);
}

/** Of the open chat: what answers from now on are made with, and the like. */
export async function changeChat(page: Page, fields: UiChatChange): Promise<void> {
  const path = `/ui-api/chats/${chatOf(page)}`;
  const { revision } = await request<UiChat>(page, 'GET', path);
  await request(page, 'PATCH', path, { revision, ...fields });
}

/**
 * How many tokens an answer of this chat may have, set as people set it. A small model may not find an end by itself: without this an
 * answer takes, now and then, as long as the model's whole context does.
 */
export async function limitAnswers(page: Page, tokens: number): Promise<void> {
  await page.getByRole('button', { name: 'Options', exact: true }).click();
  await page.getByLabel('Tokens at most').fill(String(tokens));
  await page.keyboard.press('Tab');
  await page.getByRole('button', { name: 'Options', exact: true }).click();
}

/** For answers that have to be under way for a while: the default model cannot choose one of its ends, so that they end where they must. */
export const withoutEnd = (tokens: number) => ({ max_tokens: tokens, logit_bias: { '0': -100, '2': -100 } });

/** Ends the answer under way, if there still is one, however that happens. */
export async function endAnswer(page: Page): Promise<void> {
  const { messages } = await request<{ messages: UiMessage[] }>(page, 'GET', `/ui-api/chats/${chatOf(page)}/messages?limit=1000`);
  for (const { state, generation } of messages) {
    if (state === 'running' && generation !== null) await request(page, 'POST', `/ui-api/generations/${generation}/stop`);
  }
  await page.locator('article[data-role=assistant]').last().waitFor();
  await page.waitForFunction(() => !document.querySelector('article[data-state=running]'));
}

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Rules of axe-core that the page breaks, with the places. */
export async function violations(page: Page, { iframes = true } = {}): Promise<string[]> {
  await page.evaluate(axe);
  return page.evaluate(async (options) => {
    interface Result {
      violations: { id: string; nodes: { html: string; failureSummary: string }[] }[];
    }
    const { axe: run } = globalThis as unknown as { axe: { run: (options: object) => Promise<Result> } };
    const found = await run.run(options);
    return found.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join(' | ')}`);
  }, { iframes });
}
