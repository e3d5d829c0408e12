import { QueryClient, QueryClientProvider } from '@tanstack/react-query';
import { lazy, StrictMode, Suspense } from 'react';
import { createRoot } from 'react-dom/client';
import { App } from './App';
import { ApiError } from './api/client';
import { ErrorBoundary } from './components/layout/ErrorBoundary';
import { keepPage } from './lib/worker';
import { followHistory } from './stores/navigation';
import { applyPreferences } from './stores/preferences';
import './styles.css';

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

const TrayPage = lazy(() => import('./components/layout/TrayPage'));

const root = document.getElementById('root');
if (root) {
  createRoot(root).render(
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
  );
}

// After the page: it is for the next time. A browser that has none does without.
window.addEventListener('load', () => void keepPage().catch(() => undefined));
