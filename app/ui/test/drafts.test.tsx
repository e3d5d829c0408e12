// What somebody has written is lost neither by what becomes of it nor by where he goes meanwhile.
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { act, cleanup, configure, fireEvent, render, screen, waitFor } from '@testing-library/react';
import type { ReactNode } from 'react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ApiError } from '@/api/client';
import { ChatPane } from '@/components/chat/ChatPane';
import { Composer } from '@/components/chat/Composer';
import { ConversationList } from '@/components/chat/ConversationList';
import { Message, type MessageActions } from '@/components/chat/Message';
import MessageList from '@/components/chat/MessageList';
import { CompletionPlayground } from '@/components/playground/CompletionPlayground';
import { EmbeddingsPlayground } from '@/components/playground/EmbeddingsPlayground';
import { ConfigEditor } from '@/components/settings/ConfigEditor';
import { PerformancePanel } from '@/components/settings/PerformancePanel';
import { changeDraft, storeDrafts, useDrafts } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { useToasts } from '@/stores/toasts';
import { chat, fakeDaemon, loaded, message, model, options, show, withSizes, type Asked } from './support';

configure({ asyncUtilTimeout: 15_000 });

const question = message({ id: 1, content: 'Which?' });
const empty = { messages: [], next: null };
const world = {
  'GET /ui-api/models': { models: [model()] },
  'GET /ui-api/loaded': { loaded: [loaded()] },
  'GET /ui-api/chats/1': chat(),
  'GET /ui-api/chats/1/messages': empty,
  'GET /ui-api/chats/2': chat({ id: 2, title: 'Seas' }),
  'GET /ui-api/chats/2/messages': empty,
};

/** Answers when it is told to. */
function later() {
  let answer: (answered: Response) => void = () => undefined;
  const come = new Promise<Response>((done) => (answer = done));
  return {
    come: () => come,
    take: () => answer(Response.json({ generation: 1, question, answer: message({ id: 2, parent: 1, role: 'assistant' }), chat: chat({ leaf: 2 }) })),
    refuse: () => answer(Response.json({ error: { message: 'no room left', code: null } }, { status: 503 })),
  };
}

const box = () => screen.getByRole<HTMLTextAreaElement>('textbox', { name: 'Ask something' });
const write = (text: string) => fireEvent.change(box(), { target: { value: text } });
const toasts = () => useToasts.getState().toasts.map(({ text }) => text);

/** One chat after the other in the same page. */
function panes(first: number | null) {
  const client = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  const pane = (id: number | null) => (
    <QueryClientProvider client={client}>
      <ChatPane id={id} />
    </QueryClientProvider>
  );
  const { rerender } = render(pane(first));
  const ready = () => waitFor(() => expect(screen.getByRole<HTMLSelectElement>('combobox', { name: 'Model' }).value).toBe('m'));
  return { ready, goTo: (id: number | null) => rerender(pane(id)) };
}

beforeEach(() => {
  withSizes();
  sessionStorage.clear();
  useDrafts.setState({ drafts: {}, sending: [] });
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  useToasts.setState({ toasts: [] });
});

