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

/** Of the page and of the gallery of its components. */
export const common = {
  plugins: [react(), tailwindcss()],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
} satisfies UserConfig;

export default defineConfig({
  ...common,
  plugins: [...common.plugins, preload('/src/components/chat/ChatPage.tsx'), shippedOnly()],
  // Strict content security policy: nothing inline, no data: scripts, no polyfill that injects any.
  build: { target: 'es2022', manifest: true, assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 600 },
  server: { proxy: proxied },
});
