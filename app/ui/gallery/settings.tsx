import { ConfigEditor } from '@/components/settings/ConfigEditor';
import { DaemonControl } from '@/components/settings/DaemonControl';
import { GeneralPanel } from '@/components/settings/GeneralPanel';
import { KeyboardShortcuts } from '@/components/settings/KeyboardShortcuts';
import { PathPicker } from '@/components/settings/PathPicker';
import { PathsPanel } from '@/components/settings/PathsPanel';
import { PerformancePanel } from '@/components/settings/PerformancePanel';
import { PrivacyPanel } from '@/components/settings/PrivacyPanel';
import { SettingRow, control } from '@/components/settings/SettingRow';
import { UpdatesPanel } from '@/components/settings/UpdatesPanel';
import { usePreferences } from '@/stores/preferences';
import { nothing, part, type Part } from './part';
import { fill, found, leave, press, sees, text } from './play';
import { health, never, refused, settled, unreachable } from './world';

const error = { 'GET /ui-api/options': refused(403, 'this key may not read the options') };
const told = () => sees('may not read the options');
const busy = { 'GET /ui-api/options': never };
const readOnly = { ...settled, writable: false, file: '/etc/mlxr/serve.json' };
const pending = { ...settled, restart_needed: true, options: settled.options.map((one) => ({ ...one, pending: one.name === 'threads' })) };
const folder = {
  path: '/home/ada/models', parent: '/home/ada', folders: ['gemma', 'qwen', 'a folder with quite a long name for what little it holds'],
  files: [{ name: 'SmolLM2-135M-Instruct.Q4_1.gguf', bytes: 98_362_432 }, { name: 'qwen3-4b.gguf', bytes: 2_497_280_256 }], left_out: 0, places: [],
}; // prettier-ignore
const picker = { label: 'Folder of the disk cache', onPick: nothing, onClose: nothing };
const pressKeys = (keys: KeyboardEventInit) => document.activeElement?.dispatchEvent(new KeyboardEvent('keydown', { bubbles: true, cancelable: true, ...keys }));
const listens = async () => {
  await press(text('keys.tray'));
  (await found('button that listens', () => document.querySelector<HTMLElement>('[aria-pressed=true]'))).focus();
};

export const settings: Part[] = [
  part('settings/GeneralPanel', GeneralPanel, { full: { props: {} } }),
  part('settings/PerformancePanel', PerformancePanel, {
    full: { props: {} },
    'wants a restart': { props: {}, daemon: { 'GET /ui-api/options': pending } },
    'read only': { props: {}, daemon: { 'GET /ui-api/options': readOnly } },
    'a wrong size': {
      props: {},
      play: async () => {
        await fill(text('options.kv_bytes'), 'much');
        await leave(text('options.kv_bytes'));
        await sees(text('options.no_size'));
      },
    },
    busy: { props: {}, daemon: busy },
    error: { props: {}, daemon: error, play: told },
  }),
  part('settings/PathsPanel', PathsPanel, {
    full: { props: {} },
    'read only': { props: {}, daemon: { 'GET /ui-api/options': readOnly } },
    busy: { props: {}, daemon: busy },
    error: { props: {}, daemon: error, play: told },
  }),
  part('settings/UpdatesPanel', UpdatesPanel, {
    full: { props: {} },
    'another version lies there': { props: {}, daemon: { 'GET /ui-api/options': { ...settled, build: { ...settled.build, replaced: true } } } },
    busy: { props: {}, daemon: busy },
    error: { props: {}, daemon: error, play: told },
  }),
  part('settings/PrivacyPanel', PrivacyPanel, { full: { props: {} } }),
  part('settings/SettingRow', SettingRow, {
    full: { props: { label: 'Longest context', hint: 'In tokens; what does not fit is left out at the beginning.', children: (names) => <input {...names} className={control} defaultValue="8192" /> } },
    'without a hint': { props: { label: 'Longest context', children: (names) => <input {...names} className={control} defaultValue="8192" /> } },
    'switched off': { props: { label: 'Longest context', hint: 'The command line says this.', children: (names) => <input {...names} className={control} disabled defaultValue="8192" /> } },
  }),
  part('settings/PathPicker', PathPicker, {
    full: { props: picker, daemon: { 'GET /ui-api/directories': folder }, play: () => sees('qwen'), height: 560 },
    'model files': { props: { ...picker, label: 'A file on the daemon’s machine', files: true }, daemon: { 'GET /ui-api/directories': folder }, play: () => sees('qwen3-4b.gguf'), height: 560 },
    empty: { props: picker, daemon: { 'GET /ui-api/directories': { ...folder, folders: [], files: [] } }, play: () => sees(text('paths.empty')), height: 560 },
    busy: { props: picker, daemon: { 'GET /ui-api/directories': never }, height: 560 },
    error: { props: picker, daemon: { 'GET /ui-api/directories': refused(403, '/root: permission denied') }, play: () => sees('permission denied'), height: 600 },
  }),
  part('settings/ConfigEditor', ConfigEditor, {
    full: { props: {}, play: () => found('file', () => document.querySelector('textarea')) },
    valid: {
      props: {},
      play: async () => {
        await fill(text('config.title'), '{\n  "threads": 4,\n  "kv_type": "q8_0"\n}\n');
        await sees(text('config.valid'));
      },
    },
    'refused by the daemon': {
      props: {},
      daemon: { 'PATCH /ui-api/options': refused(400, 'threads: at most 64 on this machine') },
      play: async () => {
        await fill(text('config.title'), '{\n  "threads": 4000\n}\n');
        await sees('at most 64');
      },
    },
    'no JSON': { props: {}, play: () => fill(text('config.title'), '{\n  "threads": 4,,\n}\n') },
    'read only': { props: {}, daemon: { 'GET /ui-api/options': readOnly } },
    busy: { props: {}, daemon: busy },
    error: { props: {}, daemon: error, play: told },
  }),
  part('settings/DaemonControl', DaemonControl, {
    full: { props: {} },
    'sure?': { props: {}, play: () => press(text('daemon.drain')) },
    busy: { props: {}, daemon: { 'GET /ui-api/status': { ...health, state: 'draining' } } },
    'cannot restart': { props: {}, daemon: { 'GET /ui-api/options': { ...settled, can_restart: false, note: 'it was started by a chat on a terminal' } } },
    error: { props: {}, daemon: { 'GET /ui-api/status': unreachable } },
  }),
  part('settings/KeyboardShortcuts', KeyboardShortcuts, {
    full: { props: {} },
    changed: { props: {}, before: () => usePreferences.getState().change({ shortcuts: { go_logs: 'Mod+Shift+L', theme: '' } }) },
    busy: { props: {}, play: listens },
    error: {
      props: {},
      play: async () => {
        await listens();
        pressKeys({ key: 'k', code: 'KeyK', ctrlKey: true });
        await found('refusal', () => document.querySelector('[role=status]')?.textContent || null);
      },
    },
  }),
];