describe('a question', () => {
  it.each([
    ['a chat', 1],
    ['a new chat', null],
  ])('that is refused while its user is elsewhere is found again in %s, with the reason', async (_, asked) => {
    useNavigation.getState().go({ page: 'chat', id: asked });
    const begun = later();
    const requests = fakeDaemon({
      ...world,
      'POST /ui-api/chats': chat(),
      'DELETE /ui-api/chats/1': {},
      'POST /ui-api/chats/1/generations': begun.come,
    });
    const { ready, goTo } = panes(asked);
    await ready();
    write('Why?');
    fireEvent.keyDown(box(), { key: 'Enter' });
    await waitFor(() => expect(requests.some(({ url }) => url.endsWith('/generations'))).toBe(true));
    goTo(2);
    expect(box().value).toBe('');
    begun.refuse();
    await waitFor(() => expect(toasts()).toEqual(['no room left']));
    expect([box().value, screen.queryByRole('alert')]).toEqual(['', null]);
    goTo(asked);
    expect([box().value, screen.getByRole('alert').textContent]).toEqual(['Why?', 'no room left']);
    await waitFor(() => expect(screen.getByRole('button', { name: 'Send' }).hasAttribute('disabled')).toBe(false));
    write('Why not?');
    expect(screen.queryByRole('alert')).toBeNull();
  });
  it('is on its way only once, wherever its user has been meanwhile', async () => {
    const begun = later();
    const requests = fakeDaemon({ ...world, 'POST /ui-api/chats/1/generations': begun.come });
    const { ready, goTo } = panes(1);
    await ready();
    write('Why?');
    fireEvent.keyDown(box(), { key: 'Enter' });
    goTo(2);
    goTo(1);
    expect(box().value).toBe('Why?');
    fireEvent.keyDown(box(), { key: 'Enter' });
    begun.take();
    await waitFor(() => expect(box().value).toBe(''));
    expect(requests.filter(({ method }) => method === 'POST')).toHaveLength(1);
  });
  it('leaves what was written while it was on its way', async () => {
    const begun = later();
    fakeDaemon({ ...world, 'POST /ui-api/chats/1/generations': begun.come });
    const { ready } = panes(1);
    await ready();
    write('Why?');
    fireEvent.keyDown(box(), { key: 'Enter' });
    write('Why? And since when?');
    begun.take();
    await waitFor(() => expect(box().value).toBe(' And since when?'));
  });
  it('that begins a chat takes along what it was to be begun with', async () => {
    useNavigation.getState().go({ page: 'chat', id: null });
    const begun = later();
    const requests = fakeDaemon({ ...world, 'GET /ui-api/presets': { presets: [] }, 'POST /ui-api/chats': chat(), 'POST /ui-api/chats/1/generations': begun.come });
    const { ready } = panes(null);
    await ready();
    fireEvent.click(screen.getByRole('button', { name: 'Options' }));
    const format = await screen.findByRole('combobox', { name: /^Answers/ });
    fireEvent.change(format, { target: { value: 'json_schema' } });
    fireEvent.change(await screen.findByRole('textbox', { name: 'JSON Schema' }), { target: { value: '{ "type": "array" }' } });
    fireEvent.change(format, { target: { value: 'text' } });
    fireEvent.change(screen.getByRole('textbox', { name: /^System prompt/ }), { target: { value: 'Be' } });
    write('Why?');
    fireEvent.keyDown(box(), { key: 'Enter' });
    begun.take();
    await waitFor(() => expect(box().value).toBe(''));
    expect(requests.filter(({ method }) => method === 'POST')).toHaveLength(2);
    expect(useDrafts.getState().drafts).toEqual({});
  });
  it('that is not asked yet is found again, each in its chat', async () => {
    fakeDaemon(world);
    const { ready, goTo } = panes(1);
    await ready();
    write('Why?');
    fireEvent.paste(box(), { clipboardData: { files: [new File(['a'], 'a.txt', { type: 'text/plain' })] } });
    await screen.findByRole('button', { name: 'Take a.txt away' });
    goTo(2);
    expect([box().value, screen.queryByRole('button', { name: 'Take a.txt away' })]).toEqual(['', null]);
    write('Since when?');
    goTo(1);
    expect(box().value).toBe('Why?');
    expect(screen.getByRole('button', { name: 'Take a.txt away' })).toBeTruthy();
    goTo(2);
    expect(box().value).toBe('Since when?');
  });
});

