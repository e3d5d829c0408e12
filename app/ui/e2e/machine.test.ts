// What the machine does, as it does it, and models without a chat around them.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Page } from 'playwright-core';
import { images, MODEL, request, stage, violations } from './support';

interface Drawn {
  /** Columns of pixels from the first to the last that a line went through, and how many of them it did not go through. */
  columns: number;
  gaps: number;
  width: number;
}

/** Where the lines of a chart are: in the colours of their legend, read from the picture itself. */
async function drawnIn(page: Page, label: string): Promise<Drawn> {
  return page.getByRole('img', { name: label, exact: true }).evaluate((place) => {
    const canvas = place.querySelector('canvas');
    const context = canvas?.getContext('2d');
    if (!canvas || !context) throw new Error('nothing is drawn');
    const colours = [...(place.closest('figure')?.querySelectorAll('figcaption [aria-hidden]') ?? [])].map((square) => {
      const one = document.createElement('canvas').getContext('2d');
      if (!one) throw new Error('no context');
      one.fillStyle = getComputedStyle(square).backgroundColor;
      one.fillRect(0, 0, 1, 1);
      return one.getImageData(0, 0, 1, 1).data;
    });
    const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
    const near = (at: number) =>
      (data[at + 3] ?? 0) > 100 && colours.some((colour) => [0, 1, 2].every((part) => Math.abs((data[at + part] ?? 0) - (colour[part] ?? 0)) < 24));
    const hit = Array.from({ length: width }, (_, x) => Array.from({ length: height }, (__, y) => near(4 * (y * width + x))).some(Boolean));
    const columns = hit.slice(hit.indexOf(true), hit.lastIndexOf(true) + 1);
    return { columns: columns.length, gaps: columns.filter((one) => !one).length, width };
  });
}

