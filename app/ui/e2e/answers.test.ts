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

  it('go on behind a killed daemon, with every token that was seen', async () => {
    const { page } = watched;
    await newChat({ parameters: { temperature: 0, ...withoutEnd(4000) } });
    await ask('Write a long story about a lighthouse and a storm.');
    const shown = page.locator('article[data-role=assistant] .prose').last();
    await page.waitForFunction(() => (document.querySelector<HTMLElement>('article[data-state=running] .prose')?.innerText.length ?? 0) > 40);
    await daemon.stop('SIGKILL');
    await page.getByText('The daemon does not answer.').waitFor();
    const seen = (await shown.innerText()).trim();
    await daemon.start();
    const broken = page.locator('article[data-state=interrupted]');
    await broken.waitFor();
    await broken.getByRole('button', { name: 'Continue' }).click();
    await page.waitForFunction(
      (n) => (document.querySelector<HTMLElement>('article[data-role=assistant] .prose')?.innerText.trim().length ?? 0) > n,
      seen.length,
    );
    await endAnswer(page);
    expect((await shown.innerText()).trim().slice(0, seen.length)).toBe(seen);
    expect((await lastMessage(page)).content.slice(0, 20)).toBe(seen.slice(0, 20));
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
