// What the settings change in the page, and what becomes of a change that the daemon does not get at once.
import { cleanup, configure, fireEvent, screen, waitFor, within } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import ChatPage from '@/components/chat/ChatPage';
import { ConversationList } from '@/components/chat/ConversationList';
import { PresetBar } from '@/components/chat/PresetBar';
import { Confirmation } from '@/components/layout/Confirmation';
import { Toasts } from '@/components/layout/Toasts';
import { ModelActions } from '@/components/models/ModelActions';
import { ModelNames } from '@/components/models/ModelNames';
import { GeneralPanel } from '@/components/settings/GeneralPanel';
import { DEFAULTS, usePreferences } from '@/stores/preferences';
import { chat, fakeDaemon, model, show, withDialogs, withSizes, type Asked } from './support';

configure({ asyncUtilTimeout: 15_000 });

beforeEach(() => {
  withDialogs();
  withSizes();
});
afterEach(() => {
  cleanup();
  vi.useRealTimers();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  usePreferences.setState({ settings: DEFAULTS });
});

const press = (name: string | RegExp) => fireEvent.click(screen.getByRole('button', { name }));
const folder = { id: 3, name: 'Work', n_chats: 0, revision: 1, created_ms: 1, modified_ms: 1 };
const preset = { id: 5, name: 'Terse', model: '', system: 'Be brief.', parameters: {}, revision: 1, created_ms: 1, modified_ms: 1 };

const deletions = [
  {
    what: 'a chat', name: 'Rivers', url: '/ui-api/chats/1', element: <ConversationList />,
    press: async () => {
      fireEvent.click(await screen.findByRole('button', { name: 'More about Rivers' }));
      press('Delete');
    },
  },
  {
    what: 'a folder', name: 'Work', url: '/ui-api/folders/3', element: <ConversationList />,
    press: async () => {
      await screen.findByRole('option', { name: 'Work (0)' });
      fireEvent.change(screen.getByLabelText('Folder'), { target: { value: '3' } });
      press('Delete this folder; its chats stay');
    },
  },
  {
    what: 'a preset', name: 'Terse', url: '/ui-api/presets/5',
    element: <PresetBar value={{ system: preset.system, parameters: {} }} model="m" onChoose={() => undefined} />,
    press: async () => {
      fireEvent.click(await screen.findByRole('button', { name: 'Delete the preset Terse' }));
    },
  },
  {
    what: 'a model', name: 'm', url: '/ui-api/models/m?grace_s=20', element: <ModelActions row={{ ...model(), loaded: undefined }} />,
    press: async () => {
      fireEvent.click(await screen.findByRole('button', { name: 'Delete m' }));
    },
  },
  {
    what: 'a name of a model', name: 'also-m', url: '/ui-api/models/also-m', element: <ModelNames name="m" />,
    press: async () => {
      fireEvent.click(await screen.findByRole('button', { name: 'Delete the name also-m' }));
    },
  },
]; // prettier-ignore

describe('before something is deleted', () => {
  it.each(deletions)('it is asked whether $what is to go, if the settings say so', async ({ name, url, element, press: pressDelete }) => {
    const asked = fakeDaemon({
      'GET /ui-api/chats': { chats: [chat()], next: null },
      'GET /ui-api/folders': { folders: [folder] },
      'GET /ui-api/presets': { presets: [preset] },
      'GET /ui-api/models': { models: [model(), model({ name: 'also-m', alias_of: 'm' })] },
      'GET /ui-api/loaded': { loaded: [] },
      [`DELETE ${url.split('?')[0] ?? ''}`]: {},
    });
    const gone = () => asked.filter(({ method }) => method === 'DELETE').map((one) => one.url);
    usePreferences.setState({ settings: { ...DEFAULTS, confirm_delete: true } });
    show(<>{element}<Confirmation /></>); // prettier-ignore
    await pressDelete();
    const dialog = () => within(screen.getByRole('dialog', { name: `Delete “${name}”?` }));
    fireEvent.click(dialog().getByRole('button', { name: 'Cancel' }));
    expect(screen.queryByRole('dialog')).toBeNull();
    expect(gone()).toEqual([]);
    fireEvent.click(screen.getByRole('button', { name: /^Delete/ }));
    fireEvent.click(dialog().getByRole('button', { name: 'Delete' }));
    await waitFor(() => expect(gone()).toEqual([url]));
    expect(screen.queryByRole('dialog')).toBeNull();
  });
  it.each(deletions)('nothing is asked about $what otherwise: there is a way back where something is lost', async ({ url, element, press: pressDelete }) => {
    const asked = fakeDaemon({
      'GET /ui-api/chats': { chats: [chat()], next: null },
      'GET /ui-api/folders': { folders: [folder] },
      'GET /ui-api/presets': { presets: [preset] },
      'GET /ui-api/models': { models: [model(), model({ name: 'also-m', alias_of: 'm' })] },
      'GET /ui-api/loaded': { loaded: [] },
    });
    show(<>{element}<Confirmation /></>); // prettier-ignore
    await pressDelete();
    expect(screen.queryByRole('dialog')).toBeNull();
    await waitFor(() => expect(asked.filter(({ method }) => method === 'DELETE').map((one) => one.url)).toEqual([url]));
  });
});

