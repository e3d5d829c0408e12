import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { emptiedPlugin } from './scripts/emptied.ts';

export default defineConfig({
  plugins: [emptiedPlugin(process.env.MLXR_EMPTY)],
  resolve: { alias: { '@': fileURLToPath(new URL('./src', import.meta.url)) } },
  // Nothing waits for long; but a busy machine may hold any of them up.
  test: { environment: 'jsdom', include: ['test/**/*.test.{ts,tsx}'], testTimeout: 60_000 },
});
