import { cleanup, configure, createEvent, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { UiDirectory, UiOptions } from '@/api/schema';
import { ConfigEditor } from '@/components/settings/ConfigEditor';
import { KeyboardShortcuts } from '@/components/settings/KeyboardShortcuts';
import { PathPicker } from '@/components/settings/PathPicker';
import { PathsPanel } from '@/components/settings/PathsPanel';
import { PerformancePanel } from '@/components/settings/PerformancePanel';
import { UpdatesPanel } from '@/components/settings/UpdatesPanel';
import { DEFAULTS, usePreferences } from '@/stores/preferences';
import { useToasts } from '@/stores/toasts';
import { fakeDaemon, options, show, withDialogs, type Asked } from './support';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

beforeEach(withDialogs);
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
  useToasts.setState({ toasts: [] });
  usePreferences.setState({ settings: DEFAULTS });
});

/** What PATCH asked the daemon for, in order. */
const patches = (asked: readonly Asked[]) => asked.filter(({ method }) => method === 'PATCH').map(({ body }) => body);

describe('panels of the daemon’s options', () => {
  it('PerformancePanel changes options, of which the daemon has the last word', async () => {
    let now = options({ threads: 4 }, {}, ['parallel']);
    const asked = fakeDaemon({
      'GET /ui-api/options': now,
      'PATCH /ui-api/options': ({ body }: { body: { values: UiOptions['saved'] } }) => {
        if (body.values.ctx) return Response.json({ error: { message: 'ctx: more than this machine can hold' } }, { status: 400 });
        now = options({ ...now.saved, ...body.values }, { restart_needed: true }, ['parallel']);
        return now;
      },
      'POST /ui-api/restart': {},
    });
    show(<PerformancePanel />);
    const write = (label: string, value: string) => {
      fireEvent.change(screen.getByLabelText(label), { target: { value } });
      fireEvent.blur(screen.getByLabelText(label));
    };
    expect((await screen.findByLabelText<HTMLInputElement>('Threads')).value).toBe('4');
    expect(screen.getByLabelText('Answers at once').hasAttribute('disabled')).toBe(true);
    expect(screen.getByText('The command line says this (--parallel); it goes before the file.')).toBeTruthy();
    write('Memory for the KV cache', 'much');
    expect(screen.getByRole('alert').textContent).toBe('A size such as 512M or 4G is needed.');
    expect(patches(asked)).toEqual([]);
    write('Memory for the KV cache', '512M');
    await waitFor(() => expect(screen.getByText('Some changes take effect when the daemon starts anew.')).toBeTruthy());
    expect(screen.queryByRole('alert')).toBeNull();
    fireEvent.click(screen.getByLabelText('Results never depend on other requests'));
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Results never depend on other requests').checked).toBe(true));
    fireEvent.change(screen.getByLabelText('Speculation'), { target: { value: 'ngram' } });
    await waitFor(() => expect(screen.getByLabelText<HTMLSelectElement>('Speculation').value).toBe('ngram'));
    fireEvent.click(screen.getByRole('button', { name: 'Reset Threads' }));
    await waitFor(() => expect(patches(asked)).toHaveLength(4));
    write('Longest context', '1000000');
    expect((await screen.findByRole('alert')).textContent).toBe('ctx: more than this machine can hold');
    expect(patches(asked)).toEqual([{ kv_bytes: 512 << 20 }, { batch_invariant: true }, { draft: 'ngram' }, { threads: null }, { ctx: 1_000_000 }].map((values) => ({ values })));
    for (const [written, bytes] of [['4G', 4 * 2 ** 30], ['-1', -1]] as const) {
      write('Memory for experts', written);
      await waitFor(() => expect(patches(asked).at(-1)).toEqual({ values: { expert_bytes: bytes } }));
      await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Memory for experts').value).toBe(written));
    }
    for (let n = 0; n < 2; n++) fireEvent.click(screen.getByRole('button', { name: 'Restart the daemon' }));
    await waitFor(() => expect(asked.find(({ url }) => url === '/ui-api/restart')?.body).toEqual({ now: false }));
  });
  it('PerformancePanel sends numbers as numbers, also where they are chosen from a list', async () => {
    const asked = fakeDaemon({ 'GET /ui-api/options': options(), 'PATCH /ui-api/options': options({ activations: 8 }) });
    show(<PerformancePanel />);
    const field = await screen.findByLabelText<HTMLSelectElement>('Activations');
    expect(field.value).toBe('16');
    fireEvent.change(field, { target: { value: '8' } });
    await waitFor(() => expect(screen.getByLabelText<HTMLSelectElement>('Activations').value).toBe('8'));
    expect(patches(asked)).toEqual([{ values: { activations: 8 } }]);
  });
  it('PerformancePanel changes nothing that cannot be kept', async () => {
    fakeDaemon({ 'GET /ui-api/options': options({}, { writable: false }) });
    show(<PerformancePanel />);
    await screen.findByText('The options cannot be changed here: /etc/mlxr.json cannot be written.');
    const controls = [...screen.getAllByRole('textbox'), ...screen.getAllByRole('combobox'), ...screen.getAllByRole('checkbox')];
    // The folder of the disk cache is another panel's.
    expect(controls).toHaveLength(options().options.filter(({ name }) => !['kv_dir', 'rope_scale', 'rope_base', 'rope_original'].includes(name) && !name.startsWith('yarn_')).length);
    for (const one of controls) expect(one.hasAttribute('disabled')).toBe(true);
  });
  it('PathsPanel shows where things lie and how much room there is, and takes a folder that is chosen', async () => {
    const folder: UiDirectory = { path: '/var/kv', parent: '/var', folders: ['old'], files: [], left_out: 0, places: [] };
    const asked = fakeDaemon({
      'GET /ui-api/options': options({ kv_dir: '/var/kv' }),
      'GET /ui-api/directories': ({ url }: Asked) => (url.includes('path=%2Fvar%2Fkv%2Fold') ? { ...folder, path: '/var/kv/old', folders: [] } : folder),
      'PATCH /ui-api/options': options({ kv_dir: '/var/kv/old' }),
    });
    show(<PathsPanel />);
    const row = (label: string) => {
      const term = screen.getAllByText(label).find(({ tagName }) => tagName === 'DT');
      return [...(term?.parentElement?.children ?? [])].map(({ textContent }) => textContent);
    };
    const field = await screen.findByLabelText<HTMLInputElement>('Folder of the disk cache');
    expect(row('Models')).toEqual(['Models', '/srv/models', '3.0 MiB free']);
    expect(row('Socket')).toEqual(['Socket', '/run/mlxr.sock', '']);
    expect(field.value).toBe('/var/kv');
    fireEvent.click(screen.getByRole('button', { name: 'Choose…' }));
    fireEvent.click(await screen.findByRole('button', { name: 'old' }));
    await screen.findByText('There is no folder in it.');
    fireEvent.click(screen.getByRole('button', { name: 'Take this folder' }));
    await waitFor(() => expect(patches(asked)).toEqual([{ values: { kv_dir: '/var/kv/old' } }]));
    await waitFor(() => expect(screen.getByLabelText<HTMLInputElement>('Folder of the disk cache').value).toBe('/var/kv/old'));
    expect(screen.queryByRole('dialog')).toBeNull();
  });
  it('UpdatesPanel tells what the program is, and copies it; it asks nobody about newer ones', async () => {
    const asked = fakeDaemon({ 'GET /ui-api/options': options() });
    const writeText = vi.fn(() => Promise.resolve());
    vi.stubGlobal('navigator', { clipboard: { writeText } });
    show(<UpdatesPanel />);
    for (const text of ['1.2.3', 'Linux, x86_64', 'avx2', 'gcc 14']) await screen.findByText(text);
    expect(screen.getByRole('status').textContent).toContain('MLXR asks no server');
    fireEvent.click(screen.getByRole('button', { name: 'Copy these facts' }));
    await waitFor(() => expect(useToasts.getState().toasts.map(({ text }) => text)).toEqual(['Copied']));
    expect(writeText).toHaveBeenCalledWith('Version: 1.2.3\nSystem: Linux, x86_64\nComputes with: cpu\nCPU features in use: avx2\nThreads: 2\nCompiled with: gcc 14');
    expect(asked.map(({ url }) => url)).toEqual(['/ui-api/options']);
    cleanup();
    fakeDaemon({ 'GET /ui-api/options': options({}, { build: { ...options().build, replaced: true, cpu_features: '' } }) });
    show(<UpdatesPanel />);
    await waitFor(() => expect(screen.getByRole('status').textContent).toContain('was replaced since this one started'));
    expect(screen.getByText('none')).toBeTruthy();
  });
  it('ConfigEditor has the daemon check what is typed, says where it is wrong, and saves what is right', async () => {
    const asked = fakeDaemon({
      'GET /ui-api/options': options({ threads: 4 }),
      'PATCH /ui-api/options': ({ body }: { body: { values: Record<string, unknown> } }) =>
        body.values.kv_type === 'q9' ? Response.json({ error: { message: 'kv_type: q9 is none' } }, { status: 400 }) : options({ threads: 8 }),
    });
    show(<ConfigEditor />);
    const box = await screen.findByRole<HTMLTextAreaElement>('textbox', { name: 'File of options' });
    const save = () => screen.getByRole('button', { name: 'Save' });
    const type = (value: string) => fireEvent.change(box, { target: { value } });
    expect(box.value).toBe('{\n  "threads": 4\n}\n');
    expect(screen.getByText(/^\/etc\/mlxr\.json/)).toBeTruthy();
    type('{\n  "threads": 8,\n}\n');
    expect(box.getAttribute('aria-invalid')).toBe('true');
    expect(save().hasAttribute('disabled')).toBe(true);
    type('{\n  "threads": 8,\n  "kv_type": "q9"\n}\n');
    fireEvent.click(await screen.findByRole('button', { name: 'Line 3' }));
    expect(box.value.slice(box.selectionStart, box.selectionEnd)).toBe('  "kv_type": "q9"');
    expect(screen.getByText('kv_type: q9 is none')).toBeTruthy();
    expect(save().hasAttribute('disabled')).toBe(true);
    fireEvent.click(screen.getByRole('button', { name: 'Discard' }));
    expect(box.value).toBe('{\n  "threads": 4\n}\n');
    type('{ "threads": 8 }');
    await screen.findByText('These values are taken.');
    fireEvent.click(save());
    await waitFor(() => expect(box.value).toBe('{\n  "threads": 8\n}\n'));
    expect(patches(asked)).toEqual([
      { values: { threads: 8, kv_type: 'q9' }, check_only: true },
      { values: { threads: 8 }, check_only: true },
      { values: { threads: 8 } },
    ]);
  });
});

