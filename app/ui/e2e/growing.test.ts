// What a frame of a growing answer takes of Chromium's main thread, script, layout and paint, where all of it is one block of Markdown.
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { build, type Rolldown } from 'vite';
import type { Browser, CDPSession, Page } from 'playwright-core';
import { common } from '../vite.config.ts';
import { openBrowser } from './support';

const CHARACTERS = 200_000;
const FRAMES = 20;
const STEP = 40;
/** Of a frame, in the median of three turns: 9 to 18 on a machine with nothing else to do, some 400 and more where the block is read whole (docs/ui.md). */
const MS = 50;

const line = (at: number) => `The ${at}th *line* of \`them\`, with a [place](https://example.org/${at}) and some more words. `;
const lines = (before: string, behind: string) => Array.from({ length: 3000 }, (_, at) => `${before}${line(at)}${behind}`).join('');
const GROWING = {
  'a paragraph': lines('', ''),
  'a table': `| a | b | c |\n|---|:-:|--:|\n${lines('| 1 | ', '| **end** |\n')}`,
  'a quotation': lines('> ', '\n>\n'),
  'an item': `- First\n\n${lines('  ', '\n\n')}`,
};

describe('a growing answer of 200,000 characters', () => {
  let browser: Browser;
  let page: Page;
  let metrics: CDPSession;

  beforeAll(async () => {
    const entry = fileURLToPath(new URL('growing/page.tsx', import.meta.url));
    vi.stubEnv('NODE_ENV', 'production'); // as the page is shipped
    const made = (await build({
      ...common,
      mode: 'production',
      configFile: false,
      logLevel: 'error',
      publicDir: false,
      define: { 'process.env.NODE_ENV': '"production"' },
      build: { write: false, target: 'es2022', lib: { entry, formats: ['iife'], name: 'growing' } },
    })) as Rolldown.RolldownOutput[];
    vi.unstubAllEnvs();
    browser = await openBrowser();
    page = await browser.newPage();
    for (const file of made[0]?.output ?? []) {
      if (file.type === 'chunk') await page.addScriptTag({ content: file.code });
      else if (file.fileName.endsWith('.css')) await page.addStyleTag({ content: String(file.source) });
    }
    metrics = await page.context().newCDPSession(page);
    await metrics.send('Performance.enable');
  });
  afterAll(() => browser.close());

  const spent = async (): Promise<number> => {
    const { metrics: all } = await metrics.send('Performance.getMetrics');
    return (all.find(({ name }) => name === 'TaskDuration')?.value ?? Infinity) * 1000;
  };

  it.each(Object.entries(GROWING))('that is %s costs a frame no more than it adds', async (name, whole) => {
    const turns: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      const text = whole.slice(0, CHARACTERS + FRAMES * STEP);
      const grow = (from: number, to: number) =>
        page.evaluate(
          ([part, at, step]) => (globalThis as unknown as { grow: (...all: unknown[]) => Promise<void> }).grow(part, at, step),
          [text.slice(0, to), from, STEP] as const,
        );
      await grow(CHARACTERS, CHARACTERS); // all that is there
      const before = await spent();
      await grow(CHARACTERS + STEP, text.length);
      turns.push(((await spent()) - before) / FRAMES);
    }
    const median = turns.sort((a, b) => a - b)[1] ?? Infinity;
    console.log(`${name}: ${turns.map((ms) => ms.toFixed(1)).join(', ')} ms a frame`);
    expect(median).toBeLessThan(MS);
  }, 600_000);
});
