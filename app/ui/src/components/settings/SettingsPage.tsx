import { useT } from '@/i18n';
import { ConfigEditor } from './ConfigEditor';
import { DaemonControl } from './DaemonControl';
import { GeneralPanel } from './GeneralPanel';
import { KeyboardShortcuts } from './KeyboardShortcuts';
import { PathsPanel } from './PathsPanel';
import { PerformancePanel } from './PerformancePanel';
import { PrivacyPanel } from './PrivacyPanel';
import { UpdatesPanel } from './UpdatesPanel';

const PANELS = [
  ['settings.general', GeneralPanel],
  ['settings.performance', PerformancePanel],
  ['settings.paths', PathsPanel],
  ['config.title', ConfigEditor],
  ['keys.title', KeyboardShortcuts],
  ['daemon.title', DaemonControl],
  ['settings.updates', UpdatesPanel],
  ['settings.privacy', PrivacyPanel],
] as const;

export default function SettingsPage() {
  const t = useT();
  return (
    <div className="h-full overflow-auto" tabIndex={0} role="region" aria-label={t('nav.settings')}>
      <div className="mx-auto flex max-w-5xl gap-6 p-4">
        <nav aria-label={t('settings.sections')} className="sticky top-4 hidden w-44 shrink-0 self-start md:block">
          <ul className="flex flex-col gap-1 text-sm">
            {PANELS.map(([title]) => (
              <li key={title}>
                <a href={`#${title}`} className="block rounded-md px-3 py-1.5 text-muted hover:bg-panel">
                  {t(title)}
                </a>
              </li>
            ))}
          </ul>
        </nav>
        <div className="flex min-w-0 grow flex-col gap-4">
          <h1 className="text-xl font-semibold">{t('nav.settings')}</h1>
          {PANELS.map(([title, Shown]) => (
            <div key={title} id={title} className="scroll-mt-4">
              <Shown />
            </div>
          ))}
        </div>
      </div>
    </div>
  );
}
