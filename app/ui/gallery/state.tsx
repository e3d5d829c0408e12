// One state of one component, in a page of its own: with its own width, theme, stores and daemon.
//
//   state.html?part=Composer&state=busy&theme=dark&language=de
import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { StrictMode } from 'react';
import { createRoot } from 'react-dom/client';
import type { UiSettingValues } from '@/api/schema';
import { Toasts } from '@/components/layout/Toasts';
import { LANGUAGES, useTexts, type Language } from '@/i18n';
import { useDrafts } from '@/stores/drafts';
import { usePreferences } from '@/stores/preferences';
import { answering, type Asked } from '../test/fixtures';
import './gallery.css';
import type { Shown } from './part';
import { PARTS } from './parts';
import { machine } from './world';

const asked = new URLSearchParams(location.search);
const name = asked.get('part') ?? '';
const stateName = asked.get('state') ?? '';

/** What is set, kept as the daemon keeps it. */
function settingsOf(values: UiSettingValues) {
  let kept = values;
  const answer = () => ({ version: 1, revision: 1, values: kept });
  return {
    'GET /ui-api/settings': answer,
    'PATCH /ui-api/settings': ({ body }: Asked) => {
      kept = { ...kept, ...(body as { values: UiSettingValues }).values };
      return answer();
    },
  };
}

async function show(state: Shown, root: HTMLElement): Promise<void> {
  const language = asked.get('language') ?? 'en';
  const theme = (asked.get('theme') ?? 'auto') as NonNullable<UiSettingValues['theme']>;
  window.fetch = answering({ ...machine, ...settingsOf({ theme, language }), ...state.daemon }) as typeof fetch;
  await usePreferences.getState().read();
  if (language in LANGUAGES) await useTexts.getState().setLanguage(language as Language);
  // Other states of this tab may have left something.
  useDrafts.setState({ drafts: {} });
  state.before?.();
  const client = new QueryClient({ defaultOptions: { queries: { networkMode: 'always', retry: false }, mutations: { networkMode: 'always' } } });
  const { draw: Draw, within, height } = state;
  const shown = <Draw />;
  createRoot(root).render(
    <StrictMode>
      <QueryClientProvider client={client}>
        <h1 className="sr-only">{name}</h1>
        <h2 className="sr-only">{stateName}</h2>
        <div className={height ? 'flex flex-col' : 'p-3'} style={height ? { height } : {}}>
          {within ? within(shown) : shown}
        </div>
        <Toasts />
      </QueryClientProvider>
    </StrictMode>,
  );
  await state.play?.();
  await new Promise((done) => setTimeout(done, 50)); // what came last is drawn
}

const root = document.getElementById('root');
const state = PARTS.find((part) => part.name === name)?.states[stateName];
document.title = `${name}: ${stateName}`;
if (root && state) {
  show(state, root).then(
    () => (root.dataset.ready = 'true'),
    (error: unknown) => {
      root.dataset.ready = 'failed';
      console.error(error);
    },
  );
} else if (root) {
  root.textContent = `There is no ${name} in the state ${stateName}.`;
}
