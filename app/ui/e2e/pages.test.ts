// The pages about the daemon: settings that another browser has, too, and the log as it comes.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { endAnswer, images, MODEL, openPage, request, stage, violations } from './support';

describe('pages about the daemon', () => {
  const { daemon, watched, browser } = stage({ options: ['--drain', '1'] });

  it('settings are kept by the daemon, and another browser has them', async () => {
    const { page } = watched;
    await page.keyboard.press('Alt+4');
    await page.waitForURL('**/settings');
    const general = page.getByRole('region', { name: 'General' });
    await general.getByLabel('Theme').selectOption('Dark');
    await general.getByLabel('Key that sends').selectOption('Ctrl+Enter');
    await general.getByLabel('Text size').fill('18');
    await general.getByLabel('Show the figures of answers').uncheck();
    expect(await page.evaluate(() => [document.documentElement.dataset.theme, getComputedStyle(document.documentElement).fontSize])).toEqual(['dark', '18px']);
    await page.waitForFunction(async () => {
      const { values } = (await (await fetch('/ui-api/settings')).json()) as { values: Record<string, unknown> };
      return values.theme === 'dark' && values.send_key === 'ctrl_enter' && values.text_size === 18 && values.show_stats === false;
    });
    const other = await openPage(browser(), `${daemon.url}/settings`);
    await other.page.waitForFunction(() => document.documentElement.dataset.theme === 'dark');
    expect(await other.page.getByLabel('Key that sends').inputValue()).toBe('ctrl_enter');
    // And what one changes is seen by the other without being asked for.
    await other.page.getByRole('region', { name: 'General' }).getByLabel('Theme').selectOption('Light');
    await page.waitForFunction(() => document.documentElement.dataset.theme === 'light');
    expect(other.problems).toEqual([]);
  });

  it('settings change what they say', async () => {
    const { page } = watched;
    await page.getByRole('link', { name: 'Chat' }).click();
    const box = page.getByRole('textbox', { name: 'Ask something' });
    await box.fill('one');
    await box.press('Enter');
    expect(await box.inputValue()).toBe('one\n');
    await page.locator('button[type=submit]:enabled', { hasText: 'Send' }).waitFor();
    await box.press('Control+Enter');
    await page.locator('article[data-role=assistant]').waitFor();
    await endAnswer(page);
    expect(await page.locator('article[data-role=assistant]').innerText()).not.toContain('tokens/s');
  });

  it('the list of chats is put away, and stays so, and deletions are asked about', async () => {
    const { page } = watched;
    const kept = (name: string, value: boolean) =>
      page.waitForFunction(
        async ([one, wanted]) => ((await (await fetch('/ui-api/settings')).json()) as { values: Record<string, unknown> }).values[one] === wanted,
        [name, value] as const,
      );
    await request(page, 'POST', '/ui-api/chats', { title: 'Lakes' });
    await page.goto(`${daemon.url}/settings`);
    await page.getByRole('region', { name: 'General' }).getByLabel('Ask before something is deleted').check();
    await kept('confirm_delete', true);
    await page.getByRole('link', { name: 'Chat' }).click();
    const list = page.getByRole('button', { name: 'List of chats' });
    const search = page.getByRole('searchbox', { name: 'Search all chats' });
    await search.waitFor();
    await list.click();
    await search.waitFor({ state: 'hidden' });
    expect(await violations(page)).toEqual([]);
    await kept('sidebar', false);
    await page.reload();
    await list.waitFor();
    await page.getByRole('textbox', { name: 'Ask something' }).waitFor();
    expect(await search.isVisible()).toBe(false);
    await list.press('Enter');
    await search.waitFor();
    const row = page.getByRole('complementary', { name: 'Chats' });
    await row.getByRole('button', { name: 'More about Lakes' }).click();
    await row.getByRole('button', { name: 'Delete', exact: true }).click();
    const question = page.getByRole('dialog', { name: 'Delete “Lakes”?' });
    await question.waitFor();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Enter'); // keeps it
    await question.waitFor({ state: 'detached' });
    await row.getByRole('button', { name: 'Delete', exact: true }).click();
    await question.getByRole('button', { name: 'Delete' }).click();
    await page.getByText(/was deleted\.$/).waitFor();
    await row.getByRole('button', { name: 'More about Lakes' }).waitFor({ state: 'detached' });
  });

  it('the daemon tells how it is, and what is private', async () => {
    const { page } = watched;
    await page.goto(`${daemon.url}/settings`);
    const control = page.getByRole('region', { name: 'Daemon' });
    await control.getByText('Ready').waitFor();
    expect(await control.innerText()).toMatch(/KV cache\s+[\d.]+ .* \/ [\d.]+ GiB/);
    await page.getByRole('region', { name: 'Privacy' }).getByText('Prompts and answers are never written to the log.').waitFor();
    for (const scheme of ['dark', 'light'] as const) {
      await page.getByRole('region', { name: 'General' }).getByLabel('Theme').selectOption({ value: scheme });
      expect(await violations(page)).toEqual([]);
    }

  });

  it('the log comes as it is written, filtered and opened', async () => {
    const { page } = watched;
    await page.keyboard.press('Alt+3');
    await page.waitForURL('**/logs');
    const log = page.getByRole('log', { name: 'Logs' });
    await page.getByRole('searchbox', { name: 'Filter lines' }).fill('LISTENING on');
    await log.getByText('listening on').waitFor();
    await request(page, 'POST', '/ui-api/models/load', { model: MODEL });
    await request(page, 'POST', '/ui-api/models/unload', { model: MODEL });
    await page.getByRole('searchbox', { name: 'Filter lines' }).fill('/ui-api/models/unload');
    const entry = log.getByRole('button', { name: /answered/ });
    await entry.first().waitFor();
    await entry.first().click();
    await log.getByText('/ui-api/models/unload').first().waitFor();
    await page.getByLabel('Level').selectOption('error');
    await log.getByText('No line fits.').waitFor();
    await page.getByRole('searchbox', { name: 'Filter lines' }).fill('');
    await page.getByLabel('Level').selectOption('debug');
    await page.getByLabel('Part').selectOption('engine');
    await log.getByText(/backend cpu/).waitFor();
    // The rest goes a moment later.
    await expect.poll(() => log.locator('[data-level]').count()).toBeLessThan(5);
    await page.getByLabel('Part').selectOption('All parts');
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-logs.png') });
  });

  it('the daemon ends when it is told to, and the page says so', async () => {
    const { page } = watched;
    await page.getByRole('link', { name: 'Settings' }).click();
    const control = page.getByRole('region', { name: 'Daemon' });
    await control.getByRole('button', { name: 'End the daemon' }).click();
    await control.getByText('Running answers are finished first.').waitFor();
    await control.getByRole('button', { name: 'End the daemon' }).click();
    await page.getByText('The daemon does not answer.').waitFor();
    expect(watched.problems).toEqual([]);
  });
});
