// What a chat can be told beyond its questions: presets, JSON by a schema, a second model beside the first; and what it tells.
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { UiChat, UiMessage, UiPreset } from '@/api/schema';
import { askIn, chatOf, images, lastMessage, limitAnswers, MODEL, openPage, request, stage, violations } from './support';

const OTHER = 'Tiny-Other';

describe('a chat', () => {
  const { daemon, watched, browser } = stage({ before: (made) => made.addModel(OTHER) });

  const ask = (text: string) => askIn(watched.page, text);
  const button = (name: string) => watched.page.getByRole('button', { name, exact: true });
  const settled = async (n: number) => {
    await watched.page.waitForFunction(
      (want) => document.querySelectorAll('article[data-role=assistant]').length === want && !document.querySelector('article[data-state=running]'),
      n,
    );
  };
  const inBothThemes = async () => {
    for (const theme of ['dark', 'light']) {
      await watched.page.getByRole('combobox', { name: 'Theme' }).selectOption(theme);
      expect(await violations(watched.page)).toEqual([]);
    }
  };

  it('keeps a system prompt and parameters as a preset, and new chats may begin with it', async () => {
    const { page } = watched;
    await button('Options').click();
    await page.getByRole('textbox', { name: 'System prompt' }).fill('You answer in one short sentence.');
    await page.getByLabel('Temperature').fill('0');
    await page.getByLabel('Tokens at most').fill('24');
    await page.keyboard.press('Tab');
    await button('Save as a preset').click();
    await page.getByRole('textbox', { name: 'Name of the preset' }).fill('Short');
    await page.keyboard.press('Enter');
    const preset = page.getByRole('combobox', { name: 'Preset' });
    await preset.locator('option', { hasText: 'Short' }).waitFor({ state: 'attached' });
    await page.getByRole('checkbox', { name: 'For new chats' }).check();
    await inBothThemes();
    const { presets } = await request<{ presets: UiPreset[] }>(page, 'GET', '/ui-api/presets');
    expect(presets).toMatchObject([{ name: 'Short', system: 'You answer in one short sentence.', parameters: { temperature: 0, max_tokens: 24 } }]);
    // In another tab: this one still has what was written here for the next chat.
    const { page: other } = await openPage(browser(), `${daemon.url}/chat`);
    await askIn(other, 'What is rain?');
    await other.waitForURL(/\/chat\/\d+$/);
    await page.goto(other.url());
    await other.context().close();
    await settled(1);
    const chat = await request<UiChat>(page, 'GET', `/ui-api/chats/${chatOf(page)}`);
    expect(chat).toMatchObject({ system: 'You answer in one short sentence.', parameters: { temperature: 0, max_tokens: 24 } });
  });

  it('tells what an answer was made with, and what it took', async () => {
    const { page } = watched;
    const figures = page.locator('article[data-role=assistant] details', { hasText: 'tokens/s' });
    expect(await figures.locator('summary').innerText()).toMatch(/^first token [\d.]+ m?s · [\d.]+ tokens\/s · \d+ tokens · prompt \d+, \d+ from the cache/);
    await figures.locator('summary').click();
    const all = await figures.innerText();
    expect(all).toContain(MODEL);
    expect(all).toMatch(/temperature\s+0\s/);
    expect(all).toMatch(/max_tokens\s+24/);
    expect(all).toMatch(/Why the cache had no more\s+\S/);
    await page.getByRole('meter', { name: /^\d+ of \d+ tokens of context$/ }).waitFor();
    await inBothThemes();
  });

  it('changes a preset, and takes one away and back', async () => {
    const { page } = watched;
    await button('Options').click();
    await page.getByLabel('Tokens at most').fill('40');
    await page.keyboard.press('Tab');
    const most = (n: number) =>
      page.waitForFunction(
        async ([id, want]) => {
          const chat = (await (await fetch(`/ui-api/chats/${id}`)).json()) as { parameters: { max_tokens: number } };
          return chat.parameters.max_tokens === want;
        },
        [chatOf(page), n] as const,
      );
    await most(40);
    const preset = page.getByRole('combobox', { name: 'Preset' });
    await preset.selectOption('Short');
    await most(24);
    await page.waitForFunction(() => [...document.querySelectorAll('input')].some(({ value }) => value === '24'));
    await page.getByLabel('Tokens at most').fill('32');
    await page.keyboard.press('Tab');
    await button('Change Short to this').click();
    await page.waitForFunction(async () => {
      const { presets } = (await (await fetch('/ui-api/presets')).json()) as { presets: { parameters: { max_tokens: number } }[] };
      return presets[0]?.parameters.max_tokens === 32;
    });
    await button('Delete the preset Short').click();
    await preset.locator('option', { hasText: 'Short' }).waitFor({ state: 'detached' });
    await button('Undo').click();
    await preset.locator('option', { hasText: 'Short' }).waitFor({ state: 'attached' });
    // New chats begin with it again, too.
    await expect.poll(() => page.getByRole('checkbox', { name: 'For new chats' }).isChecked()).toBe(true);
    await button('Options').click();
  });

  it('answers in JSON of a schema', async () => {
    const { page } = watched;
    await button('New chat').click();
    await button('Options').click();
    await page.getByRole('combobox', { name: 'Answers are' }).selectOption('JSON of a schema');
    const schema = page.getByRole('textbox', { name: 'JSON Schema' });
    await schema.fill('{"type": "object"');
    await page.keyboard.press('Tab');
    await page.getByText('This is no JSON object').waitFor();
    const wanted = { type: 'object', properties: { colour: { enum: ['red', 'green'] }, n: { type: 'integer', minimum: 1, maximum: 9 } }, required: ['colour', 'n'], additionalProperties: false };
    await schema.fill(JSON.stringify(wanted));
    await page.keyboard.press('Tab');
    await page.getByText('This is no JSON object').waitFor({ state: 'detached' });
    await inBothThemes();
    await button('Options').click();
    await limitAnswers(page, 200);
    await ask('Tell me a colour and a number.');
    await settled(1);
    const { content, parameters } = await lastMessage(page);
    const made = JSON.parse(content) as { colour: string; n: number };
    expect(Object.keys(made).sort()).toEqual(['colour', 'n']);
    expect(['red', 'green']).toContain(made.colour);
    expect(made.n).toBeGreaterThanOrEqual(1);
    expect(parameters?.response_format).toMatchObject({ type: 'json_schema', json_schema: { schema: wanted } });
    // As code, with its lines.
    expect(await page.locator('article[data-role=assistant] pre code').innerText()).toBe(JSON.stringify(made, null, 2));
    // Below what stands above it.
    const code = page.locator('article[data-role=assistant] .code-block');
    const [head, text] = await Promise.all([code.locator('.code-head').boundingBox(), code.locator('pre').boundingBox()]);
    expect((head?.y ?? NaN) + (head?.height ?? NaN)).toBeLessThanOrEqual((text?.y ?? NaN) + 0.5);
  });

  it('lets two models answer side by side, and goes on with the better', async () => {
    const { page } = watched;
    await button('New chat').click();
    await button('Compare').click();
    await page.getByRole('combobox', { name: 'Model to compare with' }).selectOption(OTHER);
    await limitAnswers(page, 48);
    await ask('What is snow?');
    const second = page.getByRole('region', { name: 'Second model' });
    // Until the second model has begun, its pane shows the first one's answer, too.
    await second.locator('article[data-role=assistant]', { hasText: OTHER }).waitFor();
    await settled(2);
    const left = page.getByRole('log', { name: 'Messages', exact: true });
    expect(await left.locator('article[data-role=assistant]').innerText()).toContain(MODEL);
    expect(await second.locator('article[data-role=assistant]').innerText()).toContain(OTHER);
    await inBothThemes();
    // The second question has another past in each of the panes.
    await ask('And hail?');
    await settled(4);
    await page.screenshot({ path: join(images, 'ui-compare.png') });
    const { messages } = await request<{ messages: UiMessage[] }>(page, 'GET', `/ui-api/chats/${chatOf(page)}/messages`);
    const byId = new Map(messages.map((message) => [message.id, message]));
    const models = (id: number | null | undefined): (string | null)[] => {
      const message = byId.get(id ?? 0);
      return message ? [...models(message.parent), ...(message.role === 'assistant' ? [message.model] : [])] : [];
    };
    const ends = messages.filter(({ id }) => !messages.some(({ parent }) => parent === id)).map(({ id }) => models(id));
    expect(ends.sort()).toEqual([[OTHER, OTHER], [MODEL, MODEL]].sort());
    expect((await lastMessage(page)).model).toBe(MODEL);
    await second.getByRole('button', { name: 'Regenerate' }).last().click();
    await second.getByText('2/2').waitFor();
    await settled(4);
    expect((await lastMessage(page)).model).toBe(MODEL); // the chat still shows the left one
    await button('Go on with this one').click();
    await second.waitFor({ state: 'detached' });
    await settled(2);
    // The page shows it at once; the daemon is told meanwhile.
    await expect.poll(async () => (await lastMessage(page)).model).toBe(OTHER);
  });

  it('takes no image that nobody would look at, and says so', async () => {
    const { page } = watched;
    await page.locator('form input[type=file]').setInputFiles({ name: 'cat.png', mimeType: 'image/png', buffer: Buffer.from([0x89, 0x50]) });
    await page.getByText('cat.png: no model here can see images yet').waitFor();
    expect(await page.getByRole('button', { name: 'Take cat.png away' }).count()).toBe(0);
  });

  it('copies over plain http from another machine, too, where browsers give no clipboard', async () => {
    const { page } = watched;
    await page.context().grantPermissions(['clipboard-read'], { origin: daemon.url });
    const { id } = await request<UiChat>(page, 'POST', '/ui-api/chats', { title: 'Rain', model: MODEL });
    const put = (fields: object) => request<UiMessage>(page, 'POST', `/ui-api/chats/${id}/messages`, fields);
    const question = await put({ role: 'user', content: 'What is rain?' });
    const written = 'Rain is **water** that falls out of clouds, drop by drop.';
    await put({ role: 'assistant', parent: question.id, content: written });
    await page.goto(`${daemon.url}/chat/${id}`);
    await settled(1);
    await page.evaluate(() => Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true }));
    await page.locator('article[data-role=assistant]').last().getByRole('button', { name: 'Copy', exact: true }).last().click();
    await button('Copied').waitFor();
    const text = await page.evaluate(async () => {
      Reflect.deleteProperty(navigator, 'clipboard');
      return navigator.clipboard.readText();
    });
    expect(text).toBe(written);
    expect(watched.problems).toEqual([]);
  });
});
