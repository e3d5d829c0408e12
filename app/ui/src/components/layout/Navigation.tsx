import { Button } from '@/components/ui/Button';
import { Select } from '@/components/ui/Select';
import { LANGUAGES, useT, useTexts, type Language } from '@/i18n';
import { keysOf, showKeys } from '@/lib/shortcuts';
import { PAGES, useNavigation } from '@/stores/navigation';
import { THEMES, useChangeSettings, useSetting } from '@/stores/preferences';
import { TrayButton } from './TrayButton';

const LANGUAGE_NAMES = Object.entries(LANGUAGES) as [Language, string][];

interface Props {
  onPalette: () => void;
  tray: boolean;
  onTray: (open: boolean) => void;
}

/** Tabs, and what belongs to every page. Their keys are in lib/shortcuts. */
export function Navigation({ onPalette, tray, onTray }: Props) {
  const t = useT();
  const page = useNavigation((navigation) => navigation.place.page);
  const go = useNavigation((navigation) => navigation.go);
  const language = useTexts((texts) => texts.language);
  const theme = useSetting('theme');
  const change = useChangeSettings();
  const keys = keysOf(useSetting('shortcuts'));

  return (
    <header className="flex flex-wrap items-center gap-2 border-b border-line bg-panel px-3 py-1.5">
      <span className="pe-2 font-semibold text-accent">MLXR</span>
      <nav aria-label={t('nav.pages')} className="-mx-1 flex max-w-full gap-1 overflow-x-auto p-1 max-sm:order-last max-sm:w-full max-sm:flex-wrap max-sm:gap-0 max-sm:text-sm">
        {PAGES.map((one) => (
          <a
            key={one}
            href={`/${one}`}
            aria-current={one === page ? 'page' : undefined}
            title={showKeys(keys[`go_${one}`])}
            onClick={(event) => {
              if (event.metaKey || event.ctrlKey || event.shiftKey) return;
              event.preventDefault();
              go({ page: one });
            }}
            className={`rounded-md px-3 py-1.5 max-sm:px-1 ${one === page ? 'bg-accent-soft font-medium' : 'text-muted hover:bg-raised'}`}
          >
            {t(`nav.${one}`)}
          </a>
        ))}
      </nav>
      <span className="grow" />
      <TrayButton open={tray} onToggle={onTray} />
      <Button small onClick={onPalette}>
        {t('palette.open')} <kbd className="text-xs text-muted max-sm:hidden">{showKeys(keys.palette)}</kbd>
      </Button>
      <Select
        label={t('theme')}
        value={theme}
        options={THEMES.map((one) => [one, t(`theme.${one}`)])}
        onChange={(one) => change({ theme: one })}
        className="max-sm:hidden"
      />
      <Select
        label={t('language')}
        value={language}
        options={LANGUAGE_NAMES}
        onChange={(code) => change({ language: code })}
        className="max-sm:hidden"
      />
    </header>
  );
}