describe('a preset that new chats begin with', () => {
  it('is what they begin with again when its deletion is taken back', async () => {
    const kept: unknown[] = [];
    let there = [preset];
    fakeDaemon({
      'GET /ui-api/presets': () => ({ presets: there }),
      'DELETE /ui-api/presets/5': () => {
        there = [];
        return {};
      },
      'POST /ui-api/presets': () => {
        there = [{ ...preset, id: 6 }];
        return there[0];
      },
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) => {
        kept.push(body.values);
        return { version: 1, revision: kept.length, values: body.values };
      },
    });
    usePreferences.setState({ settings: { ...DEFAULTS, default_preset: 5 } });
    const bar = show(<PresetBar value={{ system: preset.system, parameters: {} }} model="m" onChoose={() => undefined} />);
    fireEvent.click(await screen.findByRole('button', { name: 'Delete the preset Terse' }));
    await waitFor(() => expect(kept).toEqual([{ default_preset: null }]));
    // The options may have been closed meanwhile.
    bar.unmount();
    show(<Toasts />);
    press('Undo');
    await waitFor(() => expect(kept).toEqual([{ default_preset: null }, { default_preset: 6 }]));
  });
});

describe('the list of chats', () => {
  it('is beside the chat, or not, as the settings have it, and its button changes them', async () => {
    const kept: unknown[] = [];
    fakeDaemon({
      'GET /ui-api/chats': { chats: [chat()], next: null },
      'GET /ui-api/folders': { folders: [] },
      'GET /ui-api/models': { models: [model()] },
      'GET /ui-api/loaded': { loaded: [] },
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) => {
        kept.push(body.values);
        return { version: 1, revision: kept.length, values: body.values };
      },
    });
    show(<><ChatPage /><GeneralPanel /></>); // prettier-ignore
    const list = screen.getByRole('complementary', { name: 'Chats' });
    const isBeside = () => list.parentElement?.classList.contains('md:block');
    const button = screen.getByRole('button', { name: 'List of chats' });
    expect([isBeside(), button.getAttribute('aria-expanded')]).toEqual([true, 'true']);
    fireEvent.click(button);
    expect([isBeside(), button.getAttribute('aria-expanded')]).toEqual([false, 'false']);
    expect(screen.getByLabelText<HTMLInputElement>('Show the list of chats').checked).toBe(false);
    await waitFor(() => expect(kept).toEqual([{ sidebar: false }]));
    fireEvent.click(screen.getByLabelText('Show the list of chats'));
    expect(isBeside()).toBe(true);
    await waitFor(() => expect(kept.at(-1)).toEqual({ sidebar: true }));
  });
});

