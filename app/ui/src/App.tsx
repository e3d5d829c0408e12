import { lazy, Suspense, useMemo, useState } from 'react';
import { ConnectionBanner } from '@/components/layout/ConnectionBanner';
import { Confirmation } from '@/components/layout/Confirmation';
import { ErrorBoundary } from '@/components/layout/ErrorBoundary';
import { KeyDialog } from '@/components/layout/KeyDialog';
import { Navigation } from '@/components/layout/Navigation';
import { Toasts } from '@/components/layout/Toasts';
import { Dialog } from '@/components/ui/Dialog';
import { useChanges } from '@/hooks/useChanges';
import { useShortcuts } from '@/hooks/useShortcuts';
import { useT } from '@/i18n';
import { pages } from '@/pages';
import { useNavigation } from '@/stores/navigation';

const CommandPalette = lazy(() => import('@/components/layout/CommandPalette'));

const shown = {
  chat: lazy(pages.chat),
  models: lazy(pages.models),
  logs: lazy(pages.logs),
  settings: lazy(pages.settings),
  dashboard: lazy(pages.dashboard),
  playground: lazy(pages.playground),
};

export function App() {
  const t = useT();
  const page = useNavigation((navigation) => navigation.place.page);
  const Shown = shown[page];
  const [palette, setPalette] = useState(false);
  useChanges();

  const [tray, setTray] = useState(false);
  const run = useMemo(() => ({ palette: () => setPalette((open) => !open), tray: () => setTray((open) => !open) }), []);
  useShortcuts(run);

  return (
    <div className="flex h-full flex-col">
      <Navigation onPalette={() => setPalette(true)} tray={tray} onTray={setTray} />
      <ConnectionBanner />
      <main className="min-h-0 grow">
        <ErrorBoundary at={page}>
          <Suspense>
            <Shown />
          </Suspense>
        </ErrorBoundary>
      </main>
      {palette && (
        <ErrorBoundary
          at="palette"
          frame={(words) => (
            <Dialog label={t('palette.open')} onClose={() => setPalette(false)}>
              {words}
            </Dialog>
          )}
        >
          <Suspense>
            <CommandPalette onClose={() => setPalette(false)} />
          </Suspense>
        </ErrorBoundary>
      )}
      <Confirmation />
      <KeyDialog />
      <Toasts />
    </div>
  );
}
