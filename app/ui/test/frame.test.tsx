import { act, cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import CommandPalette from '@/components/layout/CommandPalette';
import { ConnectionBanner } from '@/components/layout/ConnectionBanner';
import { Navigation } from '@/components/layout/Navigation';
import { TrayPopover } from '@/components/layout/TrayPopover';
import { LogEntry } from '@/components/logs/LogEntry';
import LogViewer from '@/components/logs/LogViewer';
import { ModelActions } from '@/components/models/ModelActions';
import { ModelCard } from '@/components/models/ModelCard';
import { ModelDetailDrawer } from '@/components/models/ModelDetailDrawer';
import { ModelImport } from '@/components/models/ModelImport';
import { ModelPullDialog } from '@/components/models/ModelPullDialog';
import { ModelStats } from '@/components/models/ModelStats';
import { RegistryTable } from '@/components/models/RegistryTable';
import { DaemonControl } from '@/components/settings/DaemonControl';
import { GeneralPanel } from '@/components/settings/GeneralPanel';
import { PrivacyPanel } from '@/components/settings/PrivacyPanel';
import { SettingRow } from '@/components/settings/SettingRow';
import { copyText } from '@/lib/clipboard';
import { useLogs } from '@/stores/logs';
import { useNavigation } from '@/stores/navigation';
import { DEFAULTS, usePreferences } from '@/stores/preferences';
import { useToasts } from '@/stores/toasts';
import { chat, fakeDaemon, loaded, model, options, sentFiles, show, status, withDialogs, withSizes, type SentFile } from './support';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const entry = { name: 'SmolLM2', source: 's', about: 'small', n_params: 135e6, bytes: 98362432, memory_bytes: 2e8, digest: null, exact: true, first: true };

beforeEach(() => {
  withSizes();
  Element.prototype.scrollIntoView = () => undefined;
  withDialogs();
});
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
  vi.restoreAllMocks();
});