describe('a change that the daemon does not take at once', () => {
  const fresh = () => {
    localStorage.clear();
    return reload();
  };
  /** The page, anew: of the one before there is what it has stored. */
  const reload = async () => {
    vi.useRealTimers();
    vi.resetModules();
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    const { usePreferences: preferences } = await import('@/stores/preferences');
    const { useToasts } = await import('@/stores/toasts');
    return { preferences: () => preferences.getState(), told: () => useToasts.getState().toasts.map(({ text }) => text) };
  };
  const all = (parts: readonly object[]) => Object.assign({}, ...parts) as object;
  const patches = (asked: readonly Asked[]) => asked.filter(({ method }) => method === 'PATCH').length;

  it('stays while the daemon is away, and is sent when it is back', async () => {
    const { preferences, told } = await fresh();
    let away = true;
    const kept: unknown[] = [];
    const asked = fakeDaemon({
      'GET /ui-api/settings': () => {
        if (away) throw new TypeError('Failed to fetch');
        return { version: 1, revision: 7, values: { theme: 'light', send_key: 'ctrl_enter' } };
      },
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) => {
        if (away) throw new TypeError('Failed to fetch');
        kept.push(body.values);
        return { version: 1, revision: 8, values: { theme: 'light', send_key: 'ctrl_enter', ...body.values } };
      },
    });
    preferences().change({ theme: 'dark', text_size: 18 });
    await vi.advanceTimersByTimeAsync(1000);
    preferences().change({ text_size: 20 });
    await vi.advanceTimersByTimeAsync(5000);
    expect(patches(asked)).toBeGreaterThan(1);
    expect(patches(asked)).toBeLessThan(6);
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 20 });
    away = false;
    await preferences().read();
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 20, send_key: 'ctrl_enter' });
    await vi.advanceTimersByTimeAsync(5000);
    expect(kept).toEqual([{ theme: 'dark', text_size: 20 }]);
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 20, send_key: 'ctrl_enter' });
    expect(told()).toEqual([]); // the page has a banner for that
  });

  it('outlives the page that was closed while the daemon was away', async () => {
    const before = await fresh();
    let away = true;
    const kept: object[] = [];
    const asked = fakeDaemon({
      'GET /ui-api/settings': () => {
        if (away) throw new TypeError('Failed to fetch');
        return { version: 1, revision: 7, values: { theme: 'light', wrap_code: true, ...all(kept) } };
      },
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) => {
        if (away) throw new TypeError('Failed to fetch');
        kept.push(body.values);
        return { version: 1, revision: 8, values: { theme: 'light', wrap_code: true, ...all(kept) } };
      },
    });
    before.preferences().change({ theme: 'dark', text_size: 18 });
    await vi.advanceTimersByTimeAsync(1000);
    const { preferences } = await reload();
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 18 });
    await preferences().read();
    await vi.advanceTimersByTimeAsync(5000);
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 18 });
    away = false;
    await preferences().read();
    await vi.advanceTimersByTimeAsync(5000);
    expect(kept).toEqual([{ theme: 'dark', text_size: 18 }]);
    expect(preferences().settings).toMatchObject({ theme: 'dark', text_size: 18, wrap_code: true });
    const sent = patches(asked);
    const last = await reload();
    await last.preferences().read();
    await vi.advanceTimersByTimeAsync(5000);
    expect(patches(asked)).toBe(sent); // the daemon has it: nothing is left to send
    expect(last.preferences().settings).toMatchObject({ theme: 'dark', text_size: 18, wrap_code: true });
  });

  it('is not taken back because of another one that is refused', async () => {
    const { preferences, told } = await fresh();
    const kept: object[] = [];
    const asked = fakeDaemon({
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) => {
        if ('default_model' in body.values) return Response.json({ error: { message: 'default_model: no' } }, { status: 400 });
        kept.push(body.values);
        return { version: 1, revision: kept.length, values: all(kept) };
      },
    });
    preferences().change({ theme: 'dark', default_model: 'x', text_size: 18 });
    await vi.advanceTimersByTimeAsync(9000);
    expect(kept).toEqual([{ theme: 'dark' }, { text_size: 18 }]);
    expect(preferences().settings).toMatchObject({ theme: 'dark', default_model: '', text_size: 18 });
    expect(told()).toEqual(['default_model: no']);
    expect(patches(asked)).toBe(4);
    const { preferences: later } = await reload();
    expect(later().settings).toMatchObject({ theme: 'dark', default_model: '', text_size: 18 });
  });

  it('is taken back where the daemon refuses it', async () => {
    const { preferences, told } = await fresh();
    const asked = fakeDaemon({ 'PATCH /ui-api/settings': () => Response.json({ error: { message: 'theme: no' } }, { status: 400 }) });
    preferences().change({ theme: 'dark' });
    expect(preferences().settings.theme).toBe('dark');
    await vi.advanceTimersByTimeAsync(1000);
    expect(preferences().settings.theme).toBe('auto');
    expect(told()).toEqual(['theme: no']);
    await vi.advanceTimersByTimeAsync(9000);
    expect(patches(asked)).toBe(1);
  });

  it('is tried again where the daemon could not keep it, which is told once', async () => {
    const { preferences, told } = await fresh();
    let full = true;
    const asked = fakeDaemon({
      'PATCH /ui-api/settings': ({ body }: { body: { values: object } }) =>
        full ? Response.json({ error: { message: 'the disk is full' } }, { status: 500 }) : { version: 1, revision: 1, values: body.values },
    });
    preferences().change({ theme: 'dark' });
    await vi.advanceTimersByTimeAsync(5000);
    expect(patches(asked)).toBeGreaterThan(1);
    expect(told()).toEqual(['the disk is full']);
    full = false;
    await vi.advanceTimersByTimeAsync(3000);
    const sent = patches(asked);
    await vi.advanceTimersByTimeAsync(9000);
    expect(patches(asked)).toBe(sent);
    expect(preferences().settings.theme).toBe('dark');
  });
});
