// The way of somebody who opens the page for the first time.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { askIn, changeChat, images, lastMessage, limitAnswers, MODEL, stage, violations, withoutEnd } from './support';

describe('a first-time user', () => {
  const { daemon, watched } = stage();

  const answers = () => watched.page.locator('article[data-role=assistant]');
  const question = (text: string) => watched.page.locator('article[data-role=user]', { hasText: text });
  /** Of what is shown all is answered. */
  const ended = async () => {
    await watched.page.waitForFunction(() => [...document.querySelectorAll<HTMLElement>('article')].at(-1)?.dataset.role === 'assistant');
    await watched.page.waitForFunction(() => !document.querySelector('article[data-state=running]'));
  };
  const ask = async (text: string) => {
    await askIn(watched.page, text);
    await question(text).waitFor();
  };

  it('sees the page without a complaint of the browser', async () => {
    await watched.page.getByText('What would you like to know?').waitFor();
    expect(await watched.page.title()).toBe('MLXR');
    expect(watched.problems).toEqual([]);
  });

  it('loads a model and sees that it is in memory', async () => {
    const { page } = watched;
    await page.getByRole('link', { name: 'Models' }).click();
    const row = page.getByRole('row', { name: new RegExp(MODEL) });
    await row.getByRole('button', { name: 'Load', exact: true }).click();
    await row.getByText('In memory').waitFor();
    await row.getByRole('button', { name: MODEL, exact: true }).click();
    await page.getByRole('dialog', { name: MODEL }).getByText('Fits now').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');
    expect(await violations(page)).toEqual([]);
    await row.getByRole('button', { name: 'Chat', exact: true }).click();
    expect(new URL(page.url()).pathname).toBe('/chat');
  });

  it('asks and reads the answer as it comes', async () => {
    await limitAnswers(watched.page, 160);
    await ask('Name three colours, please.');
    await answers().first().waitFor();
    await ended();
    expect((await answers().first().innerText()).length).toBeGreaterThan(20);
    expect(await answers().first().innerText()).toMatch(/tokens\/s/);
  });

  it('stops an answer and goes on with it, from where it was', async () => {
    const { page } = watched;
    await changeChat(page, { parameters: withoutEnd(1200) }); // not over before it is stopped
    await ask('Write a long story about a ship and a storm.');
    const running = page.locator('article[data-state=running]');
    await running.locator('.prose', { hasText: /\S/ }).waitFor();
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    const stopped = page.locator('article[data-state=stopped]').last();
    await stopped.waitFor();
    const before = await lastMessage(page);
    expect(before).toMatchObject({ role: 'assistant', state: 'stopped' });
    expect(before.content).not.toBe('');
    await stopped.getByRole('button', { name: 'Continue' }).click();
    await running.waitFor();
    await page.locator('article[data-state=complete]').last().waitFor();
    await page.waitForFunction(() => !document.querySelector('article[data-state=running]'), undefined, { timeout: 200_000 });
    const after = await lastMessage(page);
    expect(after).toMatchObject({ id: before.id, state: 'complete' });
    expect(after.content.startsWith(before.content)).toBe(true);
    expect(after.content.length).toBeGreaterThan(before.content.length);
  });

  it('loses nothing when the page is opened anew in mid-answer', async () => {
    const { page } = watched;
    await changeChat(page, { parameters: withoutEnd(4000) }); // nor before the page is back
    await ask('Write a long story about a lighthouse.');
    await page.locator('article[data-state=running] .prose').waitFor();
    await page.reload();
    const running = page.locator('article[data-state=running]');
    await running.locator('.prose').waitFor();
    await page.getByRole('button', { name: 'Stop', exact: true }).click();
    await page.locator('article[data-state=stopped]').last().waitFor();
    await changeChat(page, { parameters: { max_tokens: 160 } });
  });

  it('edits a question, which makes a branch, and goes back to the other', async () => {
    const { page } = watched;
    const last = question('Write a long story about a lighthouse.');
    await last.getByRole('button', { name: 'Edit' }).click();
    await page.getByRole('textbox', { name: 'Edit' }).fill('Write one sentence about a harbour.');
    await page.getByRole('button', { name: 'Send again' }).click();
    await question('harbour').waitFor();
    await ended();
    await question('harbour').getByText('2/2').waitFor();
    await question('harbour').getByRole('button', { name: 'Previous version' }).click();
    await question('lighthouse').getByText('1/2').waitFor();
    await question('lighthouse').getByRole('button', { name: 'Next version' }).click();
    await question('harbour').waitFor();
  });

  it('has another answer made, beside the first', async () => {
    const { page } = watched;
    await answers().last().getByRole('button', { name: 'Regenerate' }).click();
    await page.locator('article[data-role=assistant]', { hasText: '2/2' }).last().waitFor();
    await ended();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-chat.png') });
  });

  it('finds what was said, and moves the chat to a folder', async () => {
    const { page } = watched;
    await page.getByRole('searchbox', { name: 'Search all chats' }).fill('harbour');
    await page.locator('aside mark', { hasText: /harbour/i }).first().waitFor();
    await page.getByRole('searchbox', { name: 'Search all chats' }).fill('');
    await page.getByRole('button', { name: 'New folder' }).click();
    await page.getByRole('textbox', { name: 'Name of the folder' }).fill('Work');
    await page.keyboard.press('Enter');
    await page.getByRole('button', { name: /^More about/ }).first().click();
    await page.getByRole('combobox', { name: 'Move to a folder' }).selectOption('Work');
    await page.getByRole('combobox', { name: 'Folder', exact: true }).locator('option', { hasText: 'Work (1)' }).waitFor({ state: 'attached' });
  });

  it('exports the chat, and imports it again', async () => {
    const { page } = watched;
    const download = page.waitForEvent('download');
    await page.getByRole('button', { name: 'Export JSON' }).click();
    const path = await (await download).path();
    const exported = JSON.parse(readFileSync(path, 'utf8')) as { format: string; messages: unknown[] };
    expect(exported.format).toBe('mlxr-chat');
    expect(exported.messages.length).toBeGreaterThan(8);
    const before = page.url();
    await page.getByLabel('Import', { exact: true }).setInputFiles({ name: 'chat.json', mimeType: 'application/json', buffer: readFileSync(path) });
    await page.waitForURL((url) => url.href !== before);
    await question('harbour').waitFor();
  });

  it('deletes a chat and takes that back', async () => {
    const { page } = watched;
    const rows = page.locator('aside').getByRole('button', { name: /^More about/ });
    await page.waitForFunction(() => document.querySelectorAll('aside [aria-label^="More about"]').length === 2);
    await rows.first().click();
    await page.locator('aside').getByRole('button', { name: 'Delete', exact: true }).first().click();
    await page.waitForFunction(() => document.querySelectorAll('aside [aria-label^="More about"]').length === 1);
    await page.getByRole('button', { name: 'Undo' }).click();
    await page.waitForFunction(() => document.querySelectorAll('aside [aria-label^="More about"]').length === 2);
  });

  it('goes everywhere by the palette, in every language and theme', async () => {
    const { page } = watched;
    const run = async (text: string, name: string) => {
      await page.keyboard.press('Control+k');
      await page.locator('dialog').getByRole('combobox').fill(text);
      await page.locator('dialog').getByRole('option', { name }).first().click();
    };
    await run('go models', 'Go to: Models');
    await page.waitForURL('**/models');
    await run('theme dark', 'Theme: Dark');
    await page.keyboard.press('Control+k');
    await page.locator('dialog').getByRole('option').first().waitFor();
    await page.screenshot({ path: join(images, 'ui-palette.png') });
    await page.keyboard.press('Escape');
    expect(await violations(page)).toEqual([]);
    await run('deutsch', 'Language: Deutsch');
    await page.getByRole('heading', { name: 'Modelle' }).waitFor();
    await run('français', 'Sprache: Français');
    await page.getByRole('heading', { name: 'Modèles' }).waitFor();
    await run('english', 'Langue: English');
    await run('new chat', 'New chat');
    await page.getByText('What would you like to know?').waitFor();
  });

  it('is told when the daemon is gone, and finds its chats when it is back', async () => {
    const { page } = watched;
    await daemon.stop();
    await page.getByText('The daemon does not answer.').waitFor();
    await daemon.start();
    await page.getByText('The daemon does not answer.').waitFor({ state: 'detached' });
    await page.locator('aside').getByRole('button', { name: /^More about/ }).first().waitFor();
    expect(watched.problems).toEqual([]);
  });
});
