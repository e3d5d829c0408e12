// Keeps the page itself, so that an installed one opens (and says that the daemon is away) without the daemon. What the
// daemon answers is never kept: only index.html, asked for anew whenever it can be, and assets, whose names change with
// their bytes.
const KEPT = 'mlxr-page-1';
const ASSETS_MAX = 120;
const PAGES = /^\/(?:$|(?:chat|models|logs|settings|dashboard|playground|tray)(?:\/|$))/;
const FILES = /^\/(?:assets\/[^/]+|favicon\.svg|manifest\.webmanifest)$/;

self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      for (const name of await caches.keys()) if (name !== KEPT) await caches.delete(name);
      await self.clients.claim();
    })(),
  );
});

// A store that is full, or not to be written: the answer is as good without.
const keep = (kept, path, answer) => kept.put(path, answer.clone()).catch(() => undefined);
const usable = (answer, type) => answer.ok && answer.type === 'basic' && (answer.headers.get('Content-Type') ?? '').startsWith(type);

async function page(request) {
  const kept = await caches.open(KEPT);
  try {
    const answer = await fetch(request);
    if (usable(answer, 'text/html')) await keep(kept, '/', answer);
    return answer;
  } catch (error) {
    const before = await kept.match('/', { ignoreVary: true });
    if (before) return before;
    throw error;
  }
}

async function file(request, path) {
  const kept = await caches.open(KEPT);
  const lasting = path.startsWith('/assets/');
  const before = await kept.match(path, { ignoreVary: true });
  if (lasting && before) return before;
  try {
    const answer = await fetch(request);
    if (usable(answer, '')) {
      await keep(kept, path, answer);
      const names = await kept.keys();
      // The oldest first; of a program that is no more.
      for (const name of names.slice(0, Math.max(0, names.length - ASSETS_MAX))) {
        if (new URL(name.url).pathname !== '/') await kept.delete(name);
      }
    }
    return answer;
  } catch (error) {
    if (before) return before;
    throw error;
  }
}

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== 'GET' || url.origin !== self.location.origin || url.search) return;
  if (request.mode === 'navigate' && PAGES.test(url.pathname)) event.respondWith(page(request));
  else if (FILES.test(url.pathname)) event.respondWith(file(request, url.pathname));
});
