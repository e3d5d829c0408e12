// What happens while the page waits for something else: none of it is lost, and nothing of it comes in the wrong order.
import { describe, expect, it } from 'vitest';
import type { Page } from 'playwright-core';
import type { UiChat, UiMessage } from '@/api/schema';
import { MODEL, openPage, request, stage } from './support';

/** Requests of a page to these addresses wait until they are let go. */
async function holding(page: Page, url: RegExp, method = 'GET'): Promise<{ asked: Promise<void>; letGo: () => void }> {
  let letGo: () => void = () => undefined;
  let tell: () => void = () => undefined;
  const gate = new Promise<void>((open) => (letGo = open));
  const asked = new Promise<void>((done) => (tell = done));
  await page.route(url, async (route) => {
    if (route.request().method() !== method) return route.fallback();
    tell();
    await gate;
    await route.continue().catch(() => undefined); // who asked may have gone
  });
  return { asked, letGo };
}

describe('meanwhile', () => {
  const { daemon, watched, browser } = stage();

  const newChat = (fields: object = {}) => request<UiChat>(watched.page, 'POST', '/ui-api/chats', { model: MODEL, title: 'Rivers', ...fields });
  const put = (chat: UiChat, fields: object) => request<UiMessage>(watched.page, 'POST', `/ui-api/chats/${chat.id}/messages`, fields);

  it('a message comes after a page has read the chat, and before it hears of changes', async () => {
    const chat = await newChat();
    const question = await put(chat, { role: 'user', content: 'Which is the longest?' });
    const { page } = await openPage(browser(), daemon.url);
    const events = await holding(page, /\/ui-api\/events/);
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    await page.getByText('Which is the longest?').waitFor();
    await events.asked;
    await put(chat, { role: 'assistant', parent: question.id, content: 'The Nile.' });
    events.letGo();
    await page.getByText('The Nile.').waitFor();
    await page.context().close();
  });

  it('the daemon is away for longer than anything is asked for again, and comes back', async () => {
    const { page } = await openPage(browser(), `${daemon.url}/chat`);
    await page.getByRole('combobox', { name: 'Model', exact: true }).locator('option', { hasText: MODEL }).waitFor({ state: 'attached' });
    await page.route('**/ui-api/**', (route) => route.abort());
    await page.getByRole('link', { name: 'Models' }).click();
    await page.getByRole('button', { name: MODEL, exact: true }).click();
    await page.getByRole('dialog', { name: MODEL }).getByText('Failed to fetch').waitFor();
    await page.unroute('**/ui-api/**');
    await page.getByRole('dialog', { name: MODEL }).getByText('Fits now').waitFor();
    expect(await page.getByText('The daemon does not answer.').count()).toBe(0);
    await page.context().close();
  });
});
