import { useEffect } from 'react';
import { Button } from '@/components/ui/Button';
import { LANGUAGES, useT, useTexts } from '@/i18n';
import { PAGES, useNavigation } from '@/stores/navigation';
import { THEMES, usePreferences, useSetting, type Theme } from '@/stores/preferences';

/** Tabs with shortcuts (Alt+1, Alt+2 …), and what belongs to every page. */
export function Navigation({ onPalette }: { onPalette: () => void }) {
  const t = useT();
  const page = useNavigation((navigation) => navigation.place.page);
  const go = useNavigation((navigation) => navigation.go);
  const language = useTexts((texts) => texts.language);
  const theme = useSetting('theme');
  const change = usePreferences((preferences) => preferences.change);

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      const target = event.altKey && !event.ctrlKey && !event.metaKey ? PAGES[Number(event.key) - 1] : undefined;
      if (target) {
        event.preventDefault();
        go({ page: target });
      }
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, [go]);

  return (
    <header className="flex flex-wrap items-center gap-2 border-b border-line bg-panel px-3 py-1.5">
      <span className="pe-2 font-semibold text-accent">MLXR</span>
      <nav aria-label={t('nav.pages')} className="flex gap-1">
        {PAGES.map((one, at) => (
          <a
            key={one}
            href={`/${one}`}
            aria-current={one === page ? 'page' : undefined}
            title={`Alt+${at + 1}`}
            onClick={(event) => {
              if (event.metaKey || event.ctrlKey || event.shiftKey) return;
              event.preventDefault();
              go({ page: one });
            }}
            className={`rounded-md px-3 py-1.5 ${one === page ? 'bg-accent-soft font-medium' : 'text-muted hover:bg-raised'}`}
          >
            {t(`nav.${one}`)}
          </a>
        ))}
      </nav>
      <span className="grow" />
      <Button small onClick={onPalette} title="Ctrl+K, ⌘K">
        {t('palette.open')} <kbd className="text-xs text-muted">Ctrl K</kbd>
      </Button>
      <select
        aria-label={t('theme')}
        value={theme}
        onChange={(event) => change({ theme: event.target.value as Theme })}
        className="min-h-7 rounded-md border border-line bg-raised px-1 text-sm"
      >
        {THEMES.map((one) => (
          <option key={one} value={one}>
            {t(`theme.${one}`)}
          </option>
        ))}
      </select>
      <select
        aria-label={t('language')}
        value={language}
        onChange={(event) => change({ language: event.target.value })}
        className="min-h-7 rounded-md border border-line bg-raised px-1 text-sm"
      >
        {Object.entries(LANGUAGES).map(([code, name]) => (
          <option key={code} value={code}>
            {name}
          </option>
        ))}
      </select>
    </header>
  );
}
