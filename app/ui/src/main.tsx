import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { lazy, startTransition, StrictMode, Suspense } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { ApiError } from './api/client';
import { ErrorBoundary } from './components/layout/ErrorBoundary';
import { keepPage } from './lib/worker';
import { loadPage, pages } from './pages';
import { followHistory } from './stores/navigation';
import { applyPreferences } from './stores/preferences';

applyPreferences();
followHistory();

const client = new QueryClient({
  defaultOptions: {
    queries: {
      // The daemon is on this machine or near it: whether the browser believes to be online says nothing.
      networkMode: 'always',
      retry: (count, error) => count < 2 && !(error instanceof ApiError && error.status >= 400 && error.status < 500),
      staleTime: 1000,
    },
    mutations: { networkMode: 'always' },
  },
});

const TrayPage = lazy(pages.tray);

const root = document.getElementById('root');
if (root) {
  // Frame and page come as one view: nothing moves, and React would hold back what comes just after a frame for a third of a second.
  await loadPage(location.pathname).catch(() => undefined);
  const page = createRoot(root);
  // As a transition the first view is made in small pieces, between which the browser may do what somebody wants of it.
  startTransition(() =>
    page.render(
      <StrictMode>
        <ErrorBoundary at="" whole frame={(words) => <main>{words}</main>}>
          <QueryClientProvider client={client}>
            {location.pathname === '/tray' ? (
              <Suspense>
                <TrayPage />
              </Suspense>
            ) : (
              <App />
            )}
          </QueryClientProvider>
        </ErrorBoundary>
      </StrictMode>,
    ),
  );
}

// After the page: it is for the next time. A browser that has none does without. The page may have been loaded before this script was.
const keep = () => void keepPage().catch(() => undefined);
if (document.readyState === 'complete') keep();
else window.addEventListener('load', keep);
