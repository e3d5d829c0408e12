import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Button } from '@/components/ui/Button';
import { useDaemon } from '@/hooks/useDaemon';
import { useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';
import { useNavigation } from '@/stores/navigation';
import { usePulls } from '@/stores/pulls';
import { ModelDetailDrawer } from './ModelDetailDrawer';
import { ModelPullDialog } from './ModelPullDialog';
import { PullProgress } from './PullProgress';
import { RegistryTable } from './RegistryTable';

export default function ModelsPage() {
  const t = useT();
  const client = useQueryClient();
  const { rows, error } = useModels();
  const { data: status } = useDaemon();
  const name = useNavigation((navigation) => navigation.place.name);
  const go = useNavigation((navigation) => navigation.go);
  const { pulls, find } = usePulls();
  const [pulling, setPulling] = useState(false);

  useEffect(() => {
    // Without the right to see jobs there are none to show.
    find(client).catch(() => undefined);
  }, [client, find]);

  return (
    <div className="mx-auto flex h-full max-w-6xl flex-col gap-4 overflow-auto p-4">
      <div className="flex flex-wrap items-center gap-3">
        <h1 className="text-xl font-semibold">{t('nav.models')}</h1>
        {status && (
          <span className="text-sm text-muted">
            {t('models.memory', {
              weights: formatBytes(status.memory.weight_bytes),
              kv: formatBytes(status.memory.kv_bytes_used),
              backend: status.engine.backend,
            })}
          </span>
        )}
        <span className="grow" />
        <Button look="primary" onClick={() => setPulling(true)}>
          {t('models.get')}
        </Button>
      </div>
      {pulls.map((pull) => (
        <PullProgress key={pull.id} pull={pull} />
      ))}
      {error && <p className="text-danger">{error.message}</p>}
      {rows?.length === 0 && <p className="text-muted">{t('models.none')}</p>}
      {rows && rows.length > 0 && <RegistryTable rows={rows} />}
      {pulling && <ModelPullDialog onClose={() => setPulling(false)} />}
      {name !== null && <ModelDetailDrawer key={name} name={name} onClose={() => go({ page: 'models' })} />}
    </div>
  );
}
