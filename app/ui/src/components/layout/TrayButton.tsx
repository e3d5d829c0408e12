import { lazy, Suspense, useEffect, useRef } from 'react';
import { Button } from '@/components/ui/Button';
import { useT } from '@/i18n';
import { ErrorBoundary } from './ErrorBoundary';
import { StatusLight } from './StatusLight';

const TrayPopover = lazy(() => import('./TrayPopover').then((found) => ({ default: found.TrayPopover })));

/** The spot in the header, and what lies behind it. Escape, or a click elsewhere, closes it. */
export function TrayButton({ open, onToggle }: { open: boolean; onToggle: (open: boolean) => void }) {
  const t = useT();
  const box = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!open) return;
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      onToggle(false);
      box.current?.querySelector('button')?.focus();
    };
    const onDown = (event: PointerEvent) => {
      if (event.target instanceof Node && !box.current?.contains(event.target)) onToggle(false);
    };
    window.addEventListener('keydown', onKey);
    window.addEventListener('pointerdown', onDown);
    return () => {
      window.removeEventListener('keydown', onKey);
      window.removeEventListener('pointerdown', onDown);
    };
  }, [open, onToggle]);
  return (
    <div ref={box} className="relative">
      <Button small aria-expanded={open} aria-label={t('tray.title')} onClick={() => onToggle(!open)}>
        <StatusLight />
      </Button>
      {open && (
        <div className="absolute end-0 top-full z-20 mt-1 w-80 max-w-[90vw] rounded-xl border border-line bg-raised shadow-xl">
          <ErrorBoundary at="tray">
            <Suspense>
              <TrayPopover />
            </Suspense>
          </ErrorBoundary>
        </div>
      )}
    </div>
  );
}
