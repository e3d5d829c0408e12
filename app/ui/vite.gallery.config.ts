import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { common } from './vite.config.ts';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

/** The gallery as files, for its test; `tools/ui gallery` serves it from its sources. */
export default defineConfig({
  ...common,
  base: './',
  build: {
    target: 'es2022',
    outDir: here('../../build/ui/gallery'),
    emptyOutDir: true,
    chunkSizeWarningLimit: 2000,
    rolldownOptions: { input: [here('gallery/index.html'), here('gallery/state.html')] },
  },
});
