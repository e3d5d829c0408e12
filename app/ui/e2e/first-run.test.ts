// A machine without a model: one click gets one, from a server of our own in place of the hub's, and it answers.
import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { askIn, endAnswer, lastMessage, modelFile, request, sendFile, serving, stage, violations } from './support';

// What the catalogue says of the model that fits the memory given below.
const NAME = 'smollm2:135m';
const REPOSITORY = 'bartowski/SmolLM2-135M-Instruct-GGUF';
const FILE = 'SmolLM2-135M-Instruct-Q4_K_M.gguf';
const COMMIT = 'c0ffee'.padEnd(40, '0');

describe('the first click', () => {
  const asked: string[] = [];
  const sha256 = () => createHash('sha256').update(readFileSync(modelFile())).digest('hex');
  const hub = serving((ask, answer) => {
    const { pathname } = new URL(ask.url ?? '/', 'http://hub');
    asked.push(pathname);
    const json = (value: unknown) => answer.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    if (pathname === `/api/models/${REPOSITORY}/revision/main`) {
      json({ sha: COMMIT });
    } else if (pathname === `/api/models/${REPOSITORY}/tree/${COMMIT}`) {
      json([{ type: 'file', path: FILE, oid: COMMIT, size: 130, lfs: { oid: sha256(), size: statSync(modelFile()).size } }]);
    } else if (pathname === `/${REPOSITORY}/resolve/${COMMIT}/${FILE}`) {
      sendFile(ask, answer, modelFile());
    } else {
      answer.writeHead(404).end();
    }
  });
  const { watched } = stage({ bare: true, options: ['--memory', '600M'], before: (daemon) => (daemon.variables.HF_ENDPOINT = hub.url) });

  it('is the only one that it takes to be answered', async () => {
    const { page } = watched;
    await page.getByRole('heading', { name: 'Welcome to MLXR' }).waitFor();
    const offers = page.getByRole('button', { name: /^Get .*\(/ });
    await offers.first().waitFor();
    expect(await offers.allInnerTexts()).toEqual([`Get ${NAME} (100 MiB)`]);
    expect(await violations(page)).toEqual([]);
    await offers.click();
    await page.getByText('What would you like to know?').waitFor();
    expect(asked.filter((path) => path.endsWith(FILE))).not.toEqual([]);
    expect(await page.getByRole('combobox', { name: 'Model', exact: true }).inputValue()).toBe(NAME);

    await askIn(page, 'Name a colour, please.');
    await page.locator('article[data-role=assistant] .prose', { hasText: /\w/ }).waitFor();
    await endAnswer(page); // a small model may not find one by itself
    const answer = await lastMessage(page);
    expect(answer).toMatchObject({ role: 'assistant', model: NAME });
    expect(answer.content).toMatch(/\w/);
  });

  it('has put a model there that has its digest and says where it is from', async () => {
    const { models } = await request<{ models: { name: string; digest: string; origin: string }[] }>(watched.page, 'GET', '/ui-api/models');
    expect(models).toMatchObject([{ name: NAME, digest: `sha256:${sha256()}`, origin: `hf:${REPOSITORY}:Q4_K_M@${COMMIT}` }]);
    expect(watched.problems).toEqual([]);
  });
});
