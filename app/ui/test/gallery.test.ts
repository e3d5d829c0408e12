// The gallery of components has all of them, and the page that is shipped has none of the gallery.
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { build } from 'vite';
import components from '../scripts/components.json';
import { shippedOnly, strangers } from '../scripts/shipped';

// jsdom has no canvas.
vi.mock('uplot', () => ({ default: undefined }));

const root = join(import.meta.dirname, '..');
/** Of a function, or of what memo() has made of one. */
const nameOf = (component: unknown): string => {
  const { name, type } = component as { name?: string; type?: { name: string } };
  return name ?? type?.name ?? '';
};

describe('the gallery', () => {
  it('has every component of the page under its name, and what is drawn is that component', async () => {
    const { PARTS } = await import('../gallery/parts');
    const wanted = Object.entries(components).flatMap(([folder, names]) => names.map((name) => `${folder}/${name}`));
    expect(wanted).toHaveLength(43);
    expect(PARTS.map(({ folder, name }) => `${folder}/${name}`).sort()).toEqual([...wanted].sort());
    for (const { name, component, states } of PARTS) {
      expect(nameOf(component)).toBe(name);
      expect(Object.keys(states)).not.toEqual([]);
    }
  });
  it('shows what can be empty, busy or wrong so, too', async () => {
    const { PARTS } = await import('../gallery/parts');
    for (const state of ['empty', 'busy', 'error']) expect([state, PARTS.filter(({ states }) => state in states).length >= 15]).toEqual([state, true]);
  });
});

describe('what is shipped', () => {
  it('is the sources of the page and the packages that it depends on, nothing else', () => {
    const mine = ['\0vite/preload-helper.js', '/ui/src/main.tsx', '/ui/index.html?html-proxy', '/ui/node_modules/react/index.js', '/ui/node_modules/@tanstack/react-query/x.js', '/ui/node_modules/vite/node_modules/react/x.js'];
    const other = ['/ui/gallery/world.ts', '/ui/test/fixtures.ts', '/ui/node_modules/@testing-library/react/x.js', '/elsewhere/x.js'];
    // Of packages for developers: what another one brings, what lies in one that is shipped, and what nothing is known of.
    const brought = ['/ui/node_modules/aria-query/x.js', '/ui/node_modules/react/node_modules/vite/x.js', '/ui/node_modules/unknown/x.js'];
    const dev = { dev: true };
    const packages = {
      '': {}, 'node_modules/react': {}, 'node_modules/@tanstack/react-query': {}, 'node_modules/vite/node_modules/react': {}, 'node_modules/vite': dev,
      'node_modules/@testing-library/react': dev, 'node_modules/aria-query': dev, 'node_modules/react/node_modules/vite': dev,
    }; // prettier-ignore
    expect(strangers(mine, '/ui', { packages })).toEqual([]);
    expect(strangers([...mine, ...other], '/ui', { packages })).toEqual(['gallery/world.ts', 'test/fixtures.ts', 'node_modules/@testing-library/react/x.js', '/elsewhere/x.js']);
    expect(strangers(brought, '/ui', { packages })).toEqual(brought.map((id) => id.replace('/ui/', '')));
  });
  it('is looked at in each build: one with the made-up daemon in it fails', async () => {
    const made = (input: string) =>
      build({ root, configFile: false, logLevel: 'silent', plugins: [shippedOnly()], build: { write: false, rolldownOptions: { input: join(root, input) } } });
    await expect(made('test/fixtures.ts')).rejects.toThrow('not to be shipped: test/fixtures.ts');
    await expect(made('node_modules/@testing-library/dom/dist/config.js')).rejects.toThrow(/not to be shipped: .*node_modules\/@testing-library\/dom\//);
    await expect(made('src/lib/sizes.ts')).resolves.toBeTruthy();
  });
});