describe('the machine', () => {
  const { daemon, watched } = stage();

  const complete = (prompt: string, tokens: number) =>
    request(watched.page, 'POST', '/v1/completions', { model: MODEL, prompt, max_tokens: tokens, temperature: 0 });
  /** Answers one after the other for as long as `meanwhile` takes. */
  const busy = async (prompt: string, meanwhile: () => Promise<unknown>) => {
    let wanted = true;
    const run = async () => {
      do await complete(prompt, 100);
      while (wanted);
    };
    const running = run();
    await meanwhile().finally(() => (wanted = false));
    await running;
  };
  const oneRuns = () =>
    watched.page.waitForFunction(() => [...document.querySelectorAll('dt')].some((dt) => dt.textContent === 'Answers running' && dt.nextElementSibling?.textContent === '1'));
  const figure = (name: string) => watched.page.locator('dl > div', { has: watched.page.getByText(name, { exact: true }) }).locator('dd').first();
  const inBothThemes = async (look: () => Promise<void>) => {
    for (const theme of ['dark', 'light']) {
      await watched.page.getByRole('combobox', { name: 'Theme' }).selectOption(theme);
      await look();
    }
  };

  it('tells what it does, with the keyboard alone', async () => {
    const { page } = watched;
    await page.keyboard.press('Alt+5');
    await page.waitForURL('**/dashboard');
    const story = 'Once upon a time there was a lighthouse at the end of the world, and nobody who lived in the village below it had ever seen its light. ';
    await busy(story.repeat(3), oneRuns);
    await complete(story.repeat(3), 20);
    const latency = page.getByRole('region', { name: 'Latency' });
    await latency.getByText('p95').waitFor();
    await page.getByRole('row', { name: /Never seen before [1-9]/ }).waitFor();
    expect(await figure('KV cache').innerText()).toMatch(/[1-9].*of .*[1-9]/s);
    await page.waitForFunction(() => /^[1-9]\d? %$|^100 %$|^\d\.\d %$/.test([...document.querySelectorAll('dt')].find((dt) => dt.textContent === 'Prompt tokens found')?.nextElementSibling?.textContent ?? ''));
    // From the link in the bar by Tab alone to the model's choice, and on to another histogram.
    await page.getByRole('link', { name: 'Metrics' }).focus();
    const focused = () => page.evaluate(() => document.activeElement?.getAttribute('aria-label') ?? '');
    for (let n = 0; n < 20 && (await focused()) !== 'Model'; n++) await page.keyboard.press('Tab');
    expect(await focused()).toBe('Model');
    await page.keyboard.type(MODEL.slice(0, 6));
    expect(await page.getByRole('combobox', { name: 'Model' }).inputValue()).toBe(MODEL);
    for (let n = 0; n < 5 && (await focused()) !== 'Time of what'; n++) await page.keyboard.press('Tab');
    await page.keyboard.press('ArrowDown');
    await latency.getByRole('img', { name: 'Between tokens' }).waitFor();
    await page.getByRole('combobox', { name: 'Model' }).selectOption('');
  });

  it('tells where the time of its steps goes', async () => {
    const { page } = watched;
    const card = page.getByRole('region', { name: 'Kernel time' });
    await busy('The sea is', async () => {
      await oneRuns();
      await card.getByRole('button', { name: 'Record' }).click();
      await card.getByText('Recording…').waitFor();
      await card.getByRole('combobox', { name: 'Phase' }).waitFor();
    });
    await card.getByRole('combobox', { name: 'Phase' }).selectOption('Decoding');
    await card.getByText(/^[1-9]\d* steps, [1-9]\d* tokens/).waitFor();
    // What a model cannot do without, whatever else it does.
    expect(await card.getByRole('rowheader').allInnerTexts()).toEqual(expect.arrayContaining([expect.stringMatching(/attend/)]));
    await card.getByRole('img', { name: 'Time by layer' }).waitFor();
    await inBothThemes(async () => expect(await violations(page)).toEqual([]));
  });

  it('has no gap in its charts behind a daemon that was started anew', async () => {
    const { page } = watched;
    await page.keyboard.press('Alt+5');
    await page.waitForURL('**/dashboard');
    // What there is to be seen of the one before.
    await complete('The sea is', 60);
    for (let n = 0; n < 3; n++) await page.waitForResponse('**/metrics');
    expect((await drawnIn(page, 'Throughput')).columns).toBeGreaterThan(0);
    await daemon.stop('SIGKILL');
    await page.getByText('The daemon does not answer.').waitFor();
    // Readings that are missed, each where a line would break.
    for (let n = 0; n < 2; n++) await page.waitForEvent('requestfailed', (one) => new URL(one.url()).pathname === '/metrics');
    await daemon.start();
    await page.getByText('The daemon does not answer.').waitFor({ state: 'detached' });
    const before = Number((await page.request.get(`${daemon.url}/metrics`).then((answer) => answer.text())).match(/^mlxr_generation_tokens_total\S* (\S+)/m)?.[1] ?? 0);
    expect(before).toBe(0); // it counts from the beginning again
    await complete('The harbour is', 60);
    for (let n = 0; n < 3; n++) await page.waitForResponse('**/metrics');
    for (const chart of ['Throughput', 'KV cache in memory']) {
      const drawn = await drawnIn(page, chart);
      expect(drawn.gaps, chart).toBe(0);
      expect(drawn.columns, chart).toBeGreaterThan(drawn.width * 0.7);
    }
    await page.screenshot({ path: join(images, 'ui-metrics.png') });
    expect(watched.problems).toEqual([]);
  });

  it('goes on with a text, and tells how likely each token was', async () => {
    const { page } = watched;
    await page.keyboard.press('Alt+6');
    await page.waitForURL('**/playground');
    const panel = page.getByRole('tabpanel', { name: 'Completion' });
    await panel.getByRole('textbox', { name: 'A text that goes on' }).fill('The capital of France is');
    await panel.getByLabel('Tokens at most').fill('12');
    await page.getByRole('button', { name: 'Complete' }).click();
    await panel.getByText(/^12 tokens, perplexity [1-9]/).waitFor();
    const tokens = panel.getByRole('group', { name: 'Tokens' }).getByRole('button');
    expect(await tokens.count()).toBe(12);
    expect(await tokens.first().getAttribute('aria-label')).toMatch(/ [\d.]+ %$/);
    await tokens.first().focus();
    await page.keyboard.press('ArrowRight');
    const table = panel.getByRole('table', { name: /^In place of/ });
    expect(await table.getByRole('row').count()).toBeGreaterThanOrEqual(6);
    // Greedy: what came was the likeliest, and the rest is not likelier.
    const shares = (await table.locator('tbody td:last-child').allInnerTexts()).map(Number);
    expect(shares).toEqual([...shares].sort((a, b) => b - a));
    expect(await table.locator('tbody tr').first().getAttribute('class')).toContain('font-semibold');
    await inBothThemes(async () => expect(await violations(page)).toEqual([]));
    await page.screenshot({ path: join(images, 'ui-playground.png') });
  });

  it('compares texts, the near ones nearer than the far ones', async () => {
    const { page } = watched;
    await page.getByRole('tab', { name: 'Completion' }).focus();
    await page.keyboard.press('ArrowRight');
    const panel = page.getByRole('tabpanel', { name: 'Embeddings' });
    await panel.getByRole('textbox').fill('A cat sleeps on the sofa.\nA cat is sleeping on the couch.\nint main(void) { return 0; }');
    await panel.getByRole('button', { name: 'Compare' }).click();
    await panel.getByRole('table', { name: 'Cosine similarity' }).waitFor();
    const values = (await panel.getByRole('cell').allInnerTexts()).filter(Boolean).map(Number);
    expect(values).toHaveLength(9);
    const [own = 0, near = 0, far = 0] = values;
    expect(own).toBeCloseTo(1, 3);
    expect(near).toBeGreaterThan(far);
    await inBothThemes(async () => expect(await violations(page)).toEqual([]));
  });

  it('says that it cannot see yet', async () => {
    const { page } = watched;
    await page.getByRole('tab', { name: 'Vision' }).click();
    await page.getByText('No model here can see images yet.').waitFor();
    expect(await page.getByRole('tabpanel').locator('input').count()).toBe(0);
    await inBothThemes(async () => expect(await violations(page)).toEqual([]));
    expect(watched.problems).toEqual([]);
  });
});
