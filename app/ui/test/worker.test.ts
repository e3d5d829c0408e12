// The service worker's script, in a world of its own.
import { readFileSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';

const script = readFileSync('public/sw.js', 'utf8');

/** What the page gets for a request, with these caches and this network. */
function ask(path: string, mode: string, kept: object, network: () => Promise<Response>): Promise<Response> {
  const on: Record<string, (event: object) => void> = {};
  const self = { location: new URL('http://x/'), addEventListener: (name: string, run: (event: object) => void) => (on[name] = run) };
  runInNewContext(script, { self, caches: { open: () => Promise.resolve(kept) }, fetch: network, URL });
  return new Promise((resolve) => {
    on.fetch?.({ request: { method: 'GET', mode, url: `http://x${path}` }, respondWith: resolve });
  });
}
const answer = (type: string) => Promise.resolve(Object.defineProperty(new Response('good', { headers: { 'Content-Type': type } }), 'type', { value: 'basic' }));

describe('the service worker', () => {
  const full = () => Promise.reject(new DOMException('no room', 'QuotaExceededError'));
  it.each([
    ['/chat', 'navigate', 'text/html'],
    ['/assets/App-1.js', 'cors', 'text/javascript'],
  ])('gives %s on although there is no room to keep it', async (path, mode, type) => {
    const kept = { put: full, match: () => Promise.resolve(undefined), keys: () => Promise.resolve([]) };
    expect(await (await ask(path, mode, kept, () => answer(type))).text()).toBe('good');
  });
  it('gives what it kept when there is no network', async () => {
    const kept = { match: () => Promise.resolve(new Response('kept')) };
    expect(await (await ask('/chat', 'navigate', kept, () => Promise.reject(new TypeError('away')))).text()).toBe('kept');
  });
});
