import tailwindcss from '@tailwindcss/vite';
import react from '@vitejs/plugin-react';
import { fileURLToPath } from 'node:url';
import { defineConfig, type UserConfig } from 'vite';
import { preload } from './scripts/preload.ts';
import { shippedOnly } from './scripts/shipped.ts';

// The page is served by the daemon; `npm run dev` sends what is not a file to one on its usual port.
const daemon = process.env.MLXR_URL ?? 'http://127.0.0.1:11435';
const proxied = Object.fromEntries(
  ['/ui-api', '/v1', '/health', '/ready', '/metrics'].map((path) => [path, { target: daemon, changeOrigin: true }]),
);

// What the first view of every page takes, in few files: more of them wait for each other, six at a time.
const groups = [
  { name: 'pages', test: /\/src\/pages\.ts|vite\/preload-helper/, priority: 3 },
  { name: 'react', test: /\/node_modules\/(?:react|react-dom|scheduler)\//, priority: 2 },
  {
    name: 'base',
    test: new RegExp(
      [
        '/node_modules/(?:zustand|@tanstack/(?:query-core|react-query))/',
        '/src/(?:api|components/ui)/',
        '/src/components/(?:chat/ModelSelector|layout/(?:KeyDialog|StatusLight|Toasts))',
        '/src/hooks/use(?:Chats|Daemon|Models)',
        '/src/i18n/(?:index|en)',
        '/src/lib/shortcuts',
        '/src/stores/(?:confirmation|connection|navigation|preferences|toasts)',
      ].join('|'),
    ),
    priority: 1,
  },
];

/** Of the page and of the gallery of its components. */
export const common = {
  plugins: [react(), tailwindcss()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
} satisfies UserConfig;

export default defineConfig({
  ...common,
  plugins: [...common.plugins, preload('/src/main.tsx'), shippedOnly()],
  // Strict content security policy: nothing inline, no data: scripts, no polyfill that injects any.
  build: {
    target: 'es2022',
    manifest: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
    rolldownOptions: { output: { codeSplitting: { groups } } },
  },
  server: { proxy: proxied },
});
