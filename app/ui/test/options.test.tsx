// What somebody changes of a chat: the last one counts, and nothing of it is lost to another change, another window or a refusal.
import { cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { UiChat, UiPreset } from '@/api/schema';
import { ChatPane } from '@/components/chat/ChatPane';
import { ConversationList } from '@/components/chat/ConversationList';
import { useDrafts } from '@/stores/drafts';
import { useNavigation } from '@/stores/navigation';
import { useToasts } from '@/stores/toasts';
import { chat, fakeDaemon, loaded, model, show, withSizes, type Asked } from './support';

configure({ asyncUtilTimeout: 15_000 });

/** A chat as the daemon keeps it: a change of another revision is refused, as is what `refuse` names. */
function keeper({ presets = [], ...fields }: Partial<UiChat> & { presets?: UiPreset[] } = {}) {
  let kept = chat({ parameters: { temperature: 0.5, top_k: 4 }, system: 'Be brief.', ...fields });
  const state = { refuse: '', gate: Promise.resolve() };
  const asked = fakeDaemon({
    'GET /ui-api/models': { models: [model()] },
    'GET /ui-api/loaded': { loaded: [loaded()] },
    'GET /ui-api/presets': { presets },
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
  it('write no parameter over that somebody else has chosen, unless it is the same', async () => {
    const { elsewhere, kept } = keeper();
    show(<ChatPane id={1} />);
    await opened();
    elsewhere({ parameters: { temperature: 0.2, top_k: 9 } });
    put(screen.getByLabelText('Top-k'), '9');
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Temperature').value).toBe('0.2'));
    expect(toasts()).toEqual([]);
    elsewhere({ parameters: { temperature: 0.3, top_k: 9 } });
    put(screen.getByLabelText('Temperature'), '0.7');
    await waitFor(() => expect(toasts()).toEqual(['somebody was faster']));
    expect(kept().parameters).toEqual({ temperature: 0.3, top_k: 9 });
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Temperature').value).toBe('0.3'));
  });
  it('tell of a system prompt that another window has written since they were begun', async () => {
    const { elsewhere, kept } = keeper();
    show(<ChatPane id={1} />);
    await opened();
    /** As the page hears of it: what it changes itself is laid upon it. */
    const heard = async (change: Partial<UiChat>, top_k: string) => {
      elsewhere(change);
      put(screen.getByLabelText('Top-k'), top_k);
      await screen.findByRole('heading', { name: change.title ?? '' });
      await waitFor(() => expect(kept().parameters).toMatchObject({ top_k: Number(top_k) }));
    };
    fireEvent.change(system(), { target: { value: 'Be exact.' } });
    await heard({ title: 'Seas', system: 'Be long.' }, '7');
    fireEvent.blur(system());
    expect((await screen.findByRole('alert')).textContent).toContain('changed elsewhere');
    expect([system().value, kept().system]).toEqual(['Be exact.', 'Be long.']);
    fireEvent.blur(system());
    await waitFor(() => expect(kept().system).toBe('Be exact.'));
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
    // Where nothing came of it there is nothing to tell.
    fireEvent.change(system(), { target: { value: 'Be' } });
    await heard({ title: 'Lakes', system: 'Be kind.' }, '8');
    fireEvent.change(system(), { target: { value: 'Be exact.' } });
    fireEvent.blur(system());
    await waitFor(() => expect(system().value).toBe('Be kind.'));
    expect([screen.queryByRole('alert'), kept().system]).toEqual([null, 'Be kind.']);
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

describe('a schema of answers', () => {
  const of = (name: string) => ({ type: 'object', properties: { [name]: { type: 'string' } } });
  const bound = (name: string) => ({ response_format: { type: 'json_schema' as const, json_schema: { name: 'answer', schema: of(name) } } });
  const text = (name: string) => JSON.stringify(of(name), null, 2);
  const format = () => screen.getByRole<HTMLSelectElement>('combobox', { name: /^Answers? / });
  const choose = async (kind: string) => {
    fireEvent.change(format(), { target: { value: kind } });
    await waitFor(() => expect(format().value).toBe(kind));
  };
  const box = () => screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'JSON Schema' });

  it('that is left lies over no other one', async () => {
    const { elsewhere, kept } = keeper({ parameters: bound('mine') });
    show(<ChatPane id={1} />);
    await opened();
    await choose('text');
    await waitFor(() => expect(kept().parameters).toEqual({}));
    elsewhere({ parameters: bound('theirs') });
    put(screen.getByLabelText('Temperature'), '0.7');
    expect((await box()).value).toBe(text('theirs'));
    fireEvent.blur(await box());
    await waitFor(() => expect(kept().parameters).toMatchObject({ temperature: 0.7 }));
    expect(kept().parameters).toMatchObject(bound('theirs'));
  });
  it('gives way to that of a preset', async () => {
    const preset = { id: 4, name: 'P', model: '', system: 'Be brief.', parameters: bound('preset'), revision: 1, created_ms: 1, modified_ms: 1 };
    const { kept } = keeper({ parameters: bound('mine'), presets: [preset] });
    show(<ChatPane id={1} />);
    await opened();
    put(await box(), '{');
    await screen.findByRole('alert');
    await screen.findByRole('option', { name: 'P' });
    fireEvent.change(screen.getByRole('combobox', { name: 'Preset' }), { target: { value: '4' } });
    await waitFor(() => expect(kept().parameters).toMatchObject(bound('preset')));
    await waitFor(async () => expect((await box()).value).toBe(text('preset')));
    expect(screen.queryByRole('alert')).toBeNull();
  });
  it('that is none is there to be put right, with the reason, behind another format', async () => {
    const { kept } = keeper({ parameters: bound('mine') });
    show(<ChatPane id={1} />);
    await opened();
    put(await box(), '{');
    await screen.findByRole('alert');
    await choose('text');
    await choose('json_schema');
    expect((await box()).value).toBe('{');
    expect(screen.getByRole('textbox', { name: 'JSON Schema', description: /no JSON object/ })).toBe(await box());
    put(await box(), text('mine'));
    await waitFor(() => expect(kept().parameters).toMatchObject(bound('mine')));
    await waitFor(() => expect(screen.queryByRole('alert')).toBeNull());
  });
  it('is found again when another format is chosen before it was taken', async () => {
    let open: () => void = () => undefined;
    const { state, kept } = keeper({ parameters: bound('mine') });
    state.gate = new Promise((done) => (open = done));
    show(<ChatPane id={1} />);
    await opened();
    put(await box(), text('newer'));
    await choose('text');
    open();
    await waitFor(() => expect(kept()).toMatchObject({ revision: 3, parameters: {} }));
    await choose('json_schema');
    await waitFor(() => expect(kept().parameters).toMatchObject(bound('newer')));
    expect((await box()).value).toBe(text('newer'));
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
