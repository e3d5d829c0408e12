import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { useNavigation } from '@/stores/navigation';

/** Questions about images. Nothing here can see yet, and the page says so instead of taking images that nobody reads. */
export function VisionPlayground() {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  return (
    <div className="flex flex-col items-center gap-3 rounded-lg border border-line bg-panel p-8 text-center">
      <Icon name="image" className="text-3xl text-muted" />
      <p className="font-medium">{t('vision.none')}</p>
      <p className="max-w-prose text-sm text-muted">{t('vision.why')}</p>
      <Button onClick={() => go({ page: 'models' })}>{t('palette.go', { page: t('nav.models') })}</Button>
    </div>
  );
}
