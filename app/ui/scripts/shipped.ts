// What the page that is shipped may be made of: its own sources, and the packages that package.json calls dependencies. Fixtures, tests
// and the gallery, with the daemon that they make up, are none of these: a build with one of them in it fails.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

/** Modules of a build that are not to be shipped, by their paths from `root`. */
export function strangers(modules: readonly string[], root: string, developers: readonly string[]): string[] {
  const mine = (id: string) => {
    if (id.startsWith('\0')) return true; // the bundler's own
    const path = (id.split('?')[0] ?? '').replaceAll('\\', '/');
    const packed = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (packed !== undefined) return !developers.includes(packed);
    return path.startsWith(`${root}/src/`) || path === `${root}/index.html`;
  };
  return modules.filter((id) => !mine(id)).map((id) => id.replace(`${root}/`, ''));
}

export function shippedOnly(): Plugin {
  let root = '';
  return {
    name: 'shipped-only',
    apply: 'build',
    configResolved: (config) => {
      root = config.root.replaceAll('\\', '/');
    },
    generateBundle(_, bundle) {
      const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { devDependencies: Record<string, string> };
      const modules = Object.values(bundle).flatMap((chunk) => (chunk.type === 'chunk' ? Object.keys(chunk.modules) : []));
      const found = strangers(modules, root, Object.keys(devDependencies));
      if (found.length) this.error(`not to be shipped: ${found.join(' ')}`);
    },
  };
}