describe('components of models', () => {
  it('RegistryTable shows what there is, sorted, filtered, and what is in memory', () => {
    fakeDaemon({});
    const rows = [{ ...model({ name: 'b', bytes: 2 }), loaded: loaded() }, { ...model({ name: 'a', bytes: 3, why_not: 'cut off' }), loaded: undefined }];
    show(<RegistryTable rows={rows} />);
    const names = () => screen.getAllByRole('row').slice(1).map((row) => row.querySelector('td')?.textContent);
    expect(names()).toEqual(['a', 'b']);
    expect(screen.getByText('In memory')).toBeTruthy();
    expect(screen.getByTitle('cut off')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: /^Size/ }));
    expect(names()).toEqual(['b', 'a']);
    fireEvent.change(screen.getByRole('searchbox'), { target: { value: 'B' } });
    expect(names()).toEqual(['b']);
    fireEvent.click(screen.getByRole('button', { name: 'b' }));
    expect(useNavigation.getState().place).toMatchObject({ page: 'models', name: 'b' });
  });
  it('ModelActions load, unload and remove', async () => {
    const asked = fakeDaemon({ 'POST /ui-api/models/load': {}, 'POST /ui-api/models/unload': {}, 'DELETE /ui-api/models/m': {} });
    const { rerender } = show(<ModelActions row={{ ...model(), loaded: undefined }} />);
    fireEvent.click(screen.getByRole('button', { name: 'Load' }));
    await waitFor(() => expect(asked.find(({ url }) => url === '/ui-api/models/load')?.body).toEqual({ model: 'm' }));
    fireEvent.click(screen.getByRole('button', { name: 'Delete m' }));
    await waitFor(() => expect(asked.some(({ method }) => method === 'DELETE')).toBe(true));
    expect(rerender).toBeTruthy();
    cleanup();
    show(<ModelActions row={{ ...model(), loaded: loaded() }} />);
    fireEvent.click(screen.getByRole('button', { name: 'Unload' }));
    await waitFor(() => expect(asked.some(({ url }) => url === '/ui-api/models/unload')).toBe(true));
  });
  it('ModelActions offer no chat with a base model, and do not remove what is not the store’s', () => {
    fakeDaemon({});
    show(<ModelActions row={{ ...model({ has_template: false, template: null, source: 'directory' }), loaded: undefined }} />);
    expect(screen.queryByRole('button', { name: 'Chat' })).toBeNull();
    const button = screen.getByRole<HTMLButtonElement>('button', { name: 'Delete m' });
    expect(button.disabled).toBe(true);
    expect(button.title).toBe('Lies outside the store, at /m.gguf: remove it there');
    cleanup();
    show(<ModelActions row={{ ...model({ source: 'store' }), loaded: undefined }} />);
    expect(screen.getByRole('button', { name: 'Chat' })).toBeTruthy();
    expect(screen.getByRole<HTMLButtonElement>('button', { name: 'Delete m' }).disabled).toBe(false);
  });
  it('ModelCard tells what a model takes, and gets it', () => {
    const onGet = vi.fn();
    show(<ModelCard entry={entry} onGet={onGet} />);
    expect(screen.getByText('135 M parameters, 93.8 MiB to download, 191 MiB of memory')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Get SmolLM2' }));
    expect(onGet).toHaveBeenCalled();
  });
  it('ModelPullDialog offers the catalogue, and takes any source', async () => {
    const asked = fakeDaemon({ 'GET /ui-api/catalogue': { models: [entry] }, 'POST /ui-api/models/pull': new Response('') });
    const onClose = vi.fn();
    show(<ModelPullDialog onClose={onClose} />);
    await screen.findByText('SmolLM2');
    fireEvent.change(screen.getByRole('textbox'), { target: { value: ' http://x/y.gguf ' } });
    fireEvent.submit(screen.getByRole('textbox'));
    expect(onClose).toHaveBeenCalled();
    await waitFor(() => expect(asked.find(({ method }) => method === 'POST')?.body).toMatchObject({ source: 'http://x/y.gguf' }));
  });
  it('ModelDetailDrawer tells what there is to know of a model', async () => {
    const fit = { fits: 'never', weight_bytes: 1048576, loaded_weight_bytes: 0, budget_bytes: 1 };
    fakeDaemon({ 'GET /ui-api/models/m': { model: model(), modelfile: null, fit, description: { heads: 9 } } });
    show(<ModelDetailDrawer name="m" onClose={() => undefined} />);
    await screen.findByText('Does not fit');
    for (const text of ['1.0 MiB', 'Q4_1', '135 M', 'T{{x}}', 'Apache-2.0', /"heads": 9/]) expect(screen.getByText(text)).toBeTruthy();
  });
  it('ModelStats counts a file of several names once, and tells how long each stays in memory', () => {
    const held = (fields: Parameters<typeof loaded>[0]) => ({ ...model({ path: fields?.path ?? '', bytes: 3 << 20 }), loaded: loaded(fields) });
    const a = held({ name: 'a', path: '/a.gguf', weight_bytes: 2 << 20, n_ctx: 4096, kv_bytes_per_token: 1024, n_uses: 2, expires_in_ms: 65_000 });
    const rows = [
      a, { ...a, name: 'also-a' }, held({ name: 'b', path: '/b.gguf', pinned: true }), held({ name: 'c', path: '/c.gguf', loading: true }),
      { ...model({ name: 'd', path: '/d.gguf', bytes: 1 << 20 }), loaded: undefined },
    ]; // prettier-ignore
    show(<ModelStats rows={rows} status={status()} />);
    const figure = (label: string) => screen.getByText(label).nextElementSibling?.textContent;
    expect([figure('Models'), figure('On disk'), figure('Weights'), figure('KV cache')]).toEqual(['5', '10.0 MiB', '1.0 MiB', '512 KiB / 1.0 MiB']);
    const meter = (label: string) => screen.getByRole('meter', { name: label }).getAttribute('value');
    expect([meter('Weights'), meter('KV cache')]).toEqual(['0.25', '0.5']);
    expect(screen.getAllByRole('listitem').map((line) => line.textContent)).toEqual([
      'a 2.0 MiB of weights, context 4096, 1.0 KiB of KV cache a token, 2 in use; stays 1 min 5 s when idle',
      expect.stringMatching(/^b .* stays: the daemon was started with it$/),
      'c Loading…; stays until it is unloaded',
    ]);
    cleanup();
    show(<ModelStats rows={[]} status={undefined} />);
    expect(screen.queryByRole('meter')).toBeNull();
    expect(screen.queryByRole('listitem')).toBeNull();
  });
  it('ModelImport sends a file of this computer, under the name it is given, and tells what is wrong with it', async () => {
    const sent: SentFile[] = [];
    vi.stubGlobal('XMLHttpRequest', sentFiles(sent));
    const onClose = vi.fn();
    fakeDaemon({});
    show(<ModelImport onClose={onClose} />);
    const go = () => fireEvent.click(screen.getByRole('button', { name: 'Import' }));
    expect(screen.getByRole('button', { name: 'Import' }).hasAttribute('disabled')).toBe(true);
    const file = new File([new Uint8Array(2048)], 'My model (1).GGUF');
    fireEvent.change(screen.getByLabelText('A file of this computer'), { target: { files: [file] } });
    expect(screen.getByText('My model (1).GGUF · 2.0 KiB')).toBeTruthy();
    expect(screen.getByLabelText<HTMLInputElement>('Name').value).toBe('My-model-1');
    go();
    await waitFor(() => expect(sent).toHaveLength(1));
    expect(sent[0]).toMatchObject({ method: 'POST', url: '/ui-api/models/import?name=My-model-1', body: file });
    act(() => sent[0]?.ask.upload.onprogress?.({ loaded: 1024 }));
    expect(screen.getByText('1.0 KiB of 2.0 KiB')).toBeTruthy();
    act(() => sent[0]?.ask.upload.onprogress?.({ loaded: 2048 }));
    expect(screen.getByText('Being checked…')).toBeTruthy();
    act(() => sent[0]?.ask.answer(400, { error: { message: 'no GGUF file' } }));
    expect((await screen.findByRole('alert')).textContent).toBe('no GGUF file');
    expect(onClose).not.toHaveBeenCalled();
    fireEvent.change(screen.getByLabelText('Name'), { target: { value: 'mine' } });
    go();
    await waitFor(() => expect(sent[1]?.url).toBe('/ui-api/models/import?name=mine'));
    expect(screen.queryByRole('alert')).toBeNull();
    act(() => sent[1]?.ask.answer(201, {}));
    await waitFor(() => expect(onClose).toHaveBeenCalled());
    expect(useToasts.getState().toasts.at(-1)?.text).toBe('mine is there.');
  });
  it('ModelImport uses a file of the daemon’s machine where it lies', async () => {
    const folder = { path: '/srv', parent: '/', folders: [], files: [{ name: 'big.gguf', bytes: 1 << 20 }], left_out: 0, places: [] };
    const asked = fakeDaemon({ 'GET /ui-api/directories': folder, 'POST /ui-api/models/register': {} });
    const onClose = vi.fn();
    show(<ModelImport onClose={onClose} />);
    fireEvent.click(screen.getByRole('button', { name: /A file on the daemon’s machine/ }));
    fireEvent.click(await screen.findByText('big.gguf'));
    expect(screen.getByText('/srv/big.gguf')).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'Import' }));
    await waitFor(() => expect(onClose).toHaveBeenCalled());
    expect(asked.find(({ method }) => method === 'POST')).toEqual({ method: 'POST', url: '/ui-api/models/register', body: { path: '/srv/big.gguf', name: 'big' } });
  });
});

