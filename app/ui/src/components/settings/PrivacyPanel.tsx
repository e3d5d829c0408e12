import { useT } from '@/i18n';
import { Panel } from './SettingRow';

/** What is kept, where, and what never leaves this machine. Facts of how it is built: there is nothing to switch. */
export function PrivacyPanel() {
  const t = useT();
  const facts = ['privacy.chats', 'privacy.drafts', 'privacy.log', 'privacy.images', 'privacy.keys', 'privacy.telemetry'] as const;
  return (
    <Panel title={t('settings.privacy')}>
      <ul className="list-disc space-y-1 ps-5 text-sm">
        {facts.map((fact) => (
          <li key={fact}>{t(fact)}</li>
        ))}
      </ul>
    </Panel>
  );
}
