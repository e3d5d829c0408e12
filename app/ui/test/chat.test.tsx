import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { cleanup, configure, fireEvent, render, screen, waitFor, within } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { AnswerFormat, schemaOf } from '@/components/chat/AnswerFormat';
import { AttachmentButton } from '@/components/chat/AttachmentButton';
import { ChatHead } from '@/components/chat/ChatHead';
import ChatOptions from '@/components/chat/ChatOptions';
import { ChatPane } from '@/components/chat/ChatPane';
import { Composer } from '@/components/chat/Composer';
import { ConversationList } from '@/components/chat/ConversationList';
import { Message, type MessageActions } from '@/components/chat/Message';
import MessageList from '@/components/chat/MessageList';
import { ModelSelector } from '@/components/chat/ModelSelector';
import { SamplingControls } from '@/components/chat/SamplingControls';
import { TokenStream } from '@/components/chat/TokenStream';
import { ToolCallView } from '@/components/chat/ToolCallView';
import { useDrafts } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { DEFAULTS, usePreferences } from '@/stores/preferences';
import { useToasts } from '@/stores/toasts';
import { chat, fakeDaemon, loaded, message, model, show, withSizes, type Asked } from './support';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const actions = (): MessageActions => ({ resend: vi.fn(() => Promise.resolve()), editInPlace: vi.fn(() => Promise.resolve()), regenerate: vi.fn(), goOn: vi.fn(), showBranch: vi.fn() });
const HOSTILE = '<img src=x onerror=alert(1)>';
const models = { 'GET /ui-api/models': { models: [model(), model({ name: 'n', path: '/n.gguf' })] }, 'GET /ui-api/loaded': { loaded: [loaded()] } };
const question = message({ id: 1, content: `Which? ${HOSTILE}` });
const answer = message({
  id: 2, parent: 1, role: 'assistant', content: '**The Nile**', model: 'm', parameters: { temperature: 0.5, stop: ['x'] },
  stats: { first_token_ms: 120, tokens_per_second: 31.25, answer_tokens: 9, prompt_tokens: 40, cached_tokens: 32, context_tokens: 2048, cache_miss: 'evicted', total_ms: 1500 },
}); // prettier-ignore

beforeEach(withSizes);
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  useToasts.setState({ toasts: [] });
  useDrafts.setState({ drafts: {}, sending: [] });
  usePreferences.setState({ settings: DEFAULTS });
});

