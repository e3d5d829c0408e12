// A daemon that wants a key: the page asks for it, and keeps it where no other page and no later visitor finds it.
import { describe, expect, it } from 'vitest';
import { askIn, stage, violations } from './support';

describe('a daemon with keys', () => {
  let key = '';
  const { watched } = stage({
    before: (made) => {
      key = /mlxr-[\w-]+/.exec(made.mlxr('key', 'create', 'page'))?.[0] ?? '';
      expect(key.length).toBeGreaterThan(30);
    },
  });

  it('asks for one, and says when it is not it', async () => {
    const { page } = watched;
    const dialog = page.getByRole('dialog', { name: 'API key' });
    await dialog.waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.keyboard.press('Escape');
    await dialog.waitFor();
    await dialog.getByLabel('API key').fill('mlxr-wrong');
    await dialog.getByRole('button', { name: 'Use' }).click();
    await dialog.getByText('This key was refused.').waitFor();
  });

  it('opens everything with the right one, which is in no address and no storage', async () => {
    const { page } = watched;
    const requests: string[] = [];
    page.on('request', (request) => requests.push(request.url()));
    const dialog = page.getByRole('dialog', { name: 'API key' });
    await dialog.getByLabel('API key').fill(key);
    await dialog.getByRole('button', { name: 'Use' }).click();
    await dialog.waitFor({ state: 'detached' });
    await askIn(page, 'Say yes.');
    await page.locator('article[data-role=assistant] .prose', { hasText: /\S/ }).waitFor();
    const kept = await page.evaluate(async () => ({
      storage: [localStorage, sessionStorage].map((storage) => JSON.stringify(storage)),
      cookies: document.cookie,
      databases: await indexedDB.databases(),
      caches: await caches.keys(),
      html: document.documentElement.outerHTML,
    }));
    expect(JSON.stringify([kept, requests, page.url()])).not.toContain(key);
    expect(kept.cookies).toBe('');
    expect(kept.databases).toEqual([]);
  });

  it('asks anew behind a reload', async () => {
    await watched.page.reload();
    await watched.page.getByRole('dialog', { name: 'API key' }).waitFor();
    expect(watched.problems).toEqual([]);
  });
});