describe('components of the log', () => {
  const line = { seq: 1, time: '2026-01-01T10:20:30.123456Z', level: 'error' as const, part: 'engine', message: 'failed', trace: 'at a\nat b' };
  it('LogEntry shows what came with a line when it is opened', () => {
    const onToggle = vi.fn();
    const { rerender } = show(<LogEntry line={line} open={false} onToggle={onToggle} />);
    expect(screen.getByText('10:20:30.123')).toBeTruthy();
    expect(screen.queryByText(/at b/)).toBeNull();
    fireEvent.click(screen.getByRole('button'));
    expect(onToggle).toHaveBeenCalled();
    rerender(<LogEntry line={line} open onToggle={onToggle} />);
    expect(screen.getByText(/at a\s+at b/)).toBeTruthy();
  });
  it('LogViewer shows what comes, by its filter', async () => {
    fakeDaemon({ 'GET /ui-api/logs': () => new Response(new ReadableStream()) });
    useLogs.getState().take([line, { ...line, seq: 2, level: 'info', message: 'went well' }]);
    show(<LogViewer />);
    await screen.findByText('went well');
    expect(screen.getByRole('log').getAttribute('aria-live')).toBe('off'); // a log that goes on is not read aloud
    fireEvent.change(screen.getByRole('combobox', { name: 'Level' }), { target: { value: 'error' } });
    await waitFor(() => expect(screen.queryByText('went well')).toBeNull());
    expect(screen.getByText('failed')).toBeTruthy();
    expect(screen.getByRole('status').textContent).toContain('1 of 2 lines');
    expect(useLogs.getState().parts).toEqual(['engine']);
  });
});

