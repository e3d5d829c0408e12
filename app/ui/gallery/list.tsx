// All components that the page has, for who works on them: each in its states, in both themes, as wide as a telephone or the window.
import { StrictMode, useEffect, useState, useSyncExternalStore } from 'react';
import { createRoot } from 'react-dom/client';
import { LANGUAGES } from '@/i18n';
import { THEMES, type Theme } from '@/stores/preferences';
import './gallery.css';
import type { Part } from './part';
import { PARTS } from './parts';

interface Look {
  theme: Theme;
  language: string;
  phone: boolean;
}

const PHONE_PX = 360;

function Frame({ part, state, look: { theme, language, phone } }: { part: string; state: string; look: Look }) {
  const [height, setHeight] = useState(160);
  return (
    <iframe
      title={`${part}: ${state}`}
      loading="lazy"
      src={`state.html?${new URLSearchParams({ part, state, theme, language }).toString()}`}
      className="w-full rounded-lg border border-line bg-ground"
      style={{ height, ...(phone ? { maxWidth: PHONE_PX } : {}) }}
      onLoad={({ currentTarget: { contentDocument } }) => {
        const shown = contentDocument?.getElementById('root');
        // As high as what it shows, now and later.
        if (shown) new ResizeObserver(() => setHeight(Math.max(60, shown.scrollHeight + 2))).observe(shown);
      }}
    />
  );
}

function Section({ part, look, whole }: { part: Part; look: Look; whole: boolean }) {
  const names = Object.keys(part.states);
  const [chosen, setChosen] = useState(names[0] ?? '');
  return (
    <section aria-labelledby={`title-${part.name}`} className="flex flex-col gap-2 border-t border-line py-4">
      <div className="flex flex-wrap items-baseline gap-3">
        <h2 id={`title-${part.name}`} className="text-lg font-semibold">
          <a href={`#${part.name}`}>{part.name}</a>
        </h2>
        <span className="text-sm text-muted">{part.folder}</span>
        {!whole && (
          <select aria-label={`State of ${part.name}`} value={chosen} onChange={({ target }) => setChosen(target.value)} className="rounded-md border border-line bg-raised px-2 text-sm">
            {names.map((state) => (
              <option key={state}>{state}</option>
            ))}
          </select>
        )}
      </div>
      {(whole ? names : [chosen]).map((state) => (
        <figure key={state}>
          {whole && <figcaption className="pb-1 text-sm text-muted">{state}</figcaption>}
          <Frame key={`${look.theme} ${look.language}`} part={part.name} state={state} look={look} />
        </figure>
      ))}
    </section>
  );
}

const follow = (changed: () => void) => {
  window.addEventListener('hashchange', changed);
  return () => window.removeEventListener('hashchange', changed);
};

function Choice({ label, value, options, onChange }: { label: string; value: string; options: readonly string[]; onChange: (value: string) => void }) {
  return (
    <label className="flex items-center gap-2">
      {label}
      <select value={value} onChange={({ target }) => onChange(target.value)} className="rounded-md border border-line bg-raised px-2">
        {options.map((one) => (
          <option key={one}>{one}</option>
        ))}
      </select>
    </label>
  );
}

function Gallery() {
  const only = useSyncExternalStore(follow, () => decodeURIComponent(location.hash.slice(1)));
  const [look, setLook] = useState<Look>({ theme: 'auto', language: 'en', phone: false });
  const change = (fields: Partial<Look>) => setLook({ ...look, ...fields });
  useEffect(() => {
    document.documentElement.dataset.theme = look.theme;
  }, [look.theme]);
  const shown = PARTS.filter(({ name }) => !only || name === only);
  return (
    <div className="mx-auto flex h-full max-w-7xl gap-6">
      <nav aria-label="Components" className="hidden w-52 shrink-0 overflow-y-auto p-4 text-sm md:block">
        <a href="#" className={only ? '' : 'font-semibold'}>
          All {PARTS.length}
        </a>
        <ul className="pt-2">
          {PARTS.map(({ name, states }) => (
            <li key={name}>
              <a href={`#${name}`} aria-current={name === only ? 'page' : undefined} className={`block rounded-md px-2 py-0.5 hover:bg-panel ${name === only ? 'bg-accent-soft' : ''}`}>
                {name} <span className="text-muted">{Object.keys(states).length}</span>
              </a>
            </li>
          ))}
        </ul>
      </nav>
      <main className="min-w-0 grow overflow-y-auto p-4" tabIndex={0}>
        <div className="flex flex-wrap items-center gap-4 pb-4 text-sm">
          <h1 className="grow text-xl font-semibold">MLXR’s components</h1>
          <Choice label="Theme" value={look.theme} options={THEMES} onChange={(theme) => change({ theme: theme as Theme })} />
          <Choice label="Language" value={look.language} options={Object.keys(LANGUAGES)} onChange={(language) => change({ language })} />
          <label className="flex items-center gap-2">
            <input type="checkbox" checked={look.phone} onChange={({ target }) => change({ phone: target.checked })} className="size-4 accent-accent" />
            As wide as a telephone
          </label>
        </div>
        {shown.map((part) => (
          <Section key={part.name} part={part} look={look} whole={only === part.name} />
        ))}
      </main>
    </div>
  );
}

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
    <StrictMode>
      <Gallery />
    </StrictMode>,
  );
}