describe('a message that is being edited', () => {
  const scroll = async (px: number) => {
    const list = screen.getByRole('log', { name: 'Messages' });
    await act(async () => {
      list.scrollTop = px;
      fireEvent.scroll(list);
      await new Promise((done) => setTimeout(done, 50));
    });
  };

  it('keeps its text while it is out of sight', async () => {
    vi.spyOn(HTMLElement.prototype, 'offsetHeight', 'get').mockImplementation(function (this: HTMLElement) {
      return this.getAttribute('role') === 'log' ? 600 : 100;
    });
    const all = Array.from({ length: 200 }, (_, at) => message({ id: at + 1, parent: at || null, content: `Message ${at + 1}.` }));
    const actions = { resend: vi.fn(() => Promise.resolve()), editInPlace: vi.fn(() => Promise.resolve()), regenerate: vi.fn(), goOn: vi.fn(), showBranch: vi.fn() };
    show(<MessageList shown={all.map((one) => ({ message: one, siblings: [one] }))} actions={actions} />);
    await scroll(0);
    await screen.findByText('Message 1.');
    fireEvent.click(screen.getAllByRole('button', { name: 'Edit' })[0] as HTMLElement);
    const editor = () => screen.queryByRole<HTMLTextAreaElement>('textbox', { name: 'Edit' });
    expect(document.activeElement).toBe(editor());
    fireEvent.change(editor() as HTMLElement, { target: { value: 'Half of a thought' } });
    await scroll(20_000);
    expect([editor(), screen.queryByText('Message 2.')]).toEqual([null, null]);
    await scroll(0);
    await waitFor(() => expect(editor()?.value).toBe('Half of a thought'));
    // It is only seen again: where one types is not moved.
    expect(document.activeElement).not.toBe(editor());
    fireEvent.click(screen.getByRole('button', { name: 'Send again' }));
    await waitFor(() => expect(editor()).toBeNull());
    expect(actions.resend).toHaveBeenCalledWith(all[0], 'Half of a thought');
  });
});

describe('a message that somebody else has changed meanwhile', () => {
  it('is not written over before that was told', async () => {
    const taken = () => Promise.resolve();
    const edit = vi.fn(taken).mockRejectedValueOnce(new ApiError(0, 'the daemon is away')).mockRejectedValueOnce(new ApiError(409, 'it was changed meanwhile'));
    const actions = { resend: taken, editInPlace: edit as MessageActions['editInPlace'], regenerate: vi.fn(), goOn: vi.fn(), showBranch: vi.fn() };
    const shown = (revision: number) => (
      <Message message={{ ...question, revision }} siblings={[question]} results={new Map()} actions={actions} />
    );
    const { rerender } = render(shown(1));
    fireEvent.click(screen.getByRole('button', { name: 'Edit' }));
    fireEvent.change(screen.getByRole('textbox', { name: 'Edit' }), { target: { value: 'Mine' } });
    rerender(shown(2));
    const save = () => screen.getByRole('button', { name: 'Save only' });
    for (const told of ['the daemon is away', 'it was changed meanwhile']) {
      fireEvent.click(save());
      await waitFor(() => expect(toasts().at(-1)).toBe(told));
      await waitFor(() => expect(save().hasAttribute('disabled')).toBe(false));
    }
    fireEvent.click(save());
    await waitFor(() => expect(screen.queryByRole('textbox', { name: 'Edit' })).toBeNull());
    expect(edit.mock.calls).toMatchObject([1, 1, 2].map((revision) => [{ revision }, 'Mine']));
  });
});

describe('a file', () => {
  it('is attached wherever in the page it is dropped', async () => {
    show(<Composer chat={1} disabled={false} onStop={null} onSend={() => Promise.resolve()} />);
    const files = [new File(['a'], 'a.txt', { type: 'text/plain' })];
    // The browser would leave the page for it.
    expect(fireEvent.dragOver(document.body, { dataTransfer: { types: ['Files'] } })).toBe(false);
    expect(fireEvent.drop(document.body, { dataTransfer: { files } })).toBe(false);
    await screen.findByRole('button', { name: 'Take a.txt away' });
    expect(fireEvent.dragOver(document.body, { dataTransfer: { types: ['text/plain'] } })).toBe(true);
  });
});