describe('components of settings', () => {
  it('DaemonControl tells how the daemon is, and ends it when that was asked for twice', async () => {
    const asked = fakeDaemon({ 'GET /ui-api/status': status(), 'POST /ui-api/drain': {} });
    show(<DaemonControl />);
    await screen.findByText('1.2.3');
    for (const text of ['Ready', '1 min 1 s', '3 (+4)']) expect(screen.getByText(text)).toBeTruthy();
    expect(screen.queryByText('Activations')).toBeNull();
    fireEvent.click(screen.getByRole('button', { name: 'End the daemon' }));
    expect(asked.some(({ method }) => method === 'POST')).toBe(false);
    fireEvent.click(screen.getByRole('button', { name: 'End the daemon' }));
    await waitFor(() => expect(asked.find(({ method }) => method === 'POST')?.url).toBe('/ui-api/drain'));
  });
  it('DaemonControl tells that numbers are rounded to 8 bits', async () => {
    fakeDaemon({ 'GET /ui-api/status': { ...status(), engine: { ...status().engine, activations: 8 } } });
    show(<DaemonControl />);
    await screen.findByText('8 bits: prompts are faster and less exact');
    expect(screen.getByText('Activations')).toBeTruthy();
  });
  it('GeneralPanel changes settings, a slider not once a step, and nothing is undone by an earlier answer', async () => {
    const kept: Record<string, unknown>[] = [];
    let revision = 0;
    const asked = fakeDaemon({
      'GET /ui-api/models': { models: [] },
      'GET /ui-api/loaded': { loaded: [] },
      'PATCH /ui-api/settings': (one: { body: { values: Record<string, unknown> } }) => {
        kept.push(one.body.values);
        return { version: 1, revision: ++revision, values: Object.assign({}, ...kept) as unknown };
      },
    });
    show(<GeneralPanel />);
    const size = screen.getByLabelText<HTMLInputElement>('Text size');
    const seen: string[] = [];
    for (let px = 11; px <= 28; px++) {
      fireEvent.change(size, { target: { value: String(px) } });
      await Promise.resolve();
      seen.push(size.value);
    }
    fireEvent.change(screen.getByLabelText('Theme'), { target: { value: 'dark' } });
    await waitFor(() => expect(Object.assign({}, ...kept)).toEqual({ text_size: 28, theme: 'dark' }));
    expect(seen).toEqual(Array.from({ length: 18 }, (_, at) => String(at + 11)));
    expect(asked.filter(({ method }) => method === 'PATCH').length).toBeLessThanOrEqual(3);
    expect(usePreferences.getState().settings).toMatchObject({ text_size: 28, theme: 'dark' });
    usePreferences.setState({ settings: DEFAULTS });
  });
  it('SettingRow names its control', () => {
    show(<SettingRow label="Size" hint="in px">{(names) => <input {...names} />}</SettingRow>);
    const control = screen.getByLabelText('Size');
    expect(document.getElementById(control.getAttribute('aria-describedby') ?? '')?.textContent).toBe('in px');
  });
  it('PrivacyPanel tells where things lie', () => {
    show(<PrivacyPanel />);
    expect(screen.getByText(/never written to the log/)).toBeTruthy();
  });
});

