// Answers that outlive the daemon and the page, calls of tools, and what a question had with it.
import { describe, expect, it } from 'vitest';
import type { UiChat, UiMessage } from '@/api/schema';
import { askIn, chatOf, endAnswer, lastMessage, MODEL, request, stage, violations, withoutEnd } from './support';

describe('answers', () => {
  const { daemon, watched } = stage();

  const newChat = async (fields: object): Promise<UiChat> => {
    const { page } = watched;
    const chat = await request<UiChat>(page, 'POST', '/ui-api/chats', { model: MODEL, ...fields });
    await page.goto(`${daemon.url}/chat/${chat.id}`);
    return chat;
  };
  const ask = (text: string) => askIn(watched.page, text);

  /** An answer under way whose daemon was killed and started anew; of it: what the chat has, and the longer of that and what had been seen. */
  const broken = async (characters: number) => {
    const { page } = watched;
    await newChat({ parameters: { temperature: 0, ...withoutEnd(4000) } });
    await ask('Write a long story about a lighthouse and a storm.');
    await runsBeyond(characters);
    await daemon.stop('SIGKILL');
    await page.getByText('The daemon does not answer.').waitFor();
    const seen = await text();
    await daemon.start();
    await page.locator('article[data-state=interrupted]').waitFor();
    const kept = await text(); // may be more than what was seen; or less, which is made again
    const [shorter, longer] = [seen, kept].sort((one, other) => one.length - other.length) as [string, string];
    expect(longer.slice(0, shorter.length)).toBe(shorter);
    return { kept, longer };
  };
  const runsBeyond = (characters: number) =>
    watched.page.waitForFunction(
      (n) => (document.querySelector<HTMLElement>('article[data-state=running] .prose')?.innerText.trim().length ?? 0) > n,
      characters,
    );
  const text = async () => (await watched.page.locator('article[data-role=assistant] .prose').innerText()).trim();
  const goOn = () => watched.page.locator('article[data-state=interrupted]').getByRole('button', { name: 'Continue' }).click();

  it('go on behind a killed daemon, with every token that was seen', async () => {
    const { page } = watched;
    const { longer } = await broken(40);
    await goOn();
    await runsBeyond(longer.length);
    await endAnswer(page);
    expect((await text()).slice(0, longer.length)).toBe(longer);
    expect((await lastMessage(page)).content.slice(0, 20)).toBe(longer.slice(0, 20));
  });

  it('are whole when they were stopped as soon as they went on', async () => {
    const { page } = watched;
    const { kept } = await broken(1500);
    const { content } = await lastMessage(page);
    // What comes before a new token is then, nearly all, that the model reads the answer again.
    await request(page, 'POST', '/ui-api/models/load', { model: MODEL });
    // Sooner than anybody could by hand.
    await page.evaluate(() => {
      const observer = new MutationObserver(() => {
        const stop = [...document.querySelectorAll('form button')].find((one) => one.textContent === 'Stop');
        if (!(stop instanceof HTMLButtonElement)) return;
        observer.disconnect();
        stop.click();
      });
      observer.observe(document.body, { subtree: true, childList: true });
    });
    await goOn();
    await page.locator('article[data-state=stopped]').waitFor();
    expect((await text()).slice(0, kept.length)).toBe(kept);
    expect((await lastMessage(page)).content.slice(0, content.length)).toBe(content);
    await page.reload();
    await page.locator('article[data-state=stopped]').waitFor();
    expect((await text()).slice(0, kept.length)).toBe(kept);
  });

  it('show the tools that were called, with arguments and results', async () => {
    const { page } = watched;
    const chat = await newChat({ title: 'Weather' });
    const put = (fields: object) => request<UiMessage>(page, 'POST', `/ui-api/chats/${chat.id}/messages`, fields);
    const question = await put({ role: 'user', content: 'How is the weather in Oslo?' });
    const call = { id: 'call-1', type: 'function', function: { name: 'get_weather', arguments: '{"city":"Oslo"}' } };
    const waiting = { id: 'call-2', type: 'function', function: { name: 'get_tide', arguments: 'not JSON' } };
    const answer = await put({ role: 'assistant', parent: question.id, content: '', tool_calls: [call, waiting] });
    await put({ role: 'tool', parent: answer.id, content: '{"celsius":7}', tool_call_id: 'call-1' });
    const weather = page.locator('details', { hasText: 'get_weather' });
    await weather.locator('summary').click();
    expect(await weather.innerText()).toContain('"city": "Oslo"');
    expect(await weather.innerText()).toContain('"celsius": 7');
    const tide = page.locator('details', { hasText: 'get_tide' });
    await tide.getByText('no result yet').waitFor();
    await tide.locator('summary').click();
    expect(await tide.innerText()).toContain('not JSON');
    expect(await violations(page)).toEqual([]);
  });

  it('keep the attachments of a question that is sent again', async () => {
    const { page } = watched;
    await newChat({ parameters: { max_tokens: 8 } });
    await page.locator('form input[type=file]').setInputFiles({ name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('Blue is best.') });
    await ask('What does the file say?');
    await page.locator('article[data-role=assistant][data-state=complete]').waitFor();
    const question = page.locator('article[data-role=user]');
    await question.getByRole('button', { name: 'Edit' }).click();
    await page.getByRole('textbox', { name: 'Edit' }).fill('And now?');
    await page.getByRole('button', { name: 'Send again' }).click();
    await question.getByText('2/2').waitFor();
    await question.getByText('notes.txt').waitFor();
    await page.locator('article[data-role=assistant][data-state=complete]').waitFor();
    const { messages } = await request<{ messages: UiMessage[] }>(page, 'GET', `/ui-api/chats/${chatOf(page)}/messages`);
    const second = messages.find((message) => message.content === 'And now?');
    const whole = await request<UiMessage>(page, 'GET', `/ui-api/chats/${chatOf(page)}/messages/${second?.id ?? 0}`);
    expect(whole.attachments.map((file) => file.content)).toEqual(['Blue is best.']);
    expect(watched.problems).toEqual([]);
  });
});
