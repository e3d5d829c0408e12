// The daemon's own options from the page: changed, checked as text, taken over by a restart; folders; keys; what it is.
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { UiOptions } from '@/api/schema';
import { images, request, stage, violations } from './support';

describe('settings of the daemon', () => {
  const { daemon, watched } = stage({
    path: '/settings',
    before: ({ home }) => {
      mkdirSync(join(home, 'big disk', 'caches'), { recursive: true });
    },
  });
  const file = join(daemon.home, '.config', 'mlxr', 'serve.json');
  const saved = () => JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  const panel = (name: string) => watched.page.getByRole('region', { name, exact: true });
  const both = async () => {
    for (const theme of ['dark', 'light'] as const) {
      await watched.page.getByRole('region', { name: 'General' }).getByLabel('Theme').selectOption({ value: theme });
      expect(await violations(watched.page)).toEqual([]);
    }
  };

  it('what the command line says is shown, and cannot be changed', async () => {
    const performance = panel('Performance');
    await performance.getByText('The command line says this (--threads); it goes before the file.').waitFor();
    expect(await performance.getByLabel('Threads').inputValue()).toBe('2');
    expect(await performance.getByLabel('Threads').isDisabled()).toBe(true);
    expect(existsSync(file)).toBe(false);
  });

  it('options are kept in a file, some at once, some after a restart', async () => {
    const performance = panel('Performance');
    await performance.getByLabel('Type of the KV cache').selectOption('q8_0');
    await performance.getByText('After a restart; now: auto').waitFor();
    await performance.getByText('Some changes take effect when the daemon starts anew.').waitFor();
    await performance.getByLabel('Memory for the KV cache').fill('1,5 GiB');
    await performance.getByLabel('Memory for the KV cache').press('Enter');
    await performance.getByLabel('Speculation').selectOption('ngram');
    await performance.getByLabel('Time for running answers at the end').fill('7');
    await performance.getByLabel('Time for running answers at the end').press('Enter');
    await watched.page.waitForFunction(async () => {
      const { running } = (await (await fetch('/ui-api/options')).json()) as UiOptions;
      return running.draft === 'ngram' && running.drain_s === 7;
    });
    expect(saved()).toEqual({ kv_type: 'q8_0', kv_bytes: 1536 * 1024 * 1024, draft: 'ngram', drain_s: 7 });
    await expect.poll(() => performance.getByRole('textbox', { name: 'Memory for the KV cache', exact: true }).inputValue()).toBe('1536M');
  });

  it('what makes no sense is told beside it and changes nothing', async () => {
    const performance = panel('Performance');
    const room = performance.getByLabel('Disk cache');
    await room.fill('much');
    await room.press('Enter');
    await performance.getByText('A size such as 512M or 4G is needed.').waitFor();
    await room.fill('5');
    await room.press('Enter');
    await performance.getByText('values.kv_disk_bytes must be at least').or(performance.getByText('kv_disk_bytes must be at least')).first().waitFor();
    expect(saved()).not.toHaveProperty('kv_disk_bytes');
    await performance.getByRole('button', { name: 'Reset Speculation' }).click();
    await performance.getByRole('button', { name: 'Reset Speculation' }).waitFor({ state: 'detached' });
    expect(saved()).not.toHaveProperty('draft');
  });

  it('the file is edited as text, with the daemon’s own judgement of it', async () => {
    const editor = panel('File of options');
    const box = editor.getByRole('textbox', { name: 'File of options' });
    const save = editor.getByRole('button', { name: 'Save' });
    await box.fill('{\n  "kv_type": "q8_0",\n  "parallel": 0\n}\n');
    await editor.getByText('parallel must be at least 1').waitFor();
    expect(await save.isDisabled()).toBe(true);
    await editor.getByRole('button', { name: 'Line 3' }).click();
    expect(await box.evaluate((area: HTMLTextAreaElement) => area.value.slice(area.selectionStart, area.selectionEnd))).toBe('  "parallel": 0');
    await box.fill('{ "kv_type": ');
    await editor.getByText(/JSON/).waitFor();
    await box.fill('{ "kv_typo": "f16" }');
    await editor.getByText(/"kv_typo", which is not known/).waitFor();
    await box.fill('{\n  "kv_type": "q8_0",\n  "parallel": 12\n}\n');
    await editor.getByText('These values are taken.').waitFor();
    await save.click();
    await watched.page.waitForFunction(async () => ((await (await fetch('/ui-api/options')).json()) as UiOptions).saved.parallel === 12);
    expect(saved()).toEqual({ kv_type: 'q8_0', parallel: 12 });
  });

  it('a folder is chosen among those of the daemon’s machine', async () => {
    const { page } = watched;
    const paths = panel('Paths');
    await paths.getByText(/free$/).first().waitFor();
    await paths.getByRole('button', { name: 'Choose…' }).click();
    const dialog = page.getByRole('dialog', { name: 'Folder of the disk cache' });
    await dialog.getByRole('button', { name: 'big disk' }).click();
    await dialog.getByRole('button', { name: 'caches' }).waitFor();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-folders.png') });
    await dialog.getByRole('textbox', { name: 'Path' }).fill('/no/such/folder');
    await dialog.getByRole('textbox', { name: 'Path' }).press('Enter');
    await dialog.getByText('there is no folder /no/such/folder').waitFor();
    await dialog.getByRole('textbox', { name: 'Path' }).fill(join(daemon.home, 'big disk'));
    await dialog.getByRole('textbox', { name: 'Path' }).press('Enter');
    await dialog.getByRole('button', { name: 'caches' }).click();
    await dialog.getByText('There is no folder in it.').waitFor();
    await dialog.getByRole('button', { name: 'Take this folder' }).click();
    await paths.getByText('After a restart; now: —').waitFor();
    expect(saved().kv_dir).toBe(join(daemon.home, 'big disk', 'caches'));
    await paths.getByRole('button', { name: 'Reset Folder of the disk cache' }).click();
    await paths.getByText('After a restart; now: —').waitFor({ state: 'detached' });
  });

  it('a restart takes the file over, and the page goes on', async () => {
    const { page } = watched;
    const control = panel('Daemon');
    await control.getByRole('button', { name: 'Restart the daemon' }).click();
    await control.getByText('Running answers are finished first; models are loaded again').waitFor();
    await control.getByRole('button', { name: 'Restart the daemon' }).click();
    await page.waitForFunction(async () => {
      const options = await fetch('/ui-api/options').catch(() => undefined);
      return options?.ok && ((await options.json()) as UiOptions).running.kv_type === 'q8_0';
    });
    await panel('Performance').getByText('Some changes take effect').waitFor({ state: 'detached' });
    const told = await request<UiOptions>(page, 'GET', '/ui-api/options');
    expect([told.running.parallel, told.restart_needed, told.note]).toEqual([12, false, '']);
  });

  it('keys are changed, refused where they are taken, and work', async () => {
    const { page } = watched;
    const keys = panel('Keyboard shortcuts');
    await keys.getByRole('button', { name: /^Go to: Models: Alt\+2/ }).click();
    await page.keyboard.press('m');
    await keys.getByText('M: Ctrl, ⌘ or Alt must be part of it, or a function key.').waitFor();
    await page.keyboard.press('Alt+3');
    await keys.getByText('Alt+3 is taken: Go to: Logs').waitFor();
    await page.keyboard.press('Control+w');
    await keys.getByText('Ctrl+W belongs to the browser.').waitFor();
    await page.keyboard.press('Alt+m');
    await keys.getByRole('button', { name: /^Go to: Models: Alt\+M/ }).waitFor();
    await page.keyboard.press('Alt+2');
    expect(new URL(page.url()).pathname).toBe('/settings');
    await page.keyboard.press('Alt+m');
    await page.waitForURL('**/models');
    await page.keyboard.press('Alt+4');
    await page.waitForURL('**/settings');
    await keys.getByRole('button', { name: 'Reset Go to: Models' }).click();
    await keys.getByRole('button', { name: /^Go to: Models: Alt\+2/ }).waitFor();
    await keys.getByRole('button', { name: /^Next theme/ }).click();
    await page.keyboard.press('Delete');
    await keys.getByRole('button', { name: 'Next theme: none. Change' }).waitFor();
  });

  it('what can be known of updates is told, and nobody is asked', async () => {
    const { page } = watched;
    const asked: string[] = [];
    page.on('request', (ask) => asked.push(new URL(ask.url()).origin));
    await page.reload();
    const updates = panel('Updates');
    await updates.getByText('Whether there is a newer version is not known').waitFor();
    await updates.getByText(/Compiled with/).waitFor();
    expect(await updates.innerText()).toMatch(/Version\s+\d+\.\d+/);
    expect(new Set(asked)).toEqual(new Set([daemon.url]));
  });

  it('all of it is within reach of everybody', async () => {
    await both();
    await watched.page.screenshot({ path: join(images, 'ui-settings.png') });
    await panel('Performance').scrollIntoViewIfNeeded();
    await watched.page.goto(`${daemon.url}/settings#settings.performance`);
    await panel('Performance').getByLabel('Threads').waitFor();
    await watched.page.evaluate(() => document.getElementById('settings.performance')?.scrollIntoView());
    await watched.page.screenshot({ path: join(images, 'ui-performance.png') });
    expect(watched.problems).toEqual([]);
  });
});
