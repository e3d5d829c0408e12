import { describe, expect, it } from 'vitest';
import { addressOf } from '@/api/client';
import type { UiGenerationEvent, UiMessage } from '@/api/schema';
import { EventParser } from '@/api/sse';
import { readTextFile } from '@/components/chat/AttachmentButton';
import { arrange } from '@/components/models/RegistryTable';
import type { RegistryRow } from '@/hooks/useModels';
import { languageOf, translator } from '@/i18n';
import de from '@/i18n/de.json';
import en from '@/i18n/en.json';
import es from '@/i18n/es.json';
import fr from '@/i18n/fr.json';
import { BYTE_STEPS, formatBytes, formatCount } from '@/lib/format';
import { highlight } from '@/lib/highlight';
import { pathTo } from '@/lib/tree';
import { pathOf, placeOf } from '@/stores/navigation';
import { applyEvent, type Live } from '@/stores/streams';

describe('events', () => {
  const text = ': ping\r\nevent: text\r\nid: 7\r\ndata: {"a":\r\ndata: 1}\r\n\r\ndata: é\n\nevent: none\n\ndata:x\r\r';
  const expected = [
    { event: 'text', data: '{"a":\n1}', id: '7' },
    { event: 'message', data: 'é', id: '7' },
    { event: 'message', data: 'x', id: '7' },
  ];
  it('are the same in pieces of any size', () => {
    for (let size = 1; size <= text.length; size++) {
      const parser = new EventParser();
      const found = [];
      for (let at = 0; at < text.length; at += size) found.push(...parser.push(text.slice(at, at + size)));
      // A lone CR at the end may be half of CR LF: one more character tells.
      found.push(...parser.push('\n'));
      expect(found).toEqual(expected);
    }
  });
});

describe('an answer under way', () => {
  const empty: Live = {
    generation: 1, chat: 1, content: '', reasoning: '', calls: [], warnings: [], state: 'running', stats: undefined,
    promptTokens: 0, contextTokens: 0,
  }; // prettier-ignore
  it('is what its events make of it', () => {
    const events: UiGenerationEvent[] = [
      { n: 1, type: 'start', content: 'So far', prompt_tokens: 9, context_tokens: 100 },
      { n: 2, type: 'reasoning', text: 'hm' },
      { n: 3, type: 'text', text: ', so good' },
      { n: 4, type: 'tool_call', tool_call: { id: 'a', type: 'function', function: { name: 'f', arguments: '{}' } } },
      { n: 5, type: 'end', state: 'stopped', stats: { finish_reason: 'stopped' } },
    ];
    const live = events.reduce(applyEvent, empty);
    expect(live).toMatchObject({ content: 'So far, so good', reasoning: 'hm', state: 'stopped', promptTokens: 9 });
    expect(live.calls.map((call) => call.function.name)).toEqual(['f']);
  });
});

describe('branches', () => {
  const message = (id: number, parent: number | null) => ({ id, parent }) as UiMessage;
  const all = [message(1, null), message(2, 1), message(3, 1), message(4, 3), message(5, 2), message(6, null)];
  const ids = (leaf: number | null) => pathTo(all, leaf).map((shown) => shown.message.id);
  it('are shown from the beginning to the leaf', () => {
    expect(ids(4)).toEqual([1, 3, 4]);
    expect(ids(5)).toEqual([1, 2, 5]);
    expect(pathTo(all, 4)[1]?.siblings.map((one) => one.id)).toEqual([2, 3]);
  });
  it('end with the newest where the leaf is not known', () => {
    expect(ids(null)).toEqual([6]);
    expect(ids(99)).toEqual([6]);
  });
});

describe('the registry', () => {
  const row = (name: string, bytes: number, quantization: string | null) => ({ name, bytes, quantization, family: 'llama', n_params: 1 }) as RegistryRow;
  const rows = [row('b', 2, 'Q4_1'), row('a', 3, 'Q8_0'), row('c', 1, null)];
  const names = (...how: [string, 'name' | 'bytes', boolean]) => arrange(rows, ...how).map((one) => one.name);
  it('is sorted and filtered', () => {
    expect(names('', 'name', false)).toEqual(['a', 'b', 'c']);
    expect(names('', 'bytes', true)).toEqual(['a', 'b', 'c']);
    expect(names('LLAMA q4', 'name', false)).toEqual(['b']);
  });
});

describe('addresses', () => {
  it('carry names with slashes as one name', () => {
    const { method, url } = addressOf('GET /ui-api/models/{name}', { path: { name: 'a/b c?' }, query: { details: true } });
    expect([method, url]).toEqual(['GET', '/ui-api/models/a%2Fb%20c%3F?details=true']);
  });
  it('of pages come back as they went', () => {
    expect(placeOf(pathOf({ page: 'models', name: 'a/b c' }))).toEqual({ page: 'models', id: null, name: 'a/b c' });
    expect(placeOf(pathOf({ page: 'chat', id: 7 }))).toEqual({ page: 'chat', id: 7, name: null });
    expect(placeOf('/')).toEqual({ page: 'chat', id: null, name: null });
    expect(placeOf('/chat/7x').id).toBeNull();
    expect(placeOf('/models/100%').name).toBe('100%');
  });
});

describe('catalogues', () => {
  it.each(Object.entries({ de, fr, es }))('%s has every text, with the same values in it', (_, catalogue) => {
    const values = (text: string) => [...text.matchAll(/\{\w+\}/g)].map((found) => found[0]).sort();
    expect(Object.keys(catalogue).sort()).toEqual(Object.keys(en).sort());
    for (const [key, text] of Object.entries(catalogue)) expect(values(text)).toEqual(values(en[key as keyof typeof en]));
  });
  it('fill values in, and fall back to English', () => {
    expect(translator({})('branch.of', { at: 1, n: 2 })).toBe('Version 1 of 2');
    expect(languageOf(['pt-BR', 'fr-CA', 'en'])).toBe('fr');
    expect(languageOf(['__proto__', 'zz'])).toBe('en');
  });
});

describe('files', () => {
  it('that are no text are refused by name', async () => {
    await expect(readTextFile(new File([new Uint8Array([0xff, 0xfe, 0])], 'a.bin'))).rejects.toThrow('a.bin: not a text file');
    expect(await readTextFile(new File(['héllo'], 'a.txt'))).toMatchObject({ name: 'a.txt', content: 'héllo' });
  });
});

describe('what is shown', () => {
  it('numbers as people read them', () => {
    expect(formatBytes(98362432)).toBe('93.8 MiB');
    expect(formatCount(134515008)).toBe('135 M');
  });
  it('bytes on an axis without a rest', () => {
    const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
    const read = (text: string) => Number.parseFloat(text) * 1024 ** units.indexOf(text.split(' ')[1] ?? '');
    for (const step of BYTE_STEPS) for (const n of [0, 1, 2, 3, 4]) expect(read(formatBytes(n * step))).toBe(n * step);
  });
  it('highlights what it knows, by any of its names, and leaves the rest', async () => {
    expect(await highlight('if x: pass', 'py')).toContain('hljs-keyword');
    expect(await highlight('x', 'constructor')).toBeUndefined();
  });
});
