// What the page that is shipped may be made of: its own sources, and the packages that those which package.json calls dependencies
// bring, by package-lock.json. Fixtures, tests and the gallery, with the daemon that they make up, are none of these, nor is what only a
// package for developers brings: a build with one of them in it fails.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Plugin } from 'vite';

interface Lock {
  packages: Record<string, { dev?: boolean }>;
}

/** Modules of a build that are not to be shipped, by their paths from `root`. */
export function strangers(modules: readonly string[], root: string, { packages }: Lock): string[] {
  const mine = (id: string) => {
    if (id.startsWith('\0')) return true; // the bundler's own
    const path = (id.split('?')[0] ?? '').replaceAll('\\', '/');
    const packed = /\/(node_modules\/(?:.*\/node_modules\/)?(?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1];
    if (packed !== undefined) return packages[packed] !== undefined && !packages[packed].dev;
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
      const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
      const modules = Object.values(bundle).flatMap((chunk) => (chunk.type === 'chunk' ? Object.keys(chunk.modules) : []));
      const found = strangers(modules, root, lock);
      if (found.length) this.error(`not to be shipped: ${found.join(' ')}`);
    },
  };
}
