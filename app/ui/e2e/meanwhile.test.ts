// What happens while the page waits for something else: none of it is lost, and nothing of it comes in the wrong order.
import { describe, expect, it } from 'vitest';
import type { Locator, Page } from 'playwright-core';
import type { UiChat, UiMessage } from '@/api/schema';
import { askIn, lastMessage, MODEL, openPage, request, stage } from './support';

const OTHER = 'Tiny-Other';

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
  const { daemon, watched, browser } = stage({ before: (made) => made.addModel(OTHER) });

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

  it('a question is refused, an edit scrolled away, the page loaded anew: every text is found again', async () => {
    const { page } = await openPage(browser(), `${daemon.url}/chat`);
    const chat = await newChat();
    await newChat({ title: 'Seas' });
    let parent = (await put(chat, { role: 'user', content: 'The first message.' })).id;
    for (let n = 0; n < 40; n++) parent = (await put(chat, { role: 'user', parent, content: `Message ${n}.\n\n${'More of it.\n'.repeat(8)}` })).id;
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    const list = page.getByRole('log', { name: 'Messages' });
    const scrollTo = (at: 'top' | 'end') => list.evaluate((element, end) => (element.scrollTop = end ? element.scrollHeight : 0), at === 'end');
    await page.getByText('Message 39.').waitFor();
    const first = page.getByRole('article').filter({ hasText: 'The first message.' });
    // Rows that are measured just then take the list to its end again.
    const atTop = (wanted: Locator) =>
      expect
        .poll(async () => {
          await scrollTo('top');
          return wanted.isVisible();
        })
        .toBe(true);
    await atTop(first);
    await first.getByRole('button', { name: 'Edit' }).click();
    const editor = page.getByRole('textbox', { name: 'Edit' });
    await editor.fill('Half of a thought');
    await scrollTo('end');
    await editor.waitFor({ state: 'detached' });

    const box = page.getByRole('textbox', { name: 'Ask something' });
    let refuse: () => void = () => undefined;
    const gate = new Promise<void>((open) => (refuse = open));
    await page.route(/\/generations$/, async (route) => {
      await gate;
      await route.fulfill({ status: 503, json: { error: { message: 'no room left', code: null } } });
    });
    await askIn(page, 'Why?');
    await page.getByRole('button', { name: 'Seas', exact: true }).click();
    await page.getByRole('heading', { name: 'Seas' }).waitFor();
    await expect.poll(() => box.inputValue()).toBe('');
    await box.fill('Since when?');
    refuse();
    await page.getByText('no room left').waitFor();
    await page.reload();
    await expect.poll(() => box.inputValue()).toBe('Since when?');
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    await page.getByRole('alert').filter({ hasText: 'no room left' }).waitFor();
    expect(await box.inputValue()).toBe('Why?');
    await page.getByText('Message 39.').waitFor();
    await atTop(editor);
    await expect.poll(() => editor.inputValue()).toBe('Half of a thought');
    await page.context().close();
  });

  it('a question is asked while what it is to be asked with is on its way', async () => {
    const { page } = watched;
    const chat = await newChat();
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    const changes = await holding(page, /\/ui-api\/chats\/\d+$/, 'PATCH');
    await page.getByRole('button', { name: 'Options', exact: true }).click();
    await page.getByLabel('Temperature').fill('0');
    await page.getByLabel('Tokens at most').fill('7');
    await page.keyboard.press('Tab');
    await page.getByRole('combobox', { name: 'Model', exact: true }).selectOption(OTHER);
    expect(await page.getByRole('combobox', { name: 'Model', exact: true }).inputValue()).toBe(OTHER);
    await page.getByRole('textbox', { name: 'Ask something' }).fill('Which is the longest?');
    await page.keyboard.press('Enter');
    await changes.asked;
    // As long as the page would take to ask without them.
    await page.evaluate(() => fetch('/ui-api/status').then(() => new Promise(requestAnimationFrame)));
    changes.letGo();
    await page.locator('article[data-role=assistant]:not([data-state=running])').waitFor();
    expect(await lastMessage(page)).toMatchObject({ model: OTHER, parameters: { temperature: 0, max_tokens: 7 } });
    expect(await request<UiChat>(page, 'GET', `/ui-api/chats/${chat.id}`)).toMatchObject({ model: OTHER, parameters: { temperature: 0, max_tokens: 7 } });
    await page.unrouteAll();
  });

  it('a branch is chosen, then another, and a question is asked in it', async () => {
    const { page } = watched;
    const chat = await newChat({ parameters: { max_tokens: 4 } });
    const question = await put(chat, { role: 'user', content: 'Which?' });
    for (const content of ['The Amazon.', 'The Nile.', 'The Yangtze.']) await put(chat, { role: 'assistant', parent: question.id, content });
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    await page.getByText('The Yangtze.').waitFor();
    const changes = await holding(page, /\/ui-api\/chats\/\d+$/, 'PATCH');
    await page.getByRole('button', { name: 'Previous version' }).click();
    await page.getByText('The Nile.').waitFor();
    await page.getByRole('button', { name: 'Previous version' }).click();
    await page.getByText('The Amazon.').waitFor();
    await page.getByRole('textbox', { name: 'Ask something' }).fill('And how long is it?');
    await page.keyboard.press('Enter');
    await changes.asked;
    await page.evaluate(() => fetch('/ui-api/status').then(() => new Promise(requestAnimationFrame)));
    changes.letGo();
    await page.locator('article[data-role=assistant]:not([data-state=running])').nth(1).waitFor();
    expect(await page.locator('article').allInnerTexts()).toEqual(['Which?', 'The Amazon.', 'And how long is it?', ''].map((text) => expect.stringContaining(text) as string));
    await page.unrouteAll();
  });
});
