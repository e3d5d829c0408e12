// What is around the pages: the state of the daemon in a corner, a part that fails, the installed page, small screens.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { UiChat } from '@/api/schema';
import { atRest, images, MODEL, openPage, request, stage, violations } from './support';

const PAGES = ['chat', 'models', 'logs', 'settings', 'dashboard', 'playground', 'tray'];

describe('the frame of the page', () => {
  const { daemon, watched, browser } = stage();

  it('the state of the daemon is a key away, on every page', async () => {
    const { page } = watched;
    await request(page, 'POST', '/ui-api/models/load', { model: MODEL });
    await page.keyboard.press('Alt+s');
    const tray = page.getByRole('region', { name: 'State of the daemon' });
    await tray.getByText('Ready').waitFor();
    await tray.getByText(MODEL).waitFor();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-tray.png'), clip: { x: 560, y: 0, width: 720, height: 400 } });
    await tray.getByRole('button', { name: `Unload ${MODEL}` }).click();
    await tray.getByText(MODEL).waitFor({ state: 'detached' });
    await page.keyboard.press('Escape');
    await tray.waitFor({ state: 'detached' });
    expect(await page.evaluate(() => document.activeElement?.getAttribute('aria-label'))).toBe('State of the daemon');
  });

  it('stands alone at /tray for a menu bar, and restarts the daemon', async () => {
    const context = await browser().newContext({ viewport: { width: 320, height: 420 }, locale: 'en-GB' });
    const page = await context.newPage();
    await page.goto(`${daemon.url}/tray`);
    const tray = page.getByRole('region', { name: 'State of the daemon' });
    await tray.getByText('Ready').waitFor();
    expect(await page.locator('header').count()).toBe(0);
    expect(await violations(page)).toEqual([]);
    const { uptime_s: before } = await request<{ uptime_s: number }>(page, 'GET', '/ui-api/status');
    // Seconds are counted: the one after it is to be told from this one.
    await page.waitForFunction(async (was) => ((await (await fetch('/ui-api/status')).json()) as { uptime_s: number }).uptime_s > was, before);
    await tray.getByRole('button', { name: 'Restart the daemon' }).click();
    await tray.getByRole('button', { name: 'Restart the daemon' }).click();
    await page.waitForFunction(async (was) => {
      const answer = await fetch('/ui-api/status').catch(() => undefined);
      return answer?.ok === true && ((await answer.json()) as { uptime_s: number }).uptime_s <= was;
    }, before);
    await context.close();
  });

  it('a part that fails says so, and the rest goes on', async () => {
    const { page } = await openPage(browser(), `${daemon.url}/chat`);
    await page.route('**/assets/SettingsPage*', (route) => route.fulfill({ contentType: 'text/javascript', body: 'export default () => { throw new Error("on purpose"); }' }));
    await page.getByRole('link', { name: 'Settings' }).click();
    const alert = page.getByRole('alert');
    await alert.getByText('Something of this page failed').waitFor();
    await alert.getByText(/on purpose/).first().waitFor();
    expect(await violations(page)).toEqual([]);
    await page.getByRole('link', { name: 'Models' }).click();
    await page.getByRole('row', { name: new RegExp(MODEL) }).waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
    await page.route('**/assets/LogViewer*', (route) => route.abort());
    await page.getByRole('link', { name: 'Logs' }).click();
    await page.getByText('The program was replaced by another version').waitFor();
    // Nor takes what stands over the pages anything else with it.
    await page.getByRole('link', { name: 'Models' }).click();
    await page.route(/\/assets\/(TrayPopover|CommandPalette)/, (route) => route.abort());
    await page.keyboard.press('Alt+s');
    await page.getByRole('banner').getByText('The program was replaced by another version').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('button', { name: /^Commands/ }).click();
    const palette = page.getByRole('dialog', { name: 'Commands' });
    await palette.getByText('The program was replaced by another version').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await palette.waitFor({ state: 'detached' });
    await page.getByRole('row', { name: new RegExp(MODEL) }).waitFor();
    await page.context().close();
  });

  it('can be installed, opens without the daemon, and keeps nothing that the daemon answers', async () => {
    const context = await browser().newContext({ viewport: { width: 1280, height: 800 }, locale: 'en-GB' });
    const page = await context.newPage();
    const problems: string[] = [];
    page.on('pageerror', (error) => problems.push(error.message));
    await page.goto(daemon.url);
    await page.evaluate(async () => (await navigator.serviceWorker.ready).active?.state);
    await page.reload();
    await page.getByText('What would you like to know?').waitFor();
    for (const one of ['Models', 'Settings']) await page.getByRole('link', { name: one }).click();
    await page.getByRole('region', { name: 'Performance' }).getByLabel('Threads').waitFor();
    const kept = await page.evaluate(async () => {
      const cache = await caches.open((await caches.keys())[0] ?? '');
      return (await cache.keys()).map((one) => new URL(one.url).pathname);
    });
    expect(kept).toContain('/');
    expect(kept.filter((path) => !/^\/($|assets\/|favicon\.svg$|manifest\.webmanifest$)/.test(path))).toEqual([]);
    // What the browser needs to offer it.
    const manifest = await page.evaluate(async () => (await fetch('/manifest.webmanifest')).json() as Promise<{ icons: { src: string; sizes: string }[]; start_url: string; display: string }>);
    expect(manifest).toMatchObject({ start_url: '/chat', display: 'standalone' });
    for (const { src, sizes } of manifest.icons.filter((icon) => icon.sizes !== 'any')) {
      const size = await page.evaluate(async (where) => {
        const picture = await createImageBitmap(await (await fetch(where)).blob());
        return `${picture.width}x${picture.height}`;
      }, src);
      expect(size).toBe(sizes);
    }
    await daemon.stop();
    await page.goto(`${daemon.url}/models`);
    await page.getByText('The daemon does not answer.').waitFor();
    expect(await page.getByRole('row').count()).toBe(0);
    await daemon.start();
    await page.getByRole('row', { name: new RegExp(MODEL) }).waitFor();
    expect(problems).toEqual([]);
    await context.close();
  });

  it('fits a telephone: nothing is wider than the screen, on any page', async () => {
    const context = await browser().newContext({ viewport: { width: 360, height: 740 }, locale: 'en-GB', hasTouch: true, isMobile: true, serviceWorkers: 'block' });
    const page = await context.newPage();
    for (const one of PAGES) {
      await page.goto(`${daemon.url}/${one}`);
      await page.locator('main').waitFor();
      await atRest(page);
      const [wide, screen] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      expect([one, wide]).toEqual([one, screen]);
      await page.screenshot({ path: join(images, `phone-${one}.png`) });
    }
    // The tabs, and what can be done with a model, are in sight without being looked for beyond an edge.
    await page.goto(`${daemon.url}/models`);
    await page.getByRole('row', { name: new RegExp(MODEL) }).waitFor();
    const beyond = () => [...document.querySelectorAll('header a, header button, main button')].filter((one) => one.getBoundingClientRect().right > innerWidth).map((one) => one.textContent); // prettier-ignore
    expect(await page.evaluate(beyond)).toEqual([]);
    await page.goto(`${daemon.url}/chat`);
    await page.getByRole('button', { name: 'Chats' }).click();
    await page.getByRole('searchbox', { name: 'Search all chats' }).waitFor();
    await context.close();
  });

  it('has two rows above a chat on a telephone, and the rest behind a button', async () => {
    const context = await browser().newContext({ viewport: { width: 390, height: 844 }, locale: 'en-GB', hasTouch: true, isMobile: true, serviceWorkers: 'block' });
    const page = await context.newPage();
    const title = 'A long title that tells a good deal about what was asked';
    const { id } = await request<UiChat>(watched.page, 'POST', '/ui-api/chats', { model: MODEL, title });
    await page.goto(`${daemon.url}/chat/${id}`);
    await page.getByRole('heading', { name: title }).waitFor();
    await atRest(page);
    await page.screenshot({ path: join(images, 'phone-head.png') });
    const head = page.getByRole('region', { name: 'Chat' }).locator('> div').first();
    expect((await head.boundingBox())?.height).toBeLessThan(90);
    expect((await page.getByRole('heading', { name: title }).boundingBox())?.width).toBeGreaterThan(200);
    expect(await page.getByRole('button', { name: 'Options' }).isVisible()).toBe(false);
    await page.getByRole('button', { name: 'More about this chat' }).click();
    await page.screenshot({ path: join(images, 'phone-head-more.png') });
    const names = ['Compare', 'Options', 'Export Markdown', 'Export JSON'];
    const boxes = await Promise.all(names.map((name) => page.getByRole('button', { name }).boundingBox()));
    expect(boxes).not.toContain(null);
    expect(new Set(boxes.map((box) => box?.y)).size).toBe(1); // in one row
    expect((await head.boundingBox())?.height).toBeLessThan(130);
    // What is opened there is closed with it.
    await page.getByRole('button', { name: 'Options' }).click();
    await page.getByRole('textbox', { name: 'System prompt' }).waitFor();
    await page.getByRole('button', { name: 'More about this chat' }).click();
    await page.getByRole('textbox', { name: 'System prompt' }).waitFor({ state: 'detached' });
    expect((await head.boundingBox())?.height).toBeLessThan(90);
    await context.close();
  });

  it('shows on a telephone what the log says, in the whole width', async () => {
    const context = await browser().newContext({ viewport: { width: 360, height: 740 }, locale: 'en-GB', hasTouch: true, isMobile: true, serviceWorkers: 'block' });
    const page = await context.newPage();
    await page.goto(`${daemon.url}/logs`);
    const message = page.locator('[data-level] button > span:last-child').first();
    await message.waitFor();
    const box = await message.evaluate((one) => ({ wide: one.getBoundingClientRect().width, lines: one.getBoundingClientRect().height / parseFloat(getComputedStyle(one).lineHeight) }));
    expect(box.wide).toBeGreaterThan(280);
    expect(Math.round(box.lines)).toBe(1); // the rest of a long one is told when it is opened
    await page.screenshot({ path: join(images, 'phone-logs.png') });
    await context.close();
  });

  it('breaks no rule of accessibility, on any page, in both themes', async () => {
    const { page } = watched;
    for (const theme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme: theme });
      for (const one of PAGES) {
        await page.goto(`${daemon.url}/${one}`);
        await page.locator('main').waitFor();
        await atRest(page);
        expect([theme, one, await violations(page)]).toEqual([theme, one, []]);
      }
    }
  });

  it('is used with the keyboard alone: everything that can be clicked is reached, in sight, and the way goes round', async () => {
    const { page } = watched;
    for (const one of PAGES.slice(0, -1)) {
      await page.goto(`${daemon.url}/${one}`);
      await page.locator('main').waitFor();
      // Lists come after the page: what is there counts once it stays the same.
      let wanted = -1;
      for (let before = -2; wanted !== before; ) {
        before = wanted;
        await atRest(page);
        wanted = await page.evaluate(() => {
          const all = [...document.querySelectorAll<HTMLElement>('a[href], button, input, select, textarea, summary')].filter(
            (element) => element.checkVisibility() && !element.matches(':disabled, [tabindex="-1"], [type=file]') && !element.closest('[inert]'),
          );
          for (const element of all) element.dataset.wanted = '';
          return all.length;
        });
      }
      for (let at = 0; at < wanted + 40; at++) {
        await page.keyboard.press('Tab');
        const found = await page.evaluate(() => {
          const element = document.activeElement as HTMLElement | null;
          if (!element || element === document.body) return null;
          const box = element.getBoundingClientRect();
          element.dataset.walked = '';
          return { visible: box.width > 0 && box.height > 0 };
        });
        if (!found) continue;
        expect(found.visible).toBe(true);
      }
      // What came or went meanwhile, as new lines of the log do, is not asked for.
      const missed = await page.evaluate(() =>
        [...document.querySelectorAll<HTMLElement>('[data-wanted]:not([data-walked])')].filter((element) => element.checkVisibility()).map((element) => element.outerHTML.slice(0, 100)),
      );
      expect([one, missed]).toEqual([one, []]);
    }
  });
});
