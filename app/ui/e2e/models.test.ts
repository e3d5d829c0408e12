// A model is got from a server that stalls: progress, pause, resume from where it was, and a page that was closed meanwhile.
import { createReadStream, statSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { modelFile, stage, violations } from './support';

const FIRST_BYTES = 8 << 20;

describe('getting a model', () => {
  const { watched } = stage({ bare: true });
  const asked: (string | undefined)[] = [];
  let stalls = true;
  const held: ServerResponse[] = [];
  const files = createServer((ask: IncomingMessage, answer: ServerResponse) => {
    const size = statSync(modelFile()).size;
    const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(ask.headers.range ?? '') ?? [];
    const first = Number(from);
    const last = to === '' ? size - 1 : Math.min(Number(to), size - 1);
    asked.push(ask.headers.range);
    answer.writeHead(ask.headers.range ? 206 : 200, {
      'Content-Length': last - first + 1,
      ETag: '"one"',
      'Accept-Ranges': 'bytes',
      ...(ask.headers.range ? { 'Content-Range': `bytes ${first}-${last}/${size}` } : {}),
    });
    if (ask.method === 'HEAD') {
      answer.end();
    } else if (stalls) {
      // Some of it, then nothing: until the test has seen how far it is.
      createReadStream(modelFile(), { start: first, end: Math.min(last, first + FIRST_BYTES - 1) }).pipe(answer, { end: false });
      held.push(answer);
    } else {
      createReadStream(modelFile(), { start: first, end: last }).pipe(answer);
    }
  });
  let source = '';

  beforeAll(async () => {
    await new Promise<void>((done) => files.listen(0, '127.0.0.1', done));
    source = `http://127.0.0.1:${(files.address() as AddressInfo).port}/Little-Model.gguf`;
  });
  afterAll(() => {
    files.closeAllConnections();
    files.close();
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
