import { Button } from '@/components/ui/Button';
import { canChat, isRemovable, useModelActions, type RegistryRow } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { whenConfirmed } from '@/stores/confirmation';
import { useNavigation } from '@/stores/navigation';
import { useChangeSettings } from '@/stores/preferences';

/** Chat with it, load, unload, remove (with a way back). */
export function ModelActions({ row }: { row: RegistryRow }) {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  const change = useChangeSettings();
  const { load, unload, remove } = useModelActions();
  const usable = !row.why_not;
  return (
    <div className="flex flex-wrap justify-end gap-1">
      {canChat(row) && (
        <Button
          small
          onClick={() => {
            change({ default_model: row.name });
            go({ page: 'chat', id: null });
          }}
        >
          {t('models.chat')}
        </Button>
      )}
      {usable && !row.loaded && (
        <Button small disabled={load.isPending} onClick={() => load.mutate({ model: row.name })}>
          {load.isPending ? t('models.loading') : t('models.load')}
        </Button>
      )}
      {row.loaded && (
        <Button small disabled={unload.isPending || row.loaded.loading} onClick={() => unload.mutate(row.name)}>
          {t('models.unload')}
        </Button>
      )}
      <Button
        small
        look="danger"
        aria-label={t('models.remove_name', { name: row.name })}
        disabled={remove.isPending || !isRemovable(row)}
        title={isRemovable(row) ? undefined : t('models.not_removable', { path: row.path })}
        onClick={() => whenConfirmed(row.name, () => remove.mutate(row.name))}
      >
        {t('remove')}
      </Button>
    </div>
  );
}
