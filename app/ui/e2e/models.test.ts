// A model is got from a server that stalls: progress, pause, resume from where it was, and a page that was closed meanwhile.
import type { ServerResponse } from 'node:http';
import { beforeAll, describe, expect, it } from 'vitest';
import { modelFile, sendFile, serving, stage, violations } from './support';

const FIRST_BYTES = 8 << 20;

describe('getting a model', () => {
  const { daemon, watched } = stage({ bare: true });
  const asked: (string | undefined)[] = [];
  let stalls = true;
  const held: ServerResponse[] = [];
  const files = serving((ask, answer) => {
    asked.push(ask.headers.range);
    // Some of it, then nothing: until the test has seen how far it is.
    sendFile(ask, answer, modelFile(), stalls ? FIRST_BYTES : Infinity);
    if (stalls) held.push(answer);
  });
  let source = '';
  beforeAll(() => {
    source = `${files.url}/Little-Model.gguf`;
  });

  it('begins where there is none, with the catalogue', async () => {
    const { page } = watched;
    await page.getByText('Welcome. To begin, a model is needed.').waitFor();
    expect(await violations(page)).toEqual([]);
    await page.getByRole('button', { name: 'Get a model' }).click();
    await page.getByText('There is no model yet.').waitFor();
    await page.getByRole('button', { name: 'Get a model' }).click();
    const dialog = page.getByRole('dialog', { name: 'Get a model' });
    await dialog.getByRole('button', { name: /^Get .*SmolLM2/i }).first().waitFor();
    expect(await violations(page)).toEqual([]);
    await dialog.getByRole('textbox').fill(source);
    await dialog.getByRole('button', { name: 'Get', exact: true }).click();
  });

  it('tells how far it is, and so does a page that is opened later', async () => {
    const { page } = watched;
    const pull = page.getByRole('region', { name: source });
    await pull.getByText(/^[1-9][\d.]* MiB of [\d.]+ MiB$/).waitFor();
    await page.reload();
    await pull.getByText(/^[1-9][\d.]* MiB of [\d.]+ MiB$/).waitFor();
  });

  it('is paused by a daemon that was killed, and goes on from there', async () => {
    const { page } = watched;
    const pull = page.getByRole('region', { name: source });
    await daemon.stop('SIGKILL');
    await page.getByText('The daemon does not answer.').waitFor();
    await daemon.start();
    await pull.getByText('Paused: what has come is kept.').waitFor();
    await pull.getByRole('button', { name: 'Resume' }).click();
    await pull.getByText(/^[1-9][\d.]* MiB of [\d.]+ MiB$/).waitFor();
    expect(await page.getByRole('alert').count()).toBe(0);
  });

  it('pauses, keeps what has come, and goes on from there', async () => {
    const { page } = watched;
    const pull = page.getByRole('region', { name: source });
    await pull.getByRole('button', { name: 'Pause' }).click();
    await pull.getByText('Paused: what has come is kept.').waitFor();
    held.forEach((answer) => answer.destroy());
    stalls = false;
    const before = asked.length;
    await pull.getByRole('button', { name: 'Resume' }).click();
    await pull.getByText(/is there\.$/).waitFor();
    const starts = asked.slice(before).map((range) => Number(/^bytes=(\d+)/.exec(range ?? '')?.[1] ?? 0));
    expect(Math.max(...starts)).toBeGreaterThanOrEqual(FIRST_BYTES / 2);
    await page.getByRole('row', { name: /Little-Model/ }).getByText('On disk').waitFor();
  });

  it('removes it, and takes that back', async () => {
    const { page } = watched;
    const row = page.getByRole('row', { name: /Little-Model/ });
    await row.getByRole('button', { name: /^Delete/ }).click();
    await row.waitFor({ state: 'detached' });
    await page.getByRole('button', { name: 'Undo' }).click();
    await row.waitFor();
    expect(watched.problems).toEqual([]);
  });
});
