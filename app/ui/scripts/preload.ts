// What the page's small first script sends for at once is named in index.html, so that it is on its way before that script has come.
import type { Plugin } from 'vite';

/** Names in index.html the parts of this module, given by the end of its path, that the page's own script does not import at once. */
export const preload = (module: string): Plugin => ({
  name: 'preload',
  apply: 'build',
  transformIndexHtml: {
    order: 'post',
    handler: (html, { bundle = {} }) => {
      const parts = new Set<string>();
      const add = (file: string) => {
        const chunk = bundle[file];
        if (chunk?.type !== 'chunk' || parts.has(file)) return;
        parts.add(file);
        chunk.imports.forEach(add);
      };
      const [first] = Object.values(bundle).filter((chunk) => chunk.type === 'chunk' && chunk.facadeModuleId?.endsWith(module));
      if (!first) throw new Error(`there is no ${module} to be loaded first`);
      add(first.fileName);
      const fresh = [...parts].filter((file) => !html.includes(file));
      return fresh.map((file) => ({ tag: 'link', attrs: { rel: 'modulepreload', crossorigin: true, href: `/${file}` }, injectTo: 'head' }));
    },
  },
});
