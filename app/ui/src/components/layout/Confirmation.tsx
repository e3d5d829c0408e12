import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { useT } from '@/i18n';
import { useConfirmation } from '@/stores/confirmation';

/** Whether something is to be deleted. Enter, which has the focus at first, keeps it. */
export function Confirmation() {
  const t = useT();
  const { asked, answer } = useConfirmation();
  if (!asked) return null;
  const question = t('confirm.remove', { name: asked.what });
  return (
    <Dialog label={question} onClose={() => answer(false)}>
      <div className="flex flex-col gap-4 p-5">
        <p className="break-words">{question}</p>
        <div className="flex justify-end gap-2">
          <Button onClick={() => answer(false)}>{t('cancel')}</Button>
          <Button look="danger" onClick={() => answer(true)}>
            {t('remove')}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
