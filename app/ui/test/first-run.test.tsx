// What somebody is offered who has no model yet.
import { cleanup, configure, fireEvent, screen, waitFor } from '@testing-library/react';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { CatalogueEntry } from '@/api/types';
import FirstRun, { toBeginWith } from '@/components/layout/FirstRun';
import { fakeDaemon, show, status } from './support';

configure({ asyncUtilTimeout: 15_000 });

const MIB = 1 << 20;
const entry = (name: string, mib: number, first = true): CatalogueEntry =>
  ({ name, source: `hf:${name}`, about: `${name}, in words`, n_params: 1e9, bytes: mib * MIB, memory_bytes: 1.5 * mib * MIB, digest: null, exact: false, first });
const models = [entry('middle', 800), entry('large', 2400), entry('tiny', 100), entry('huge coder', 4800, false)];
const offered = (machine_bytes: number, budget_bytes = 0) => toBeginWith({ models, machine_bytes }, budget_bytes).map(({ name }) => name);

afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

describe('the first model', () => {
  it('is the largest of those to begin with that leaves half of the machine to others, and the smallest beside it', () => {
    expect(offered(64 * 1024 * MIB)).toEqual(['large', 'tiny']);
    expect(offered(7200 * MIB)).toEqual(['large', 'tiny']);
    expect(offered(7199 * MIB)).toEqual(['middle', 'tiny']);
    expect(offered(1024 * MIB)).toEqual(['tiny']);
  });
  it('fits what the daemon may use', () => {
    expect(offered(64 * 1024 * MIB, 2048 * MIB)).toEqual(['middle', 'tiny']);
    expect(offered(0, 2048 * MIB)).toEqual(['middle', 'tiny']);
  });
  it('is the smallest where nothing fits, or nothing is known of the memory', () => {
    expect(offered(64 * MIB)).toEqual(['tiny']);
    expect(offered(0)).toEqual(['tiny']);
    expect(toBeginWith({ models: [], machine_bytes: 1 }, 0)).toEqual([]);
  });
  it('comes with one click', async () => {
    const asked = fakeDaemon({
      'GET /ui-api/catalogue': { models, machine_bytes: 16 * 1024 * MIB }, 'GET /ui-api/status': status({ memory: { ...status().memory, budget_bytes: 0 } }),
      'GET /ui-api/jobs': { jobs: [] }, 'POST /ui-api/models/pull': new Response(''),
    }); // prettier-ignore
    show(<FirstRun />);
    fireEvent.click(await screen.findByRole('button', { name: 'Get large (2.3 GiB)' }));
    expect(screen.getByText('large, in words')).toBeTruthy();
    await waitFor(() => expect(asked.find(({ method }) => method === 'POST')).toMatchObject({ url: '/ui-api/models/pull', body: { source: 'large' } }));
    expect(screen.getByRole('button', { name: 'Get tiny (100 MiB)' })).toBeTruthy();
  });
});
