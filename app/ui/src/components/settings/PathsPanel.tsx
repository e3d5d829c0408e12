import { useState } from 'react';
import { Button } from '@/components/ui/Button';
import { useChangeOptions, useOptions } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { showError } from '@/stores/toasts';
import { OptionRow } from './OptionRow';
import { PathPicker } from './PathPicker';
import { RestartNote } from './RestartNote';
import { Panel } from './SettingRow';

/** Where the daemon keeps things, how much room is left there, and the one place that can be chosen while it runs. */
export function PathsPanel() {
  const t = useT();
  const { data, error } = useOptions();
  const change = useChangeOptions();
  const [picking, setPicking] = useState(false);
  const fixed = data?.options.find((one) => one.name === 'kv_dir')?.source === 'command_line';
  return (
    <Panel title={t('settings.paths')}>
      {error && <p className="text-danger">{error.message}</p>}
      {data && <RestartNote options={data} />}
      {data && (
        <dl className="grid grid-cols-[auto_1fr_auto] gap-x-4 gap-y-1 pb-2 text-sm">
          {data.places.map((place) => (
            <div key={place.name} className="contents">
              <dt className="text-muted">{t(`paths.${place.name}`)}</dt>
              <dd className="break-all">{place.path}</dd>
              <dd className="text-end text-muted">{place.free_bytes === null ? '' : t('paths.free', { size: formatBytes(place.free_bytes) })}</dd>
            </div>
          ))}
        </dl>
      )}
      {data && (
        <OptionRow options={data} name="kv_dir" kind="text">
          <Button small disabled={!data.writable || fixed} onClick={() => setPicking(true)}>
            {t('paths.choose')}
          </Button>
        </OptionRow>
      )}
      {data && picking && (
        <PathPicker
          label={t('options.kv_dir')}
          from={data.saved.kv_dir || data.running.kv_dir}
          onClose={() => setPicking(false)}
          onPick={(path) => {
            setPicking(false);
            change.mutate({ kv_dir: path }, { onError: showError });
          }}
        />
      )}
    </Panel>
  );
}
