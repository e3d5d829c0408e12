import { cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import CommandPalette from '@/components/layout/CommandPalette';
import { ConnectionBanner } from '@/components/layout/ConnectionBanner';
import { Navigation } from '@/components/layout/Navigation';
import { LogEntry } from '@/components/logs/LogEntry';
import LogViewer from '@/components/logs/LogViewer';
import { ModelActions } from '@/components/models/ModelActions';
import { ModelCard } from '@/components/models/ModelCard';
import { ModelDetailDrawer } from '@/components/models/ModelDetailDrawer';
import { ModelPullDialog } from '@/components/models/ModelPullDialog';
import { RegistryTable } from '@/components/models/RegistryTable';
import { DaemonControl } from '@/components/settings/DaemonControl';
import { GeneralPanel } from '@/components/settings/GeneralPanel';
import { PrivacyPanel } from '@/components/settings/PrivacyPanel';
import { SettingRow } from '@/components/settings/SettingRow';
import { copyText } from '@/lib/clipboard';
import { useLogs } from '@/stores/logs';
import { useNavigation } from '@/stores/navigation';
import { DEFAULTS, usePreferences } from '@/stores/preferences';
import { chat, fakeDaemon, loaded, model, show, withSizes } from './support';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const entry = { name: 'SmolLM2', source: 's', about: 'small', n_params: 135e6, bytes: 98362432, memory_bytes: 2e8, digest: null, exact: true };

beforeEach(() => {
  withSizes();
  Element.prototype.scrollIntoView = () => undefined;
  HTMLDialogElement.prototype.showModal = function () { this.open = true; };
  HTMLDialogElement.prototype.close = function () { this.open = false; };
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
    fireEvent.change(screen.getByRole('combobox', { name: 'Level' }), { target: { value: 'error' } });
    await waitFor(() => expect(screen.queryByText('went well')).toBeNull());
    expect(screen.getByText('failed')).toBeTruthy();
    expect(screen.getByRole('status').textContent).toContain('1 of 2 lines');
    expect(useLogs.getState().parts).toEqual(['engine']);
  });
});

describe('components of settings', () => {
  const status = {
    version: '1.2.3', state: 'ready', uptime_s: 61, engine: { backend: 'cpu', cpu_features: 'avx2', n_threads: 2, alive: true },
    models: { loaded: 1, waiting: 0 }, memory: { budget_bytes: 1, weight_bytes: 1048576, kv_bytes_used: 0, kv_bytes_budget: 1048576 },
    streams: { answers: 0, running: 3, queued: 4, paused: 0 },
  }; // prettier-ignore
  it('DaemonControl tells how the daemon is, and ends it when that was asked for twice', async () => {
    const asked = fakeDaemon({ 'GET /ui-api/status': status, 'POST /ui-api/drain': {} });
    show(<DaemonControl />);
    await screen.findByText('1.2.3');
    for (const text of ['Ready', '1 min 1 s', '3 (+4)']) expect(screen.getByText(text)).toBeTruthy();
    fireEvent.click(screen.getByRole('button', { name: 'End the daemon' }));
    expect(asked.some(({ method }) => method === 'POST')).toBe(false);
    fireEvent.click(screen.getByRole('button', { name: 'End the daemon' }));
    await waitFor(() => expect(asked.find(({ method }) => method === 'POST')?.url).toBe('/ui-api/drain'));
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