describe('a text', () => {
  const texts: [string, () => ReactNode, string][] = [
    ['to be gone on with', () => <CompletionPlayground />, 'A text that goes on'],
    ['to be compared', () => <EmbeddingsPlayground />, 'Texts to compare, one a line'],
    ['of the daemon’s options', () => <ConfigEditor />, 'File of options'],
  ];
  it.each(texts)('%s is found again behind another page', async (_, Shown, label) => {
    fakeDaemon({ ...world, 'GET /ui-api/options': options(), 'PATCH /ui-api/options': options() });
    const { unmount } = show(<Shown />);
    fireEvent.change(await screen.findByRole('textbox', { name: label }), { target: { value: 'Half of a thought' } });
    unmount();
    show(<Shown />);
    expect((await screen.findByRole<HTMLTextAreaElement>('textbox', { name: label })).value).toBe('Half of a thought');
  });
  it('of an option that is refused is there to be put right', async () => {
    const refusal = () => Response.json({ error: { message: 'no such folder' } }, { status: 400 });
    const requests = fakeDaemon({ 'GET /ui-api/options': options(), 'PATCH /ui-api/options': refusal });
    show(<PerformancePanel />);
    const field = await screen.findByLabelText<HTMLInputElement>('Threads');
    fireEvent.change(field, { target: { value: '77' } });
    fireEvent.blur(field);
    await screen.findByText('no such folder');
    await waitFor(() => expect(field.value).toBe('77'));
    // Going by it is no new wish; Enter is.
    const wishes = () => requests.filter(({ method }) => method === 'PATCH').length;
    fireEvent.blur(field);
    expect([wishes(), field.value]).toEqual([1, '77']);
    fireEvent.keyDown(field, { key: 'Enter' });
    await waitFor(() => expect(wishes()).toBe(2));
  });
  it('of the daemon’s options says when its file has become another one', async () => {
    let saved = { threads: 4, parallel: 4 };
    fakeDaemon({ 'GET /ui-api/options': () => options(saved), 'PATCH /ui-api/options': options() });
    const { unmount } = show(<ConfigEditor />);
    const file = () => screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'File of options' });
    fireEvent.change(await file(), { target: { value: '{ "threads": 8, "parallel": 4 }' } });
    expect(screen.getByRole('status').textContent).not.toContain('was changed meanwhile');
    unmount();
    saved = { threads: 4, parallel: 9 };
    show(<ConfigEditor />);
    expect((await file()).value).toBe('{ "threads": 8, "parallel": 4 }');
    expect(screen.getByRole('status').textContent).toContain('was changed meanwhile');
    fireEvent.click(screen.getByRole('button', { name: 'Discard' }));
    fireEvent.change(await file(), { target: { value: '{ "threads": 8, "parallel": 9 }' } });
    expect(screen.getByRole('status').textContent).not.toContain('was changed meanwhile');
  });
  it('of the daemon’s options that is taken is gone, though its page was left', async () => {
    let take: (answer: unknown) => void = () => undefined;
    const answer = new Promise((done) => (take = done));
    const requests = fakeDaemon({
      'GET /ui-api/options': options({ threads: 4 }),
      'PATCH /ui-api/options': ({ body }: Asked) => ((body as { check_only?: boolean }).check_only ? options() : answer),
    });
    const { unmount } = show(<ConfigEditor />);
    fireEvent.change(await screen.findByRole('textbox', { name: 'File of options' }), { target: { value: '{ "threads": 8 }' } });
    await screen.findByText('These values are taken.');
    fireEvent.click(screen.getByRole('button', { name: 'Save' }));
    await waitFor(() => expect(requests.filter(({ method }) => method === 'PATCH')).toHaveLength(2));
    unmount();
    take(options({ threads: 8 }));
    await waitFor(() => expect(useDrafts.getState().drafts).toEqual({}));
  });
});

