// What somebody has set: kept by the daemon, so that it is the same in every browser. A copy lies in this one's storage for
// the first paint; there is nothing secret in it.
import { create } from 'zustand';
import { api, ApiError } from '@/api/client';
import type { UiSettings, UiSettingValues } from '@/api/schema';
import { languageOf, LANGUAGES, useTexts, type Language } from '@/i18n';
import { showError } from './toasts';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];
export type Settings = Required<UiSettingValues>;

export const DEFAULTS: Settings = {
  language: 'auto', theme: 'auto', text_size: 16, send_key: 'enter', default_model: '', default_preset: null,
  show_reasoning: 'folded', show_stats: true, wrap_code: false, confirm_delete: false, sidebar: true, chart_window_s: 300,
  load_remote_images: false, check_updates: false, shortcuts: {},
}; // prettier-ignore

interface Preferences {
  settings: Settings;
  /** Shown at once, then kept by the daemon; what it refuses is taken back. */
  change: (values: Partial<Settings>) => void;
  read: () => Promise<void>;
}

const STORED = 'mlxr.settings';

function stored(): UiSettingValues {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(STORED) ?? '{}');
    return found !== null && typeof found === 'object' ? found : {};
  } catch {
    return {};
  }
}

function show(settings: Settings): void {
  const { dataset, style } = document.documentElement;
  if (settings.theme === 'auto') delete dataset.theme;
  else dataset.theme = settings.theme;
  dataset.wrap = String(settings.wrap_code);
  style.fontSize = settings.text_size === DEFAULTS.text_size ? '' : `${settings.text_size}px`;
  const { language } = settings;
  const wanted = Object.hasOwn(LANGUAGES, language) ? (language as Language) : languageOf(navigator.languages);
  if (wanted !== useTexts.getState().language) void useTexts.getState().setLanguage(wanted);
}

export const usePreferences = create<Preferences>((set, get) => {
  let revision = 0;
  // One after the other: each names the revision that the one before has made.
  let queue = Promise.resolve();

  const put = (values: UiSettingValues) => {
    const settings = { ...DEFAULTS, ...values };
    show(settings);
    set({ settings });
    try {
      localStorage.setItem(STORED, JSON.stringify(values));
    } catch {
      // A browser that keeps nothing: then the daemon's copy has to do.
    }
  };
  const take = (answer: UiSettings) => {
    revision = answer.revision;
    put(answer.values);
  };
  const read = async () => take(await api('GET /ui-api/settings'));
  const send = async (values: Partial<Settings>) => {
    const patch = () => api('PATCH /ui-api/settings', { body: { revision, values } });
    try {
      take(await patch());
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      // Another window was faster: what it has changed stays, and so does this.
      await read();
      if (error.status !== 409) throw error;
      take(await patch());
    }
  };
  return {
    settings: { ...DEFAULTS, ...stored() },
    change: (values) => {
      put({ ...get().settings, ...values });
      queue = queue.then(() => send(values)).catch(showError);
    },
    read: () => (queue = queue.then(read).catch(() => undefined)),
  };
});

export const useSetting = <K extends keyof Settings>(name: K): Settings[K] =>
  usePreferences((preferences) => preferences.settings[name]);

/** Before the first paint. */
export const applyPreferences = (): void => show(usePreferences.getState().settings);
