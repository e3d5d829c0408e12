// The service worker that keeps the page for when the daemon is away. Only this one address may become a script's.
interface Policies {
  createPolicy: (name: string, rules: { createScriptURL: (url: string) => string }) => { createScriptURL: (url: string) => unknown };
}

const WORKER = '/sw.js';

export async function keepPage(): Promise<void> {
  if (!('serviceWorker' in navigator) || !isSecureContext) return;
  const { trustedTypes } = globalThis as { trustedTypes?: Policies };
  const policy = trustedTypes?.createPolicy('mlxr-worker', {
    createScriptURL: (url) => {
      if (url !== WORKER) throw new TypeError(url);
      return url;
    },
  });
  await navigator.serviceWorker.register((policy ? policy.createScriptURL(WORKER) : WORKER) as string, { scope: '/', updateViaCache: 'none' });
}
