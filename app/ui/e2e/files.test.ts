// Models out of files of people's own, further names, how long they stay, what they take.
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { images, MODEL, modelFile, request, stage, violations } from './support';

describe('models of one’s own', () => {
  const { daemon, watched } = stage({
    path: '/models',
    before: ({ home }) => {
      mkdirSync(join(home, 'models', 'below'));
      copyFileSync(modelFile(), join(home, 'models', 'below', 'Second-Model.gguf'));
      writeFileSync(join(home, 'notes.gguf'), 'no model at all');
    },
  });
  const row = (name: string) => watched.page.getByRole('row', { name: new RegExp(`^${name} `) });

  it('a file that is no model is refused with the reason, one that is becomes one', async () => {
    const { page } = watched;
    await page.getByRole('button', { name: 'Import a file' }).click();
    const dialog = page.getByRole('dialog', { name: 'Import a model file' });
    await dialog.getByLabel('A file of this computer').setInputFiles(join(daemon.home, 'notes.gguf'));
    expect(await dialog.getByLabel('Name').inputValue()).toBe('notes');
    await dialog.getByRole('button', { name: 'Import', exact: true }).click();
    await dialog.getByRole('alert').waitFor();
    expect(await violations(page)).toEqual([]);
    await dialog.getByLabel('A file of this computer').setInputFiles(modelFile());
    await dialog.getByLabel('Name').fill('my-model');
    await page.screenshot({ path: join(images, 'ui-import.png') });
    await dialog.getByRole('button', { name: 'Import', exact: true }).click();
    await dialog.waitFor({ state: 'detached' });
    await row('my-model').getByText('On disk').waitFor();
  });

  it('a name that is taken is asked about, and then replaced', async () => {
    const { page } = watched;
    await page.getByRole('button', { name: 'Import a file' }).click();
    const dialog = page.getByRole('dialog', { name: 'Import a model file' });
    await dialog.getByLabel('A file of this computer').setInputFiles(modelFile());
    await dialog.getByLabel('Name').fill('my-model');
    await dialog.getByRole('button', { name: 'Import', exact: true }).click();
    await dialog.getByText('There is a model of the name my-model.').waitFor();
    expect(await violations(page)).toEqual([]);
    await dialog.getByRole('button', { name: 'Replace my-model' }).click();
    await dialog.waitFor({ state: 'detached' });
    expect(await row('my-model').count()).toBe(1);
  });

  it('a file of the daemon’s machine is used where it lies', async () => {
    const { page } = watched;
    await page.getByRole('button', { name: 'Import a file' }).click();
    const dialog = page.getByRole('dialog', { name: 'Import a model file' });
    await dialog.getByRole('button', { name: 'A file on the daemon’s machine' }).click();
    const picker = page.getByRole('dialog', { name: 'A file on the daemon’s machine' });
    await picker.getByRole('button', { name: 'models' }).click();
    await picker.getByRole('button', { name: 'below' }).click();
    await picker.getByRole('button', { name: /^Second-Model\.gguf/ }).click();
    await dialog.getByText('below/Second-Model.gguf').waitFor();
    await dialog.getByLabel('Name').fill('second');
    await dialog.getByRole('button', { name: 'Import', exact: true }).click();
    await row('second').waitFor();
    const { model } = await request<{ model: { path: string } }>(page, 'GET', '/ui-api/models/second');
    expect(model.path).toBe(join(daemon.home, 'models', 'below', 'Second-Model.gguf'));
  });

  it('a model gets further names, which go without it', async () => {
    const { page } = watched;
    await row(MODEL).getByRole('button', { name: MODEL, exact: true }).click();
    const names = page.getByRole('region', { name: 'Further names' });
    await names.getByRole('textbox', { name: 'New name' }).fill('tiny');
    await names.getByRole('textbox', { name: 'New name' }).press('Enter');
    await names.getByRole('button', { name: 'Delete the name tiny' }).waitFor();
    expect((await request<{ model: { path: string } }>(page, 'GET', '/ui-api/models/tiny')).model.path).toContain(MODEL);
    await names.getByRole('textbox', { name: 'New name' }).fill('no name at all');
    await names.getByRole('textbox', { name: 'New name' }).press('Enter');
    await page.getByText(/cannot be the name|no name|name/i).first().waitFor();
    await names.getByRole('button', { name: 'Delete the name tiny' }).click();
    await names.getByRole('button', { name: 'Delete the name tiny' }).waitFor({ state: 'detached' });
  });

  it('tells the template, the licence and the rest of the file, and keeps it in memory as long as is wanted', async () => {
    const { page } = watched;
    const drawer = page.getByRole('dialog', { name: MODEL });
    await drawer.getByText('Template', { exact: true }).click();
    await drawer.getByText(/im_start/).first().waitFor();
    await drawer.getByText('Metadata', { exact: true }).click();
    await drawer.getByText('Licence', { exact: true }).waitFor();
    const keep = drawer.getByRole('region', { name: 'In memory' });
    await keep.getByText('On disk').waitFor();
    await keep.getByLabel('Keep it in memory for…').selectOption('Until it is unloaded');
    await keep.getByText('stays until it is unloaded').waitFor();
    await keep.getByLabel('Keep it in memory for…').selectOption('30 min 0 s');
    await keep.getByText(/stays (30|29) min/).waitFor();
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-model.png') });
    await page.keyboard.press('Escape');
  });

  it('tells what they take, files with several names once', async () => {
    const { page } = watched;
    const stats = page.getByRole('region', { name: 'What the models take' });
    await stats.getByText(/[\d.]+ MiB of weights, context \d+/).waitFor();
    expect(await stats.innerText()).toMatch(/Models\s+3/);
    expect(await violations(page)).toEqual([]);
    await page.screenshot({ path: join(images, 'ui-models.png') });
    expect(watched.problems).toEqual([]);
  });
});
