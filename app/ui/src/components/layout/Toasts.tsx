import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { useToasts } from '@/stores/toasts';

export function Toasts() {
  const t = useT();
  const { toasts, close } = useToasts();
  return (
    <div aria-live="polite" className="pointer-events-none fixed inset-x-0 bottom-4 z-50 flex flex-col items-center gap-2">
      {toasts.map((toast) => (
        <div
          key={toast.id}
          role={toast.error ? 'alert' : 'status'}
          className="pointer-events-auto flex max-w-[92vw] items-center gap-3 rounded-lg border border-line bg-raised px-4 py-2 shadow-lg"
        >
          <span className={toast.error ? 'text-danger' : ''}>{toast.text}</span>
          {toast.action && (
            <Button
              small
              look="primary"
              onClick={() => {
                toast.action?.run();
                close(toast.id);
              }}
            >
              {toast.action.label}
            </Button>
          )}
          <Button small look="ghost" aria-label={t('close')} onClick={() => close(toast.id)}>
            <Icon name="close" />
          </Button>
        </div>
      ))}
    </div>
  );
}
