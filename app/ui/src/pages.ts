// The pages, each in a file of its own that is loaded when it is first shown. No imports: src/start.ts is to be small.

/** One load for who asks first and for who draws; after a failure the next one tries anew. */
function once<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | undefined;
  return () =>
    (loading ??= load().catch((error: unknown) => {
      loading = undefined;
      throw error;
    }));
}

export const pages = {
  chat: once(() => import('@/components/chat/ChatPage')),
  models: once(() => import('@/components/models/ModelsPage')),
  logs: once(() => import('@/components/logs/LogViewer')),
  settings: once(() => import('@/components/settings/SettingsPage')),
  dashboard: once(() => import('@/components/metrics/LiveMetrics')),
  playground: once(() => import('@/components/playground/PlaygroundPage')),
  tray: once(() => import('@/components/layout/TrayPage')),
};

/** Loads what a path shows. */
export function loadPage(path: string): Promise<unknown> {
  const name = path.split('/')[1] ?? '';
  return (Object.hasOwn(pages, name) ? pages[name as keyof typeof pages] : pages.chat)();
}
