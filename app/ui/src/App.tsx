import { lazy, Suspense, useEffect, useState } from 'react';
import { ConnectionBanner } from '@/components/layout/ConnectionBanner';
import { KeyDialog } from '@/components/layout/KeyDialog';
import { Navigation } from '@/components/layout/Navigation';
import { Toasts } from '@/components/layout/Toasts';
import { useChanges } from '@/hooks/useChanges';
import { useNavigation } from '@/stores/navigation';

const ChatPage = lazy(() => import('@/components/chat/ChatPage'));
const ModelsPage = lazy(() => import('@/components/models/ModelsPage'));
const LogViewer = lazy(() => import('@/components/logs/LogViewer'));
const SettingsPage = lazy(() => import('@/components/settings/SettingsPage'));
const LiveMetrics = lazy(() => import('@/components/metrics/LiveMetrics'));
const PlaygroundPage = lazy(() => import('@/components/playground/PlaygroundPage'));
const CommandPalette = lazy(() => import('@/components/layout/CommandPalette'));

const pages = {
  chat: ChatPage,
  models: ModelsPage,
  logs: LogViewer,
  settings: SettingsPage,
  dashboard: LiveMetrics,
  playground: PlaygroundPage,
};

export function App() {
  const page = useNavigation((navigation) => navigation.place.page);
  const Shown = pages[page];
  const [palette, setPalette] = useState(false);
  useChanges();

  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === 'k') {
        event.preventDefault();
        setPalette((open) => !open);
      }
    };
    window.addEventListener('keydown', onKey);
    return () => window.removeEventListener('keydown', onKey);
  }, []);

  return (
    <div className="flex h-full flex-col">
      <Navigation onPalette={() => setPalette(true)} />
      <ConnectionBanner />
      <main className="min-h-0 grow">
        <Suspense>
          <Shown />
        </Suspense>
      </main>
      <Suspense>{palette && <CommandPalette onClose={() => setPalette(false)} />}</Suspense>
      <KeyDialog />
      <Toasts />
    </div>
  );
}