describe('what settings are made with', () => {
  it('PathPicker goes through the daemon’s folders, or where it is told, and gives the one that is taken', async () => {
    const at = (path: string, fields: Partial<UiDirectory>): UiDirectory => ({ path, parent: null, folders: [], files: [], left_out: 0, places: [], ...fields });
    const folders: Record<string, UiDirectory> = {
      '': at('/home/me', { parent: '/home', folders: ['a'], left_out: 7 }),
      '/home/me/a': at('/home/me/a', { parent: '/home/me' }),
      '/home/me': at('/home/me', { parent: '/home', folders: ['a', '.b'], files: [{ name: 'no.gguf', bytes: 1 }] }),
    };
    const asked = fakeDaemon({
      'GET /ui-api/directories': ({ url }: Asked) => {
        const path = new URL(url, 'http://x').searchParams.get('path') ?? '';
        return folders[path] ?? Response.json({ error: { message: `${path}: not there` } }, { status: 404 });
      },
    });
    const onPick = vi.fn();
    show(<PathPicker label="Where to" onPick={onPick} onClose={() => undefined} />);
    const field = screen.getByRole<HTMLInputElement>('textbox', { name: 'Path' });
    await waitFor(() => expect(field.value).toBe('/home/me'));
    expect(screen.getByText('7 more are not shown.')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'a' }));
    await screen.findByText('There is no folder in it.');
    fireEvent.click(screen.getByRole('button', { name: 'The folder above' }));
    await screen.findByRole('button', { name: '.b' });
    expect(screen.queryByText('no.gguf')).toBeNull();
    fireEvent.click(screen.getByRole('checkbox', { name: 'Show hidden ones' }));
    await waitFor(() => expect(asked.at(-1)?.url).toBe('/ui-api/directories?path=%2Fhome%2Fme&hidden=true'));
    const take = screen.getByRole('button', { name: 'Take this folder' });
    fireEvent.change(field, { target: { value: ' /nowhere ' } });
    fireEvent.click(screen.getByRole('button', { name: 'Go' }));
    expect((await screen.findByRole('alert')).textContent).toBe('/nowhere: not there');
    expect(take.hasAttribute('disabled')).toBe(true);
    fireEvent.change(field, { target: { value: '/home/me/a' } });
    fireEvent.submit(field);
    await waitFor(() => expect(take.hasAttribute('disabled')).toBe(false));
    await screen.findByText('There is no folder in it.');
    fireEvent.click(take);
    expect(onPick.mock.calls).toEqual([['/home/me/a']]);
  });
  it('PathPicker gives a model file where one is meant', async () => {
    fakeDaemon({ 'GET /ui-api/directories': { path: '/', parent: null, folders: ['srv'], files: [{ name: 'm.gguf', bytes: 2048 }], left_out: 0, places: [] } });
    const onPick = vi.fn();
    const onClose = vi.fn();
    show(<PathPicker files label="Which" onPick={onPick} onClose={onClose} />);
    fireEvent.click(await screen.findByRole('button', { name: /m\.gguf\s*2\.0 KiB/ }));
    expect(onPick.mock.calls).toEqual([['/m.gguf']]);
    expect(screen.queryByRole('button', { name: 'Take this folder' })).toBeNull();
    fireEvent.click(screen.getByRole('button', { name: 'Cancel' }));
    expect(onClose).toHaveBeenCalled();
  });
  it('KeyboardShortcuts take the keys that are pressed, and say which cannot be', async () => {
    const kept: unknown[] = [];
    fakeDaemon({
      'PATCH /ui-api/settings': ({ body }: { body: { values: Partial<typeof DEFAULTS> } }) => {
        kept.push(body.values.shortcuts);
        return { version: 1, revision: kept.length, values: body.values };
      },
    });
    show(<KeyboardShortcuts />);
    const button = (action: string) => screen.getByRole('button', { name: new RegExp(`^${action}: .*Change$`) });
    const press = (action: string, keys: { key: string; code?: string; ctrlKey?: boolean; altKey?: boolean }) => {
      if (button(action).getAttribute('aria-pressed') === 'false') fireEvent.click(button(action));
      const event = createEvent.keyDown(button(action), keys);
      fireEvent(button(action), event);
      return event;
    };
    const said = () => screen.getByRole('status').textContent;
    expect(button('Next theme').textContent).toBe('Alt+T');
    expect(press('Next theme', { key: 'y', code: 'KeyY' }).defaultPrevented).toBe(true);
    expect(said()).toBe('Y: Ctrl, ⌘ or Alt must be part of it, or a function key.');
    press('Next theme', { key: 'w', ctrlKey: true });
    expect(said()).toBe('Ctrl+W belongs to the browser.');
    press('Next theme', { key: 'n', altKey: true });
    expect(said()).toBe('Alt+N is taken: New chat');
    expect(button('Next theme').textContent).toBe('Press keys…');
    press('Next theme', { key: 'y', altKey: true });
    expect(button('Next theme').textContent).toBe('Alt+Y');
    expect(said()).toBe('');
    // What nobody listens for is left to the browser, and so is the way on with Tab.
    const other = createEvent.keyDown(button('Next theme'), { key: 'q', altKey: true });
    fireEvent(button('Next theme'), other);
    expect(other.defaultPrevented).toBe(false);
    expect(press('New chat', { key: 'Tab' }).defaultPrevented).toBe(false);
    press('New chat', { key: 'Escape' });
    expect(button('New chat').textContent).toBe('Alt+N');
    press('New chat', { key: 'Delete' });
    expect(button('New chat').textContent).toBe('none');
    expect(usePreferences.getState().settings.shortcuts).toEqual({ theme: 'Alt+Y', new_chat: '' });
    fireEvent.click(screen.getByRole('button', { name: 'Reset Next theme' }));
    expect(button('Next theme').textContent).toBe('Alt+T');
    expect(usePreferences.getState().settings.shortcuts).toEqual({ new_chat: '' });
    await waitFor(() => expect(kept.at(-1)).toEqual({ new_chat: '' }));
  });
});
