// The gallery of components (gallery/): all of them are there, each state draws without a complaint, breaks no rule of accessibility in
// either theme, fits a telephone, and asks no daemon.
import { join } from 'node:path';
import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { build, preview, type PreviewServer } from 'vite';
import components from '../scripts/components.json';
import { images, openBrowser, problemsOf, violations } from './support';

const configFile = 'vite.gallery.config.ts';
const AT_ONCE = 2;
/** In the long form every state; else what each component is shown as first, and what goes wrong with it. */
const ALL = Boolean(process.env.MLXR_SOAK);
const PHONE = { width: 360, height: 740 };
const WIDE = { width: 900, height: 700 };

interface Opened {
  page: Page;
  problems: string[];
  /** What was asked for that is no file of the gallery. */
  strangers: string[];
}

describe('the gallery of components', () => {
  let browser: Browser;
  let served: PreviewServer;
  let url = '';
  const places: { part: string; state: string; first: boolean }[] = [];

  beforeAll(async () => {
    await build({ configFile, logLevel: 'error' });
    served = await preview({ configFile, logLevel: 'warn', preview: { host: '127.0.0.1', port: 0 } });
    url = served.resolvedUrls?.local[0] ?? '';
    browser = await openBrowser();
  });
  afterAll(async () => {
    await browser.close();
    await served.close();
  });

  const open = async (): Promise<Opened> => {
    const context = await browser.newContext({ viewport: WIDE, locale: 'en-GB', colorScheme: 'light' });
    const page = await context.newPage();
    page.setDefaultTimeout(60_000);
    const strangers: string[] = [];
    page.on('request', (request) => {
      if (!/^(data|blob):|\/(gallery|assets)\/|\/favicon\.svg$/.test(request.url())) strangers.push(request.url());
    });
    return { page, problems: problemsOf(page), strangers };
  };

  it('shows every component of the page, each in its states', async () => {
    const { page, problems } = await open();
    await page.goto(`${url}gallery/index.html`);
    for (const section of await page.locator('main section').all()) {
      const part = await section.getByRole('heading').innerText();
      const states = await section.getByRole('combobox').locator('option').allInnerTexts();
      places.push(...states.map((state, at) => ({ part, state, first: at === 0 })));
    }
    expect([...new Set(places.map(({ part }) => part))].sort()).toEqual(Object.values(components).flat().sort());
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      expect([colorScheme, await violations(page, { iframes: false })]).toEqual([colorScheme, []]);
    }
    // The frames are as high as what they show.
    const frame = page.locator('iframe').first();
    await frame.contentFrame().locator('[data-ready=true]').waitFor();
    await expect.poll(async () => (await frame.boundingBox())?.height).toBeGreaterThan(200);
    await page.screenshot({ path: join(images, 'ui-gallery.png') });
    await page.getByRole('navigation').getByRole('link', { name: /^ModelActions/ }).click();
    await expect.poll(() => page.locator('iframe').count()).toBe(places.filter(({ part }) => part === 'ModelActions').length);
    for (const one of await page.locator('iframe').all()) await one.contentFrame().locator('[data-ready=true]').waitFor();
    expect(problems).toEqual([]);
    await page.context().close();
  });

  it('draws each state as it is meant, in both themes, as wide as a window and as a telephone', async () => {
    const queue = places.filter(({ state, first }) => ALL || first || state === 'error');
    const wrong: unknown[] = [];
    const walk = async () => {
      const { page, problems, strangers } = await open();
      for (let place = queue.shift(); place; place = queue.shift()) {
        const { part, state } = place;
        const tell = (what: string, found: unknown) => wrong.push({ part, state, what, found });
        const picture = async (look: string) => {
          if (process.env.MLXR_GALLERY_IMAGES) await page.screenshot({ path: join(images, 'gallery', `${part} ${state.replace(/\W+/g, '-')} ${look}.png`) });
        };
        await page.setViewportSize(WIDE);
        await page.goto(`${url}gallery/state.html?${new URLSearchParams({ part, state }).toString()}`);
        const root = page.locator('#root[data-ready]');
        await root.waitFor();
        if ((await root.getAttribute('data-ready')) !== 'true') tell('it did not come to be', problems.at(-1));
        if ((await page.locator('#root > div *').count()) === 0) tell('nothing is drawn', '');
        for (const colorScheme of ['light', 'dark'] as const) {
          await page.emulateMedia({ colorScheme });
          const broken = await violations(page);
          if (broken.length) tell(`accessibility, ${colorScheme}`, broken);
        }
        await picture('dark');
        await page.setViewportSize(PHONE);
        await page.emulateMedia({ colorScheme: 'light' });
        const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth] as const);
        if (wide > screen) tell('wider than a telephone', wide);
        await picture('phone');
        if (problems.length) tell('complaints', problems.splice(0));
        if (strangers.length) tell('requests', strangers.splice(0));
      }
      await page.context().close();
    };
    await Promise.all(Array.from({ length: AT_ONCE }, walk));
    expect(wrong).toEqual([]);
  }, ALL ? 3_600_000 : 240_000);
});
