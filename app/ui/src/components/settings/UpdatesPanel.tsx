import { useOptions } from '@/hooks/useOptions';
import { Button } from '@/components/ui/Button';
import { Facts } from '@/components/ui/Facts';
import { useT } from '@/i18n';
import { copyText } from '@/lib/clipboard';
import { showError, useToasts } from '@/stores/toasts';
import { Panel } from './SettingRow';

/** What this program is, as far as it can be known without asking anybody: it calls no server about updates. */
export function UpdatesPanel() {
  const t = useT();
  const { data, error } = useOptions();
  const build = data?.build;
  const rows = build && ([
    [t('daemon.version'), build.version],
    [t('updates.system'), `${build.system}, ${build.machine}`],
    [t('daemon.backend'), build.backend],
    [t('updates.cpu'), build.cpu_features || t('updates.cpu_plain')],
    [t('options.threads'), String(build.n_threads)],
    [t('updates.compiler'), build.compiler],
  ] as const);
  const copy = async () => {
    await copyText((rows ?? []).map(([name, value]) => `${name}: ${value}`).join('\n'));
    useToasts.getState().show(t('copied'));
  };
  return (
    <Panel title={t('settings.updates')}>
      {error && <p className="text-danger">{error.message}</p>}
      {rows && <Facts rows={rows} />}
      <p role="status" className="pt-3 text-sm">
        {build?.replaced ? t('updates.replaced') : t('updates.none_known')}
      </p>
      <p className="pt-1 text-sm text-muted">{t('updates.how')}</p>
      <div className="pt-3">
        <Button small disabled={!rows} onClick={() => void copy().catch(showError)}>
          {t('updates.copy')}
        </Button>
      </div>
    </Panel>
  );
}
