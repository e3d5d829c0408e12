// What somebody has set: kept by the daemon, so that it is the same in every browser. A copy lies in this one's storage for
// the first paint, and so does what the daemon does not have yet; there is nothing secret in it.
import { create } from 'zustand';
import { api, ApiError, isRefusal } from '@/api/client';
import type { UiSettings, UiSettingValues } from '@/api/schema';
import { languageOf, LANGUAGES, useTexts, type Language } from '@/i18n';
import { showError } from './toasts';

export const THEMES = ['auto', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];
export type Settings = Required<UiSettingValues>;

export const DEFAULTS: Settings = {
  language: 'auto', theme: 'auto', text_size: 16, send_key: 'enter', default_model: '', default_preset: null,
  show_reasoning: 'folded', show_stats: true, wrap_code: false, confirm_delete: false, sidebar: true, chart_window_s: 300,
  shortcuts: {},
}; // prettier-ignore

interface Preferences {
  settings: Settings;
  /** Shown at once, then kept by the daemon, which gets it when it is back if it is away, also from the next page; what it refuses is
   * taken back. */
  change: (values: Partial<Settings>) => void;
  read: () => Promise<void>;
}

const KEPT = 'mlxr.settings';
const UNSENT = 'mlxr.settings.unsent';

function stored(name: string): UiSettingValues {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(name) ?? '{}');
    return found !== null && typeof found === 'object' ? found : {};
  } catch {
    return {};
  }
}

function store(name: string, values: UiSettingValues): void {
  try {
    if (Object.keys(values).length) localStorage.setItem(name, JSON.stringify(values));
    else localStorage.removeItem(name);
  } catch {
    // A browser that keeps nothing: then the daemon's copy has to do.
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

const PAUSE_MS = 250;
const RETRY_MS = 2000;

/** Not wanted; where another window was faster the next attempt is another one. */
const isUnwanted = (error: unknown): error is ApiError => isRefusal(error) && error.status !== 409;
const isAway = (error: unknown) => error instanceof ApiError && error.status === 0;

export const usePreferences = create<Preferences>((set) => {
  let revision = 0;
  let kept = stored(KEPT);
  // What somebody has changed lies over what the daemon has until it has said what becomes of it; a slider that is drawn makes one
  // request in a while, not one a step.
  let unsent = stored(UNSENT);
  let busy = false;
  let told = false;
  // One after the other: each names the revision that the one before has made.
  let queue: Promise<unknown> = Promise.resolve();

  const merged = (): Settings => ({ ...DEFAULTS, ...kept, ...unsent });
  const put = () => {
    const settings = merged();
    show(settings);
    set({ settings });
    store(KEPT, kept);
  };
  // Only where this window's own have changed: what another one waits to send is not to be forgotten.
  const storeUnsent = () => store(UNSENT, unsent);
  const take = (answer: UiSettings) => {
    ({ revision, values: kept } = answer);
    put();
  };
  const read = async () => take(await api('GET /ui-api/settings'));
  /** The daemon has said what becomes of these; what was changed since waits on. */
  const settle = (values: UiSettingValues) => {
    const answered = new Map(Object.entries(values));
    unsent = Object.fromEntries(Object.entries(unsent).filter(([name, value]) => !answered.has(name) || answered.get(name) !== value));
    storeUnsent();
  };
  const patch = async (values: UiSettingValues) => {
    const answer = await api('PATCH /ui-api/settings', { body: { revision, values }, keepalive: true });
    settle(values);
    take(answer);
  };
  /** What is refused is taken back: of several one by one, so that the others stay. */
  const offer = async (values: UiSettingValues): Promise<void> => {
    try {
      try {
        await patch(values);
      } catch (error) {
        if (!(error instanceof ApiError) || error.status !== 409) throw error;
        // Another window was faster: what it has changed stays, and so does this.
        await read();
        await patch(values);
      }
    } catch (error) {
      if (!isUnwanted(error)) throw error;
      const each = Object.entries(values);
      if (error.status === 400 && each.length > 1) {
        for (const [name, value] of each) await offer({ [name]: value });
        return;
      }
      settle(values);
      put();
      showError(error);
    }
    told = false;
  };
  /** Whether the daemon has said what becomes of it all; else it waits. */
  const send = async (): Promise<boolean> => {
    if (!Object.keys(unsent).length) return true;
    try {
      await offer(unsent);
      return true;
    } catch (error) {
      put();
      // That nothing answers the page tells by itself; of what else may pass, once is enough.
      if (!(told || isAway(error))) {
        showError(error);
        told = true;
      }
      return false;
    }
  };
  const flush = () => {
    const sending = queue.then(send);
    queue = sending;
    return sending;
  };
  const tick = () => {
    busy = Object.keys(unsent).length > 0;
    if (busy) void flush().then((answered) => setTimeout(tick, answered ? PAUSE_MS : RETRY_MS));
  };
  addEventListener('pagehide', () => void flush());
  return {
    settings: merged(),
    change: (values) => {
      unsent = { ...unsent, ...values };
      storeUnsent();
      put();
      if (!busy) tick();
    },
    read: async () => {
      const reading = queue.then(read).then(
        () => true,
        () => false,
      );
      queue = reading;
      // What an earlier page could not send goes now that the daemon is there.
      if ((await reading) && !busy) tick();
    },
  };
});

export const useSetting = <K extends keyof Settings>(name: K): Settings[K] =>
  usePreferences((preferences) => preferences.settings[name]);

export const useChangeSettings = (): Preferences['change'] => usePreferences((preferences) => preferences.change);

/** Before the first paint. */
export const applyPreferences = (): void => show(usePreferences.getState().settings);