describe('the frame of all pages', () => {
  it('Navigation goes to every page, and has what belongs to all', () => {
    fakeDaemon({});
    show(<Navigation onPalette={() => undefined} tray={false} onTray={() => undefined} />);
    fireEvent.click(screen.getByRole('link', { name: 'Metrics' }));
    expect(useNavigation.getState().place.page).toBe('dashboard');
    fireEvent.change(screen.getByRole('combobox', { name: 'Theme' }), { target: { value: 'dark' } });
    expect(document.documentElement.dataset.theme).toBe('dark');
  });
  it('TrayPopover tells how the daemon is, unloads models and restarts it', async () => {
    const rows = [model(), model({ name: 'also-m' }), model({ name: 'n', path: '/n.gguf' })];
    const asked = fakeDaemon({
      'GET /ui-api/status': status(), 'GET /ui-api/options': options(), 'GET /ui-api/models': { models: rows }, 'GET /ui-api/loaded': { loaded: [loaded()] },
      'POST /ui-api/models/unload': {}, 'POST /ui-api/restart': {},
    }); // prettier-ignore
    show(<TrayPopover alone />);
    await screen.findByText('MLXR 1.2.3');
    expect(screen.getByRole('img', { name: 'Answering' })).toBeTruthy();
    for (const text of ['1 min 1 s', '3 (+4)', '1.0 MiB', '512 KiB']) expect(screen.getByText(text)).toBeTruthy();
    expect(screen.getByRole('link', { name: 'Settings' })).toMatchObject({ pathname: '/settings', target: '_blank', rel: 'noreferrer' });
    const unload = await screen.findAllByRole('button', { name: /^Unload/ });
    expect(unload).toHaveLength(1); // one file, whatever its names
    fireEvent.click(unload[0] as HTMLElement);
    await waitFor(() => expect(asked.find(({ url }) => url === '/ui-api/models/unload')?.body).toMatchObject({ model: expect.stringMatching(/^(also-)?m$/) as string }));
    fireEvent.click(await screen.findByRole('button', { name: 'Restart the daemon' }));
    expect(asked.some(({ url }) => url === '/ui-api/restart')).toBe(false);
    fireEvent.click(screen.getByRole('button', { name: 'Restart the daemon' }));
    await waitFor(() => expect(asked.find(({ url }) => url === '/ui-api/restart')?.body).toEqual({ now: false }));
  });
  it('TrayPopover says when nobody answers', async () => {
    fakeDaemon({});
    show(<TrayPopover />);
    expect((await screen.findByRole('alert')).textContent).toContain('The daemon does not answer');
    expect(screen.getByRole('img', { name: 'No answer' })).toBeTruthy();
    expect(screen.getByRole('link', { name: 'Settings' }).hasAttribute('target')).toBe(false);
    expect(screen.queryByRole('button')).toBeNull();
  });
  it('CommandPalette finds actions, models and chats, however they are written', async () => {
    fakeDaemon({ 'GET /ui-api/models': { models: [model({ name: 'Smol' })] }, 'GET /ui-api/loaded': { loaded: [] }, 'GET /ui-api/chats': { chats: [chat({ id: 7 })], next: null } });
    const onClose = vi.fn();
    show(<CommandPalette onClose={onClose} />);
    await screen.findByText('Rivers');
    fireEvent.change(screen.getByRole('combobox'), { target: { value: 'rvrs' } });
    await waitFor(() => expect(screen.queryByText('Use Smol')).toBeNull());
    fireEvent.click(screen.getByText('Rivers'));
    expect(onClose).toHaveBeenCalled();
    expect(useNavigation.getState().place).toMatchObject({ page: 'chat', id: 7 });
  });
  it('the banner says that models are still being loaded', async () => {
    fakeDaemon({ 'GET /ui-api/status': { state: 'loading', engine: { alive: true } } });
    show(<ConnectionBanner />);
    await screen.findByText('The daemon is still loading its models.');
  });
  it('what cannot be copied is no secret', async () => {
    Object.assign(document, { execCommand: () => false });
    await expect(copyText('x')).rejects.toThrow('does not let this page copy');
    const setData = vi.fn();
    Object.assign(document, {
      execCommand: () => {
        document.dispatchEvent(Object.assign(new Event('copy', { cancelable: true }), { clipboardData: { setData } }));
        return true;
      },
    });
    await copyText('x');
    expect(setData).toHaveBeenCalledWith('text/plain', 'x');
  });
});
