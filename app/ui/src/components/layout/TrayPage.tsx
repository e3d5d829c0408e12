import { useChanges } from '@/hooks/useChanges';
import { KeyDialog } from './KeyDialog';
import { Toasts } from './Toasts';
import { TrayPopover } from './TrayPopover';

/** The popover as a page of its own: what a menu bar's window shows. */
export default function TrayPage() {
  useChanges();
  return (
    <main className="mx-auto max-w-sm">
      <h1 className="sr-only">MLXR</h1>
      <TrayPopover alone />
      <KeyDialog />
      <Toasts />
    </main>
  );
}
