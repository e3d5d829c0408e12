// What somebody changes of a chat: the last one counts, and nothing of it is lost to another change, another window or a refusal.
import { cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { UiChat } from '@/api/schema';
import { ChatPane } from '@/components/chat/ChatPane';
import { ConversationList } from '@/components/chat/ConversationList';
import { useDrafts } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { useToasts } from '@/stores/toasts';
import { chat, fakeDaemon, loaded, model, show, withSizes, type Asked } from './support';

configure({ asyncUtilTimeout: 15_000 });

/** A chat as the daemon keeps it: a change of another revision is refused, as is what `refuse` names. */
function keeper(fields: Partial<UiChat> = {}) {
  let kept = chat({ parameters: { temperature: 0.5, top_k: 4 }, system: 'Be brief.', ...fields });
  const state = { refuse: '', gate: Promise.resolve() };
  const asked = fakeDaemon({
    'GET /ui-api/models': { models: [model()] },
    'GET /ui-api/loaded': { loaded: [loaded()] },
    'GET /ui-api/presets': { presets: [] },
    'GET /ui-api/folders': { folders: [] },
    'GET /ui-api/chats': () => ({ chats: [kept], next: null }),
    'GET /ui-api/chats/1': () => kept,
    'GET /ui-api/chats/1/messages': { messages: [], next: null },
    'PATCH /ui-api/chats/1': async ({ body }: Asked) => {
      const { revision, ...change } = body as Partial<UiChat>;
      await state.gate;
      if (state.refuse) return Response.json({ error: { message: state.refuse, code: null } }, { status: 503 });
      if (revision !== kept.revision) return Response.json({ error: { message: 'somebody was faster', code: null } }, { status: 409 });
      return (kept = { ...kept, ...change, revision: kept.revision + 1 });
    },
  });
  const changes = () => asked.filter(({ method }) => method === 'PATCH').map(({ body }) => body as Partial<UiChat>);
  const elsewhere = (change: Partial<UiChat>) => (kept = { ...kept, ...change, revision: kept.revision + 1 });
  return { state, changes, elsewhere, kept: () => kept };
}

const put = (field: HTMLElement, value: string) => {
  fireEvent.change(field, { target: { value } });
  fireEvent.blur(field);
};
const system = () => screen.getByRole<HTMLTextAreaElement>('textbox', { name: /^System prompt/ });
const opened = async () => {
  fireEvent.click(await screen.findByRole('button', { name: 'Options' }));
  await screen.findByLabelText('Temperature');
};
const toasts = () => useToasts.getState().toasts.map(({ text }) => text);

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

describe('changes of a chat', () => {
  it('made at once all count, each upon the one before', async () => {
    let open: () => void = () => undefined;
    const { state, changes, kept } = keeper();
    state.gate = new Promise((done) => (open = done));
    show(<ChatPane id={1} />);
    await opened();
    put(screen.getByLabelText('Temperature'), '0.7');
    put(screen.getByLabelText('Top-k'), '9');
    put(screen.getByLabelText('Temperature'), '0.9');
    await waitFor(() => expect(changes()).toHaveLength(1));
    await new Promise((done) => setTimeout(done, 50));
    expect(changes()).toHaveLength(1); // the others wait
    open();
    await waitFor(() => expect(changes()).toHaveLength(3));
    await waitFor(() => expect(kept()).toMatchObject({ revision: 4, parameters: { temperature: 0.9, top_k: 9 } }));
    expect(toasts()).toEqual([]);
  });
  it('lie beside what another window has changed', async () => {
    const { elsewhere, kept } = keeper();
    show(<ChatPane id={1} />);
    await opened();
    elsewhere({ title: 'Seas', parameters: { temperature: 0.5, top_k: 7 } });
    put(screen.getByLabelText('Temperature'), '0.7');
    await waitFor(() => expect(kept()).toMatchObject({ title: 'Seas', parameters: { temperature: 0.7, top_k: 7 } }));
    expect(toasts()).toEqual([]);
  });
  it('write nothing over that somebody else has written, and lose nothing either', async () => {
    const { elsewhere, kept } = keeper();
    show(<ChatPane id={1} />);
    await opened();
    elsewhere({ system: 'Be long.' });
    put(system(), 'Be exact.');
    await waitFor(() => expect(toasts()).toEqual(['somebody was faster']));
    expect(kept().system).toBe('Be long.');
    expect((await screen.findByRole('alert')).textContent).toBe('somebody was faster');
    expect(system().value).toBe('Be exact.');
    // Told of it, he still wants his own.
    await waitFor(() => {
      fireEvent.blur(system());
      expect(kept().system).toBe('Be exact.');
    });
  });
  it('of its system prompt that are refused stay, behind closed options, too', async () => {
    const { state, kept } = keeper();
    state.refuse = 'the disk is full';
    show(<ChatPane id={1} />);
    await opened();
    put(system(), 'Be exact.');
    expect((await screen.findByRole('alert')).textContent).toBe('the disk is full');
    fireEvent.click(screen.getByRole('button', { name: 'Options' }));
    await opened();
    expect([system().value, kept().system]).toEqual(['Be exact.', 'Be brief.']);
    state.refuse = '';
    fireEvent.blur(system());
    await waitFor(() => expect(kept().system).toBe('Be exact.'));
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
    expect(useDrafts.getState().drafts).toEqual({});
  });
  it('of its schema are found again behind another format', async () => {
    const schema = { type: 'object', properties: { mine: { type: 'string' } } };
    const { kept } = keeper({ parameters: { response_format: { type: 'json_schema', json_schema: { name: 'answer', schema } } } });
    show(<ChatPane id={1} />);
    await opened();
    const format = () => screen.getByRole<HTMLSelectElement>('combobox', { name: /^Answers? / });
    fireEvent.change(format(), { target: { value: 'text' } });
    await waitFor(() => expect(kept().parameters).toEqual({}));
    await waitFor(() => expect(format().value).toBe('text'));
    fireEvent.change(format(), { target: { value: 'json_schema' } });
    await waitFor(() => expect(kept().parameters).toMatchObject({ response_format: { json_schema: { schema } } }));
  });
  it('that is not begun yet are found again behind another page', async () => {
    keeper();
    const { unmount } = show(<ChatPane id={null} />);
    await opened();
    put(system(), 'Be exact.');
    put(screen.getByLabelText('Temperature'), '0.7');
    unmount();
    show(<ChatPane id={null} />);
    await opened();
    expect([system().value, screen.getByLabelText<HTMLInputElement>('Temperature').value]).toEqual(['Be exact.', '0.7']);
  });
  it('count when a key takes somebody elsewhere while he writes', async () => {
    useNavigation.getState().go({ page: 'chat', id: 1 });
    const { kept } = keeper();
    show(<ChatPane id={1} />);
    await opened();
    system().focus();
    fireEvent.change(system(), { target: { value: 'Be exact.' } });
    useNavigation.getState().go({ page: 'logs' });
    await waitFor(() => expect(kept().system).toBe('Be exact.'));
  });
});

describe('a name', () => {
  it('of a chat is kept when its field is left, and not when that is given up', async () => {
    const { kept, changes } = keeper();
    show(<ConversationList />);
    const rename = async () => {
      if (!screen.queryByRole('button', { name: 'Rename' })) fireEvent.click(await screen.findByRole('button', { name: /^More/ }));
      fireEvent.click(await screen.findByRole('button', { name: 'Rename' }));
      return screen.getByRole('textbox', { name: 'Title' });
    };
    put(await rename(), 'Seas');
    await waitFor(() => expect(kept().title).toBe('Seas'));
    await screen.findByRole('button', { name: 'Seas' });
    const field = await rename();
    fireEvent.change(field, { target: { value: 'Lakes' } });
    fireEvent.keyDown(field, { key: 'Escape' });
    expect(changes()).toHaveLength(1);
  });
});
