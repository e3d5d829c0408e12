// What somebody else changes is shown by who looks at it.
import { act, cleanup, configure, screen } from '@testing-library/react';
import { afterEach, beforeEach, describe, it, vi } from 'vitest';
import { ModelDetailDrawer } from '@/components/models/ModelDetailDrawer';
import { useChanges } from '@/hooks/useChanges';
import { fakeDaemon, model, show, withDialogs } from './support';

configure({ asyncUtilTimeout: 15_000 });

beforeEach(withDialogs);
afterEach(() => {
  cleanup();
  vi.unstubAllGlobals();
});

function Followed() {
  useChanges();
  return <ModelDetailDrawer name="m" onClose={() => undefined} />;
}

describe('an open model', () => {
  it('is read anew when models change, or what is in memory', async () => {
    let feed: ReadableStreamDefaultController<Uint8Array> | undefined;
    let details = { model: model({ quantization: 'Q4_1' }), modelfile: null, fit: { fits: 'now', weight_bytes: 1, loaded_weight_bytes: 0, budget_bytes: 1 }, description: {} };
    fakeDaemon({
      'GET /ui-api/events': () => new Response(new ReadableStream({ start: (controller) => void (feed = controller) })),
      'GET /ui-api/settings': { version: 1, revision: 0, values: {} },
      'GET /ui-api/models': { models: [] },
      'GET /ui-api/loaded': { loaded: [] },
      'GET /ui-api/models/m': () => details,
    });
    const tell = (kind: string) => act(() => feed?.enqueue(new TextEncoder().encode(`event: change\ndata: {"kind":"${kind}","op":"changed"}\n\n`)));
    show(<Followed />);
    await screen.findByText('Q4_1');
    details = { ...details, model: model({ quantization: 'Q8_0' }) };
    tell('models');
    await screen.findByText('Q8_0');
    details = { ...details, fit: { ...details.fit, fits: 'never' } };
    tell('loaded');
    await screen.findByText('Does not fit');
  });
});