describe('what is written', () => {
  /** As another page of the same tab finds it. */
  const reloaded = async () => {
    vi.resetModules();
    return (await import('@/stores/drafts')).useDrafts.getState().drafts;
  };

  it('is found again behind a reload, until it was taken', async () => {
    changeDraft('question 1', () => ({ text: 'Why?' }));
    changeDraft('edit 5', () => ({ text: 'Half', revision: 1 }));
    window.dispatchEvent(new Event('pagehide'));
    expect(await reloaded()).toEqual({ 'question 1': { text: 'Why?' }, 'edit 5': { text: 'Half', revision: 1 } });
    changeDraft('question 1', () => undefined);
    storeDrafts();
    expect(await reloaded()).toEqual({ 'edit 5': { text: 'Half', revision: 1 } });
  });
  it('is stored without the files for which there is no room, and those only when they change', async () => {
    const writes: string[] = [];
    vi.spyOn(Storage.prototype, 'setItem').mockImplementation(function (this: Storage, key, value) {
      writes.push(key);
      if (value.length > 10_000) throw new DOMException('full', 'QuotaExceededError');
      this[key] = value;
    });
    show(<Composer chat={1} disabled={false} onStop={null} onSend={() => Promise.resolve()} />);
    write('Why?');
    fireEvent.paste(box(), { clipboardData: { files: [new File(['x'.repeat(20_000)], 'a.txt', { type: 'text/plain' })] } });
    await screen.findByRole('button', { name: 'Take a.txt away' });
    storeDrafts();
    expect(await reloaded()).toEqual({ 'question 1': { text: 'Why?' } });
    write('Why not?');
    storeDrafts();
    expect(writes).toEqual(['mlxr.draft.question 1', 'mlxr.draft.files 1', 'mlxr.draft.question 1']);
  });
  it('for a chat goes with it, and comes back with it', async () => {
    fakeDaemon({ ...world, 'GET /ui-api/folders': { folders: [] }, 'GET /ui-api/chats': { chats: [chat()], next: null }, 'DELETE /ui-api/chats/1': {}, 'POST /ui-api/chats/1/restore': chat() });
    const client = new QueryClient();
    client.setQueryData(['messages', 1], [message({ id: 7 })]);
    render(
      <QueryClientProvider client={client}>
        <ConversationList />
      </QueryClientProvider>,
    );
    for (const key of ['question 1', 'text system 1'] as const) changeDraft(key, () => ({ text: 'Half' }));
    for (const key of ['edit 7', 'edit 8'] as const) changeDraft(key, () => ({ text: 'Half', revision: 1 }));
    changeDraft('question 10', () => ({ text: 'Half' }));
    const keys = () => Object.keys(useDrafts.getState().drafts).sort();
    const before = keys();
    fireEvent.click(await screen.findByRole('button', { name: 'More about Rivers' }));
    fireEvent.click(screen.getByRole('button', { name: 'Delete' }));
    await waitFor(() => expect(keys()).toEqual(['edit 8', 'question 10']));
    useToasts.getState().toasts.at(-1)?.action?.run();
    await waitFor(() => expect(keys()).toEqual(before));
  });
  it('stays in memory where the browser has no room for it, and nothing older comes back', async () => {
    changeDraft('edit 5', () => ({ text: 'Short', revision: 1 }));
    storeDrafts();
    vi.spyOn(Storage.prototype, 'setItem').mockImplementation(() => {
      throw new DOMException('full', 'QuotaExceededError');
    });
    changeDraft('edit 5', () => ({ text: 'Long', revision: 1 }));
    storeDrafts();
    expect(useDrafts.getState().drafts).toEqual({ 'edit 5': { text: 'Long', revision: 1 } });
    expect(await reloaded()).toEqual({});
  });
});
