import { useT } from '@/i18n';
import { DaemonControl } from './DaemonControl';
import { GeneralPanel } from './GeneralPanel';
import { PrivacyPanel } from './PrivacyPanel';

export default function SettingsPage() {
  const t = useT();
  return (
    <div className="h-full overflow-auto" tabIndex={0} role="region" aria-label={t('nav.settings')}>
      <div className="mx-auto flex max-w-3xl flex-col gap-4 p-4">
        <h1 className="text-xl font-semibold">{t('nav.settings')}</h1>
        <GeneralPanel />
        <DaemonControl />
        <PrivacyPanel />
      </div>
    </div>
  );
}