describe('components of chats', () => {
  it('Message shows question and answer, with figures, parameters and what can be done', () => {
    const act = actions();
    fakeDaemon({});
    const { container } = show(
      <>
        <Message message={question} siblings={[question]} results={new Map()} actions={act} />
        <Message message={answer} siblings={[answer, message({ id: 3 })]} results={new Map()} actions={act} />
      </>,
    );
    expect(screen.getByText(`Which? ${HOSTILE}`)).toBeTruthy();
    expect(container.querySelector('img')).toBeNull();
    expect(screen.getByText('The Nile').tagName).toBe('STRONG');
    const figures = screen.getByText('first token 120 ms · 31.3 tokens/s · 9 tokens · prompt 40, 32 from the cache').closest('details');
    for (const text of ['temperature', '0.5', '["x"]', 'Evicted', '1.5 s', '2048 tokens']) expect(within(figures as HTMLElement).getByText(text)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Regenerate' }));
    expect(act.regenerate).toHaveBeenCalledWith(answer);
    fireEvent.click(screen.getByRole('button', { name: 'Next version' }));
    expect(act.showBranch).toHaveBeenCalled();
    fireEvent.click(screen.getAllByRole('button', { name: 'Edit' })[0] as HTMLElement);
    fireEvent.change(screen.getByRole('textbox', { name: 'Edit' }), { target: { value: 'And now?' } });
    fireEvent.click(screen.getByRole('button', { name: 'Send again' }));
    expect(act.resend).toHaveBeenCalledWith(question, 'And now?');
  });
  it('Message keeps what was edited until it is taken', async () => {
    const act = actions();
    vi.mocked(act.resend).mockRejectedValueOnce(new Error('the daemon is away'));
    show(<Message message={question} siblings={[question]} results={new Map()} actions={act} />);
    fireEvent.click(screen.getByRole('button', { name: 'Edit' }));
    const box = screen.getByRole<HTMLTextAreaElement>('textbox', { name: 'Edit' });
    fireEvent.change(box, { target: { value: 'And now?' } });
    const again = screen.getByRole('button', { name: 'Send again' });
    fireEvent.click(again);
    fireEvent.click(again); // the first one is under way
    await waitFor(() => expect(useToasts.getState().toasts.map(({ text }) => text)).toEqual(['the daemon is away']));
    expect([screen.getByRole<HTMLTextAreaElement>('textbox', { name: 'Edit' }).value, vi.mocked(act.resend).mock.calls.length]).toEqual(['And now?', 1]);
    await waitFor(() => expect(again.hasAttribute('disabled')).toBe(false));
    fireEvent.click(again);
    await waitFor(() => expect(screen.queryByRole('textbox', { name: 'Edit' })).toBeNull());
  });
  it('Message shows JSON as code, with its lines', () => {
    const bound = message({ role: 'assistant', content: '{"n":1}', parameters: { response_format: { type: 'json_object' } } });
    const { container } = show(<Message message={bound} siblings={[bound]} results={new Map()} actions={actions()} />);
    expect(container.querySelector('pre code')?.textContent).toBe('{\n  "n": 1\n}');
  });
  it('MessageList shows the messages, and a tool’s result where it was called', async () => {
    const call = { id: 'c', type: 'function' as const, function: { name: 'look', arguments: '{}' } };
    const called = message({ id: 2, parent: 1, role: 'assistant', content: '', tool_calls: [call] });
    const result = message({ id: 3, parent: 2, role: 'tool', content: '"found"', tool_call_id: 'c' });
    const shown = [question, called, result].map((one) => ({ message: one, siblings: [one] }));
    show(<MessageList shown={shown} actions={actions()} />);
    await waitFor(() => expect(within(screen.getByRole('log', { name: 'Messages' })).getAllByRole('article')).toHaveLength(2));
    expect(screen.getByRole('log', { name: 'Messages' }).hasAttribute('aria-live')).toBe(false); // as its role has it: politely
    expect(screen.getByText('"found"')).toBeTruthy();
  });
  it('Composer sends with Enter, and keeps what could not be sent', async () => {
    const onSend = vi.fn<() => Promise<void>>().mockRejectedValueOnce(new Error('no room')).mockResolvedValue();
    show(<Composer chat={null} disabled={false} onStop={null} onSend={onSend} />);
    const box = screen.getByRole('textbox', { name: 'Ask something' });
    fireEvent.change(box, { target: { value: 'Why?' } });
    fireEvent.keyDown(box, { key: 'Enter', shiftKey: true });
    expect(onSend).not.toHaveBeenCalled();
    fireEvent.keyDown(box, { key: 'Enter' });
    await waitFor(() => expect(useToasts.getState().toasts.map(({ text }) => text)).toEqual(['no room']));
    expect((box as HTMLTextAreaElement).value).toBe('Why?');
    await waitFor(() => expect(screen.getByRole('button', { name: 'Send' }).hasAttribute('disabled')).toBe(false));
    fireEvent.keyDown(box, { key: 'Enter' });
    await waitFor(() => expect((box as HTMLTextAreaElement).value).toBe(''));
  });
  it('Composer takes files that are pasted, and no images', async () => {
    show(<Composer chat={null} disabled={false} onStop={null} onSend={() => Promise.resolve()} />);
    const box = screen.getByRole('textbox', { name: 'Ask something' });
    fireEvent.paste(box, { clipboardData: { files: [new File(['a'], 'a.txt', { type: 'text/plain' })] } });
    await screen.findByRole('button', { name: 'Take a.txt away' });
    fireEvent.paste(box, { clipboardData: { files: [new File(['a'], 'a.png', { type: 'image/png' })] } });
    await waitFor(() => expect(useToasts.getState().toasts[0]?.text).toContain('a.png: no model here can see images yet'));
    expect(screen.queryByRole('button', { name: 'Take a.png away' })).toBeNull();
  });
  it('AttachmentButton reads text files, and says what is none', async () => {
    const onFiles = vi.fn();
    const { container } = show(<AttachmentButton onFiles={onFiles} />);
    expect(screen.getByRole('button', { name: 'Attach text files' })).toBeTruthy();
    const input = container.querySelector('input') as HTMLInputElement;
    fireEvent.change(input, { target: { files: [new File(['héllo'], 'a.txt')] } });
    await waitFor(() => expect(onFiles).toHaveBeenCalledWith([{ name: 'a.txt', type: 'text/plain', content: 'héllo' }]));
    fireEvent.change(input, { target: { files: [new File([new Uint8Array([255, 0])], 'b.bin')] } });
    await waitFor(() => expect(useToasts.getState().toasts[0]?.text).toBe('b.bin: not a text file'));
  });
  it('AttachmentButton does not read what is too large to be taken', async () => {
    const film = new File(['a'], 'film.mkv');
    Object.defineProperty(film, 'size', { value: 8_000_001 });
    const reading = vi.spyOn(film, 'arrayBuffer');
    const { container } = show(<AttachmentButton onFiles={vi.fn()} />);
    fireEvent.change(container.querySelector('input') as HTMLInputElement, { target: { files: [film] } });
    await waitFor(() => expect(useToasts.getState().toasts[0]?.text).toBe('film.mkv: more than 2000000 characters'));
    expect(reading).not.toHaveBeenCalled();
  });
  it('TokenStream shows reasoning folded, and that it waits', () => {
    const { container } = show(<TokenStream content="" reasoning="hm" running />);
    expect(container.querySelector('details')?.open).toBe(false);
    expect(screen.getByText('Thinking…')).toBeTruthy();
    cleanup();
    show(<TokenStream content="" reasoning="" running />);
    expect(screen.getByText('…')).toBeTruthy();
  });
  it('ToolCallView shows arguments and result', () => {
    show(<ToolCallView call={{ id: 'c', type: 'function', function: { name: 'look', arguments: '{"a":1}' } }} />);
    expect(screen.getByText('look')).toBeTruthy();
    expect(screen.getByText('no result yet')).toBeTruthy();
    expect(screen.getByText(/"a": 1/)).toBeTruthy();
  });
  it('ModelSelector offers those that can answer, and marks those in memory', async () => {
    fakeDaemon({ ...models, 'GET /ui-api/models': { models: [model(), model({ name: 'broken', why_not: 'cut off' })] } });
    const onChange = vi.fn();
    show(<ModelSelector value="gone" onChange={onChange} />);
    await screen.findByRole('option', { name: '● m' });
    expect(screen.getAllByRole('option').map((option) => option.textContent)).toEqual(['gone', '● m']);
    fireEvent.change(screen.getByRole('combobox', { name: 'Model' }), { target: { value: 'm' } });
    expect(onChange).toHaveBeenCalledWith('m');
  });
  it('ModelSelector of a chat has models without a template last, and says so', async () => {
    const base = model({ name: 'a', path: '/a.gguf', has_template: false, template: null });
    fakeDaemon({ ...models, 'GET /ui-api/models': { models: [base, model()] } });
    const { unmount } = show(<ModelSelector chat value="m" onChange={vi.fn()} />);
    await screen.findByRole('option', { name: '● m' });
    expect(screen.getAllByRole('option').map((option) => option.textContent)).toEqual(['● m', 'a (no chat template)']);
    unmount();
    show(<ModelSelector value="m" onChange={vi.fn()} />);
    await screen.findByRole('option', { name: '● m' });
    expect(screen.getAllByRole('option').map((option) => option.textContent)).toEqual(['a', '● m']);
  });
  it('ChatPane begins with a model that can chat, whatever comes before it', async () => {
    const base = model({ name: 'a', path: '/a.gguf', has_template: false, template: null });
    fakeDaemon({ ...models, 'GET /ui-api/models': { models: [base, model()] } });
    show(<ChatPane id={null} />);
    await waitFor(() => expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Model' }).value).toBe('m'));
  });
  it('SamplingControls give what was written, and null for what was emptied', () => {
    const onChange = vi.fn();
    show(<SamplingControls value={{ temperature: 0.5 }} onChange={onChange} />);
    const field = screen.getByLabelText('Temperature');
    fireEvent.change(field, { target: { value: '0.7' } });
    fireEvent.blur(field);
    fireEvent.change(field, { target: { value: '' } });
    fireEvent.blur(field);
    fireEvent.change(field, { target: { value: '9' } });
    fireEvent.blur(field);
    expect(onChange.mock.calls).toEqual([[{ temperature: 0.7 }], [{ temperature: null }]]);
  });
  it('ConversationList shows chats, searches them, and renames a folder', async () => {
    const folder = { id: 5, name: 'Work', position: 0, n_chats: 1, revision: 3, created_ms: 1, modified_ms: 1 };
    const asked = fakeDaemon({
      'GET /ui-api/folders': { folders: [folder] },
      'GET /ui-api/chats': { chats: [chat()], next: null },
      'GET /ui-api/search': { results: [{ chat: 1, title: 'Rivers', folder: null, message: 2, role: 'user', created_ms: 1, snippet: [{ text: HOSTILE, hit: true }] }], next: null },
      'PATCH /ui-api/folders/5': folder,
    });
    show(<ConversationList />);
    fireEvent.click(await screen.findByRole('button', { name: 'Rivers' }));
    expect(useNavigation.getState().place).toMatchObject({ page: 'chat', id: 1 });
    fireEvent.change(screen.getByRole('combobox', { name: 'Folder' }), { target: { value: '5' } });
    fireEvent.click(screen.getByRole('button', { name: 'Rename' }));
    fireEvent.change(screen.getByRole('textbox', { name: 'Name of the folder' }), { target: { value: 'Play' } });
    fireEvent.submit(screen.getByRole('textbox', { name: 'Name of the folder' }));
    await waitFor(() => expect(asked.find(({ method }) => method === 'PATCH')?.body).toEqual({ revision: 3, name: 'Play' }));
    fireEvent.change(screen.getByRole('searchbox'), { target: { value: 'nile' } });
    expect((await screen.findByText(HOSTILE)).tagName).toBe('MARK');
  });
  it('ConversationList shows all chats again when another window deletes the folder that is shown', async () => {
    let folders = [{ id: 5, name: 'Work', n_chats: 0, revision: 3, created_ms: 1, modified_ms: 1 }];
    fakeDaemon({
      'GET /ui-api/folders': () => ({ folders }),
      'GET /ui-api/chats': ({ url }: Asked) => ({ chats: url.includes('folder=5') ? [] : [chat()], next: null }),
      'POST /ui-api/folders': () => ({}),
    });
    show(<ConversationList />);
    await screen.findByRole('option', { name: 'Work (0)' });
    fireEvent.change(screen.getByRole('combobox', { name: 'Folder' }), { target: { value: '5' } });
    await waitFor(() => expect(screen.queryByRole('button', { name: 'Rivers' })).toBeNull());
    folders = [];
    // What is done here makes it read them anew.
    fireEvent.click(screen.getByRole('button', { name: 'New folder' }));
    fireEvent.change(screen.getByRole('textbox', { name: 'Name of the folder' }), { target: { value: 'Play' } });
    fireEvent.submit(screen.getByRole('textbox', { name: 'Name of the folder' }));
    await screen.findByRole('button', { name: 'Rivers' });
    expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Folder' }).value).toBe('0');
    expect(screen.queryByRole('button', { name: 'Rename' })).toBeNull();
  });
  it('ConversationList takes the deletion of a folder back, with the chats that nobody has moved elsewhere', async () => {
    const folder = { id: 5, name: 'Work', position: 2, n_chats: 3, revision: 3, created_ms: 1, modified_ms: 1 };
    const asked = fakeDaemon({
      'GET /ui-api/folders': { folders: [folder] },
      'GET /ui-api/chats': { chats: [chat({ id: 1, folder: 5 }), chat({ id: 2, folder: 5 }), chat({ id: 3, folder: 5 })], next: null },
      'DELETE /ui-api/folders/5': {},
      'POST /ui-api/folders': { ...folder, id: 6 },
      'GET /ui-api/chats/1': chat({ id: 1, folder: null, revision: 4 }),
      'GET /ui-api/chats/2': chat({ id: 2, folder: 9 }), // chat 3 is gone: 404
      'PATCH /ui-api/chats/1': chat({ id: 1, folder: 6 }),
    });
    show(<ConversationList />);
    await screen.findByRole('option', { name: 'Work (3)' });
    fireEvent.change(screen.getByLabelText('Folder'), { target: { value: '5' } });
    fireEvent.click(screen.getByRole('button', { name: 'Delete this folder; its chats stay' }));
    await waitFor(() => expect(useToasts.getState().toasts.at(-1)?.text).toBe('“Work” was deleted.'));
    useToasts.getState().toasts.at(-1)?.action?.run();
    await waitFor(() => expect(asked.filter(({ url }) => url.endsWith('/3')).length).toBe(1));
    expect(asked.filter(({ method }) => method === 'POST').map(({ body }) => body)).toEqual([{ name: 'Work', position: 2 }]);
    expect(asked.filter(({ method }) => method === 'PATCH').map(({ url, body }) => [url, body])).toEqual([
      ['/ui-api/chats/1', { revision: 4, folder: 6 }],
    ]);
  });
  it('ChatPane asks what was written, of the model that is chosen, with what new chats begin with', async () => {
    usePreferences.setState({ settings: { ...DEFAULTS, default_preset: 4 } });
    const preset = { id: 4, name: 'P', model: 'n', system: 'Be brief.', parameters: { seed: 3 }, revision: 1, created_ms: 1, modified_ms: 1 };
    const asked = fakeDaemon({
      ...models,
      'GET /ui-api/presets': { presets: [preset] },
      'POST /ui-api/chats': chat({ id: 9 }),
      'POST /ui-api/chats/9/generations': { generation: 1, question, answer, chat: chat({ id: 9 }) },
    });
    show(<ChatPane id={null} />);
    await waitFor(() => expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Model' }).value).toBe('n'));
    const box = screen.getByRole('textbox', { name: 'Ask something' });
    fireEvent.change(box, { target: { value: 'Which?' } });
    fireEvent.keyDown(box, { key: 'Enter' });
    await waitFor(() => expect(asked.find(({ url }) => url.endsWith('/generations'))?.body).toEqual({ message: { content: 'Which?', attachments: [] }, model: 'n' }));
    expect(asked.find(({ method, url }) => method === 'POST' && url === '/ui-api/chats')?.body).toEqual({ model: 'n', parameters: { seed: 3 }, system: 'Be brief.' });
  });
});

describe('a request that has no answer yet', () => {
  /** Does not answer before it is told to. */
  const late = (answered: unknown) => {
    let tell: () => void = () => undefined;
    const come = new Promise((done) => (tell = () => done(answered)));
    return { answer: () => come, tell: () => tell() };
  };

  it.each([
    ['Continue', { continue: 2 }],
    ['Regenerate', { parent: 1, model: 'm' }],
  ])('is not made again by a second click on %s', async (name, body) => {
    const stopped = message({ ...answer, state: 'stopped' });
    const begun = late({ generation: 7, question: null, answer: stopped, chat: chat({ leaf: 2 }) });
    const asked = fakeDaemon({
      ...models,
      'GET /ui-api/chats/1': chat({ leaf: 2 }),
      'GET /ui-api/chats/1/messages': { messages: [question, stopped], next: null },
      'POST /ui-api/chats/1/generations': begun.answer,
    });
    show(<ChatPane id={1} />);
    await waitFor(() => expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Model' }).value).toBe('m'));
    const button = await screen.findByRole('button', { name });
    const wishes = () => asked.filter(({ method }) => method === 'POST').map((one) => one.body);
    fireEvent.click(button);
    fireEvent.click(button);
    await waitFor(() => expect(wishes()).toEqual([body]));
    begun.tell();
    await waitFor(() => expect(asked.filter(({ url }) => url.startsWith('/ui-api/chats/1/messages')).length).toBeGreaterThan(0));
    expect(wishes()).toEqual([body]);
    // Once it is answered another one is meant.
    await waitFor(() => {
      fireEvent.click(screen.getByRole('button', { name }));
      expect(wishes()).toEqual([body, body]);
    });
  });
  it('makes nothing of an answer that has ended meanwhile, as the chat says', async () => {
    const stopped = message({ ...answer, state: 'stopped' });
    const ended = message({ ...answer, content: 'The Nile, at last.', revision: 3 });
    const begun = late({ generation: 70, question: null, answer: message({ ...answer, state: 'running', generation: 70, revision: 2 }), chat: chat({ leaf: 2 }) });
    let messages = [question, stopped];
    const asked = fakeDaemon({
      ...models,
      'GET /ui-api/chats/1': chat({ leaf: 2 }),
      'GET /ui-api/chats/1/messages': () => ({ messages, next: null }),
      'POST /ui-api/chats/1/generations': begun.answer,
    });
    const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
    render(
      <QueryClientProvider client={client}>
        <ChatPane id={1} />
      </QueryClientProvider>,
    );
    fireEvent.click(await screen.findByRole('button', { name: 'Continue' }));
    messages = [question, ended];
    await client.invalidateQueries({ queryKey: ['messages', 1] });
    await screen.findByText('The Nile, at last.');
    const states: (string | undefined)[] = [];
    const observer = new MutationObserver(() => states.push(screen.getByRole('article', { name: 'Answer' }).dataset.state));
    observer.observe(document.body, { subtree: true, childList: true, attributes: true });
    const lists = () => asked.filter(({ method, url }) => method === 'POST' || url.startsWith('/ui-api/generations')).length;
    begun.tell();
    // All that its answer brings about: the page asks for nothing, and shows what it did.
    await new Promise((done) => setTimeout(done, 100));
    observer.disconnect();
    expect([lists(), states.filter((state) => state !== 'complete')]).toEqual([1, []]);
  });
  it('takes nobody away from where he has gone meanwhile', async () => {
    useNavigation.getState().go({ page: 'chat', id: null });
    const begun = late({ generation: 1, question, answer, chat: chat({ id: 9 }) });
    const asked = fakeDaemon({ ...models, 'POST /ui-api/chats': chat({ id: 9 }), 'POST /ui-api/chats/9/generations': begun.answer });
    show(<ChatPane id={null} />);
    await waitFor(() => expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Model' }).value).toBe('m'));
    const box = screen.getByRole<HTMLTextAreaElement>('textbox', { name: 'Ask something' });
    fireEvent.change(box, { target: { value: 'Which?' } });
    fireEvent.keyDown(box, { key: 'Enter' });
    await waitFor(() => expect(asked.some(({ url }) => url.endsWith('/generations'))).toBe(true));
    useNavigation.getState().go({ page: 'models' });
    begun.tell();
    await waitFor(() => expect(box.value).toBe('')); // it was sent
    expect(useNavigation.getState().place.page).toBe('models');
  });
});

describe('the head of a chat', () => {
  it('says of what it offers to save that it is an export', async () => {
    fakeDaemon({ ...models, 'GET /ui-api/chats/9': chat({ id: 9 }), 'GET /ui-api/chats/9/messages': { messages: [], next: null } });
    show(<ChatPane id={9} />);
    for (const format of ['Markdown', 'JSON']) expect(await screen.findByRole('button', { name: `Export ${format}` })).toBeTruthy();
  });
});

describe('what is behind a button of the head on a small screen', () => {
  it('is in sight as long as the options are open, and closes them with it', () => {
    fakeDaemon(models);
    const onOptions = vi.fn();
    const about = { chat: undefined, model: 'm', used: 0, contextSize: 0, comparing: false, onModel: vi.fn(), onCompare: vi.fn() };
    show(<ChatHead {...about} options onOptions={onOptions} />);
    const button = screen.getByRole('button', { name: 'More about this chat' });
    const row = document.getElementById(button.getAttribute('aria-controls') ?? '') as HTMLElement;
    expect(within(row).getByRole('button', { name: 'Options' })).toBeTruthy();
    expect([button.getAttribute('aria-expanded'), row.classList.contains('max-md:hidden')]).toEqual(['true', false]);
    fireEvent.click(button);
    expect(onOptions).toHaveBeenCalledTimes(1);
  });
});

describe('the options of a chat', () => {
  it('are kept as a preset, and taken from one', async () => {
    const preset = { id: 4, name: 'P', model: '', system: 'Be brief.', parameters: { seed: 3 }, revision: 1, created_ms: 1, modified_ms: 1 };
    const asked = fakeDaemon({ 'GET /ui-api/presets': { presets: [preset] }, 'POST /ui-api/presets': { ...preset, id: 5 } });
    const onChange = vi.fn(() => Promise.resolve());
    show(<ChatOptions chat={1} onParameters={() => Promise.resolve()} value={{ system: 'Be long.', parameters: { top_k: 4 } }} model="m" onChange={onChange} />);
    await screen.findByRole('option', { name: 'P' });
    fireEvent.change(screen.getByRole('combobox', { name: 'Preset' }), { target: { value: '4' } });
    expect(onChange).toHaveBeenCalledWith({ system: 'Be brief.', parameters: { seed: 3 } });
    fireEvent.click(screen.getByRole('button', { name: 'Save as a preset' }));
    fireEvent.change(screen.getByRole('textbox', { name: 'Name of the preset' }), { target: { value: 'Q' } });
    fireEvent.submit(screen.getByRole('textbox', { name: 'Name of the preset' }));
    await waitFor(() => expect(asked.find(({ method }) => method === 'POST')?.body).toEqual({ name: 'Q', model: 'm', system: 'Be long.', parameters: { top_k: 4 } }));
  });
  it('bind answers to a schema, which has to be one', async () => {
    const onChange = vi.fn(() => Promise.resolve());
    const format = { type: 'json_schema', json_schema: { name: 'answer', schema: { type: 'object' } } } as const;
    show(<AnswerFormat chat={1} value={format} onChange={onChange} />);
    const box = screen.getByRole('textbox', { name: 'JSON Schema' });
    fireEvent.change(box, { target: { value: '[1]' } });
    fireEvent.blur(box);
    expect((await screen.findByRole('alert')).textContent).toContain('no JSON object');
    expect(onChange).not.toHaveBeenCalled();
    fireEvent.change(box, { target: { value: '{"type":"array"}' } });
    fireEvent.blur(box);
    expect(onChange).toHaveBeenCalledWith({ ...format, json_schema: { name: 'answer', schema: { type: 'array' } } });
    expect([schemaOf('null'), schemaOf('x'), schemaOf('{}')]).toEqual([undefined, undefined, {}]);
  });
});
