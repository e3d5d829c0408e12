import { useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { Button } from '@/components/ui/Button';
import { useDaemon } from '@/hooks/useDaemon';
import { useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { useNavigation } from '@/stores/navigation';
import { usePulls } from '@/stores/pulls';
import { ModelDetailDrawer } from './ModelDetailDrawer';
import { ModelImport } from './ModelImport';
import { ModelPullDialog } from './ModelPullDialog';
import { ModelStats } from './ModelStats';
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
  const [importing, setImporting] = useState(false);

  useEffect(() => {
    // Without the right to see jobs there are none to show.
    find(client).catch(() => undefined);
  }, [client, find]);

  return (
    <div className="mx-auto flex h-full max-w-6xl flex-col gap-4 overflow-auto p-4">
      <div className="flex flex-wrap items-center gap-3">
        <h1 className="text-xl font-semibold">{t('nav.models')}</h1>
        <span className="grow" />
        <Button onClick={() => setImporting(true)}>{t('import.open')}</Button>
        <Button look="primary" onClick={() => setPulling(true)}>
          {t('models.get')}
        </Button>
      </div>
      {pulls.map((pull) => (
        <PullProgress key={pull.id} pull={pull} />
      ))}
      {error && <p className="text-danger">{error.message}</p>}
      {rows?.length === 0 && <p className="text-muted">{t('models.none')}</p>}
      {rows && rows.length > 0 && <ModelStats rows={rows} status={status} />}
      {rows && rows.length > 0 && <RegistryTable rows={rows} />}
      {importing && <ModelImport onClose={() => setImporting(false)} />}
      {pulling && <ModelPullDialog onClose={() => setPulling(false)} />}
      {name !== null && <ModelDetailDrawer key={name} name={name} onClose={() => go({ page: 'models' })} />}
    </div>
  );
}
