// What a frame of a growing answer costs: only what is new is rendered, and what is finished is not even looked at one by one.
import { cleanup, configure, render, waitFor } from '@testing-library/react';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { CODE_LINES, Markdown } from '@/components/chat/Markdown';
import { GROUP, NO_BLOCKS, renderBlock, splitBlocks } from '@/lib/markdown';
import { PARAGRAPH, PIECE, ROWS } from '@/lib/pieces';

// A busy machine takes its time.
configure({ asyncUtilTimeout: 15_000 });

const counts = vi.hoisted(() => ({ elements: 0, blocks: 0 }));
vi.mock('react/jsx-dev-runtime', async (original) => {
  const runtime = await original<{ jsxDEV: (...given: unknown[]) => unknown }>();
  const jsxDEV = (...given: unknown[]) => {
    counts.elements++;
    return runtime.jsxDEV(...given);
  };
  return { ...runtime, jsxDEV };
});
vi.mock('@/lib/markdown', async (original) => {
  const lib = await original<typeof import('@/lib/markdown')>();
  const counted = (source: string) => {
    counts.blocks++;
    return lib.renderBlock(source);
  };
  return { ...lib, renderBlock: counted };
});
/** Elements made, and blocks rendered, meanwhile. */
const counted = (run: () => void) => {
  Object.assign(counts, { elements: 0, blocks: 0 });
  run();
  return { ...counts };
};

/** So many blocks, without blank lines, which are blocks, too. */
const headings = (n: number, from = 0) => Array.from({ length: n }, (_, at) => `# Part *${at + from}*\n`).join('');
const blocksOf = (page: Element) => [...page.querySelectorAll('.prose > .block')];

afterEach(cleanup);

describe('a growing answer', () => {
  it.each([1, 8])('of %i full groups makes as many elements a frame as it has groups, and renders one block', (groups) => {
    let text = `${headings(groups * GROUP)}The`;
    const { container, rerender } = render(<Markdown text={text} growing />);
    expect(blocksOf(container)).toHaveLength(groups * GROUP + 1);
    for (let frame = 0; frame < 8; frame++) {
      const { elements, blocks } = counted(() => rerender(<Markdown text={(text += ' end')} growing />));
      expect(blocks).toBe(1);
      // One a group, of which the last has what grows; two around them; four of the block.
      expect(elements).toBe(groups + 1 + 2 + 4);
    }
    for (let block = 0; block < 2 * GROUP; block++) {
      const { elements, blocks } = counted(() => rerender(<Markdown text={(text += `\n# ${block}`)} growing />));
      expect(blocks).toBeLessThanOrEqual(2); // the one that is finished, and the next
      // Of the last group, and of the next if it is full, one more a block.
      expect(elements).toBeLessThanOrEqual(groups + 3 + 2 + GROUP + 1 + 2 * 3);
    }
    expect(blocksOf(container)).toHaveLength((groups + 2) * GROUP + 1);
  });
  it('is the same page as the whole of it, block by block', () => {
    const text = `${headings(GROUP)}# Title\n\n- a\n- b\n\n${headings(GROUP + 3)}End.`;
    const { container, rerender } = render(<Markdown text="" growing />);
    for (let n = 1; n < text.length; n += 7) rerender(<Markdown text={text.slice(0, n)} growing />);
    rerender(<Markdown text={text} />);
    const { finished, tail } = splitBlocks(text);
    const blocks = [...finished.flat(), tail].map(({ source }) => `<div class="block"><div>${renderBlock(source) as string}</div></div>`);
    expect(blocks.length).toBeGreaterThan(2 * GROUP);
    expect(container.firstElementChild?.outerHTML).toBe(`<div class="prose">${blocks.join('')}</div>`);
  });
  it('leaves its blocks the elements that they are, also the one that is finished', () => {
    let [text, seen] = ['', [] as Element[]];
    const { container, rerender } = render(<Markdown text={text} growing />);
    for (const word of headings(2 * GROUP + 2).split(/(?<=\s)(?=\S)/)) {
      rerender(<Markdown text={(text += word)} growing />);
      const now = blocksOf(container);
      expect(seen.every((block, at) => block === now[at])).toBe(true);
      seen = now;
    }
    rerender(<Markdown text={text} />);
    expect(blocksOf(container)).toEqual(seen);
    expect(seen).toHaveLength(2 * GROUP + 2);
  });
  it('that is another one, or shorter, begins anew', () => {
    const { container, rerender } = render(<Markdown text={headings(3 * GROUP)} growing />);
    rerender(<Markdown text={headings(GROUP + 2, 7)} growing />);
    expect(blocksOf(container).map(({ textContent }) => textContent.trim())).toEqual(Array.from({ length: GROUP + 2 }, (_, at) => `Part ${at + 7}`));
    rerender(<Markdown text="" growing />);
    expect(blocksOf(container)).toEqual([]);
  });
  it('colours code when it is finished, and shows what came to it since', async () => {
    const { container, rerender } = render(<Markdown text={'```c\nint x;'} />);
    const code = () => container.querySelector('pre code');
    await waitFor(() => expect(code()?.querySelector('.hljs-type')?.textContent).toBe('int'));
    rerender(<Markdown text={'```c\nint x;\nint y;'} growing />);
    expect(code()?.textContent).toBe('int x;\nint y;');
    expect(code()?.children).toHaveLength(0);
    rerender(<Markdown text={'```c\nint x;\nint y;\n```\n\nEnd.'} growing />);
    await waitFor(() => expect(code()?.querySelectorAll('.hljs-type')).toHaveLength(2));
    expect(code()?.textContent).toBe('int x;\nint y;');
  });

  const items = (n: number, mark: (at: number) => string = (at) => `${at + 1}.`) => Array.from({ length: n }, (_, at) => `${mark(at)} Item *${at}*\n`);
  it.each([
    ['numbers', undefined],
    ['bullets', () => '-'],
    ['numbers from 7 in brackets', (at: number) => `${at + 7})`],
  ])('that is one long list of %s renders its newest items only, and is whole at its end', (_, mark) => {
    const list = items(5 * PIECE, mark);
    let text = '';
    const { container, rerender } = render(<Markdown text={text} growing />);
    let longest = 0;
    const seen: Element[] = [];
    for (const item of list) {
      const { blocks } = counted(() => rerender(<Markdown text={(text += item)} growing />));
      expect(blocks).toBeLessThanOrEqual(2);
      longest = Math.max(longest, blocksOf(container).at(-1)?.querySelectorAll('li').length ?? 0);
      blocksOf(container).slice(0, -1).forEach((block, at) => expect((seen[at] ??= block)).toBe(block)); // prettier-ignore
    }
    expect(longest).toBeLessThanOrEqual(PIECE + 2);
    expect(container.querySelectorAll('li')).toHaveLength(list.length);
    // Each goes on with the numbers of the one before, and stands close to it.
    const starts = [...container.querySelectorAll<HTMLOListElement>('ol')].map((piece) => piece.start);
    if (mark?.(0) !== '-') starts.forEach((start, at) => expect(start).toBe((mark ? 7 : 1) + at * PIECE));
    expect(container.querySelectorAll('.joined')).toHaveLength(4);
    rerender(<Markdown text={text} />);
    expect(container.firstElementChild?.outerHTML).toBe(`<div class="prose"><div class="block"><div>${renderBlock(text) as string}</div></div></div>`);
  });
  const sentences = (n: number, of = (at: number) => `It is *${at}* of \`them\` and **no more** at [a place](https://example.org/${at}). `) =>
    Array.from({ length: n }, (_, at) => of(at));
  it.each([
    ['sentences', undefined],
    ['words that never end', () => 'word after word and '],
    ['a script without blanks', () => '河流带着石头和故事流过没有人睡觉的房子，灯还没有熄灭'],
    ['numbers, dashes and what else would begin a block', (at: number) => `So ${at}. - # > + what (then)? `],
    ['what is opened and never closed', () => 'a *word and \\$2 or `so '],
  ])('that is one long paragraph of %s renders its newest piece only, and is whole at its end', (_, of) => {
    let text = '';
    const { container, rerender } = render(<Markdown text={text} growing />);
    let longest = 0;
    const seen: Element[] = [];
    const STEP = 1024;
    const all = sentences(8000, of).join('').slice(0, 5 * PARAGRAPH).trim();
    for (let n = 0; n < all.length; n += STEP) {
      text = all.slice(0, n + STEP);
      const { blocks } = counted(() => rerender(<Markdown text={text} growing />));
      expect(blocks).toBeLessThanOrEqual(2);
      longest = Math.max(longest, blocksOf(container).at(-1)?.textContent.length ?? 0);
      blocksOf(container).slice(0, -1).forEach((block, at) => expect((seen[at] ??= block)).toBe(block)); // prettier-ignore
    }
    expect(longest).toBeLessThanOrEqual(2 * PARAGRAPH + STEP);
    expect(seen.length).toBeGreaterThan(2);
    // Nothing but paragraphs, close to each other, whose words are the text's.
    expect(container.querySelectorAll('.joined')).toHaveLength(seen.length);
    expect(blocksOf(container).every((block) => block.matches(':has(> div > p:only-child)'))).toBe(true);
    const words = container.textContent.replaceAll(/\s+/g, '');
    rerender(<Markdown text={text} />);
    expect(container.firstElementChild?.outerHTML).toBe(`<div class="prose"><div class="block whole"><div>${renderBlock(text) as string}</div></div></div>`);
    if (!of) expect(container.textContent.replaceAll(/\s+/g, '')).toBe(words);
  }, 60_000);
  it('cuts a paragraph that is there at once, too, and none in what is bold, code or a link', () => {
    const text = sentences(800, (at) => `**Bold. Words ${at}** and \`code. Words\` [a link. Words](https://example.org). `).join('').trim();
    const { finished, tail } = splitBlocks(text, undefined, true);
    const pieces = [...finished.flat(), tail].map(({ source }) => source);
    expect(pieces.length).toBeGreaterThan(5);
    expect(pieces.join('')).toBe(text);
    for (const piece of pieces) expect(piece).toMatch(/^\*\*Bold|^and `/);
    for (const piece of pieces.slice(0, -1)) expect(piece).toMatch(/(?:\*\*|\)\.) $/);
  });
  it('leaves a paragraph together that is a few pieces long, and the one behind it apart', () => {
    const short = sentences(60).join('').slice(0, 2 * PARAGRAPH - 1).trim();
    const { container, rerender } = render(<Markdown text={short} growing />);
    expect(blocksOf(container)).toHaveLength(1);
    rerender(<Markdown text={`${sentences(200).join('').trim()}\n\nThe next.`} growing />);
    expect(blocksOf(container).at(-1)?.className).toBe('block');
  });
  const line = (at: number) => `The ${at}th *line* of \`them\`, with a [place](https://example.org/${at}) and some more words. `;
  const lines = (n: number, before: string, behind: string) => Array.from({ length: n }, (_, at) => `${before}${line(at)}${behind}`).join('');
  /** Blocks that are one in the whole: what begins them, and what comes again and again. */
  const GROWING: Record<string, (n: number) => string> = {
    'one table': (n) => `| a | b | c |\n|---|:-:|--:|\n${lines(n, '| 1 | ', '| **end** |\n')}`,
    'one quotation of paragraphs': (n) => lines(n, '> ', '\n>\n'),
    'one quotation of one paragraph': (n) => `> ${lines(n, '', '')}`,
    'one quotation of one paragraph in lines': (n) => lines(n, '> ', '\n'),
    'one quotation without marks but the first': (n) => `> ${lines(n, '', '\n')}`,
    'one quotation of one list': (n) => lines(n, '> - ', '\n'),
    'one quotation of one table': (n) => `> | a | b |\n> |---|---|\n${lines(n, '> | ', '| x |\n')}`,
    'one quotation of quotations': (n) => lines(n, '> > ', '\n> >\n'),
    'one item of paragraphs': (n) => `- First\n\n${lines(n, '  ', '\n\n')}`,
    'one item of one paragraph': (n) => `1. ${lines(n, '', '')}`,
    'an item of one list': (n) => `1. First\n2. Of these:\n${lines(n, '   - ', '\n')}`,
    'an item of an item of paragraphs': (n) => `- First\n  - Second\n\n${lines(n, '    ', '\n\n')}`,
    'one item of one table': (n) => `* First\n\n  | a | b |\n  |---|---|\n${lines(n, '  | ', '| x |\n')}`,
    'one item of code': (n) => `- First\n\n  \`\`\`c\n${lines(n, '  ', '\n')}`,
    'one item of a quotation': (n) => `12) First\n\n${lines(n, '    > ', '\n    >\n')}`,
    'long items': (n) => Array.from({ length: 4 }, (_, at) => `${at + 6}. ${lines(n / 2, '', '\n\n   ')}`.trimEnd()).join('\n'),
  };
  const bare = (page: Element) => {
    const copy = page.cloneNode(true) as Element;
    copy.querySelectorAll('.joined thead').forEach((head) => head.remove()); // not shown: styles.css
    return copy.textContent.replaceAll(/\s+/g, '');
  };
  it.each(Object.entries(GROWING))('that is %s renders its newest piece only, shows all of it, and is whole at its end', (_, of) => {
    const text = of(200).trimEnd();
    const { container, rerender } = render(<Markdown text="" growing />);
    let [longest, total] = [0, 0];
    const seen: Element[] = [];
    const STEP = 1000;
    const whole = document.createElement('div');
    const show = (part: string) => {
      whole.replaceChildren();
      whole.insertAdjacentHTML('beforeend', renderBlock(part) as string);
      return bare(whole);
    };
    for (let n = STEP; n < text.length; n += STEP) {
      // To the end of a line, or a sentence: what is not closed yet may be shown otherwise in a piece.
      const part = text.slice(0, 1 + Math.max(text.lastIndexOf('\n', n), text.lastIndexOf('. ', n)));
      const { blocks } = counted(() => rerender(<Markdown text={part} growing />));
      expect(blocks).toBeLessThanOrEqual(8); // one that becomes long enough comes in all its pieces
      total += blocks;
      longest = Math.max(longest, blocksOf(container).at(-1)?.textContent.length ?? 0);
      blocksOf(container).slice(0, -1).forEach((block, at) => expect((seen[at] ??= block)).toBe(block)); // prettier-ignore
      if (n % 7000 === 0 || n > text.length - 2 * STEP) expect(bare(container)).toBe(show(part));
    }
    expect(total).toBeLessThan(2 * (text.length / STEP) + seen.length);
    expect(seen.length).toBeGreaterThan(2);
    expect(longest).toBeLessThanOrEqual(2 * PARAGRAPH + STEP);
    expect(container.querySelectorAll('.joined')).toHaveLength(seen.length);
    rerender(<Markdown text={text} />);
    expect(container.firstElementChild?.outerHTML).toBe(`<div class="prose"><div class="block whole"><div>${renderBlock(text) as string}</div></div></div>`);
  });
  it.each(Object.keys(GROWING))('that is %s of 200,000 characters takes less than 8 ms a frame to read', (name) => {
    const whole = GROWING[name]?.(3000).slice(0, 200_000) ?? '';
    let blocks = NO_BLOCKS;
    const times: number[] = [];
    for (let n = 0; n < whole.length; n += 200) {
      const began = performance.now();
      blocks = splitBlocks(whole.slice(0, n + 200), blocks, true);
      times.push(performance.now() - began);
    }
    expect(whole).toHaveLength(200_000);
    expect(blocks.tail.source.length).toBeLessThan(3 * PARAGRAPH);
    const latest = times.slice(-100).sort((a, b) => a - b);
    expect(latest[50]).toBeLessThan(8);
  });
  it('has the mark of an item once, and the head of a table with its first piece', () => {
    const { container } = render(<Markdown text={GROWING['one item of paragraphs']?.(320) ?? ''} growing />);
    const [first, ...others] = blocksOf(container);
    expect(first?.className).toBe('block');
    expect(new Set(others.map(({ className }) => className))).toEqual(new Set(['block joined inside']));
    expect(container.querySelectorAll('.block > div > ul > li')).toHaveLength(1 + others.length);
    const pieces = splitBlocks(GROWING['one table']?.(4 * ROWS + 2) ?? '', undefined, true);
    for (const { source } of [...pieces.finished.flat(), pieces.tail]) expect(source).toMatch(/^\| a \| b \| c \|\n\|---\|:-:\|--:\|\n\| 1/);
  });
  it('goes on behind a table, a quotation or a list that was in pieces', () => {
    for (const name of ['one table', 'one quotation of paragraphs', 'one item of paragraphs', 'an item of one list']) {
      const text = GROWING[name]?.(320).trimEnd() ?? '';
      const { container, rerender } = render(<Markdown text={text} growing />);
      for (const more of ['\n', '\nThe', '\nThe next.', '\nThe next.\n\n# Last']) rerender(<Markdown text={`${text}\n${more}`} growing />);
      expect(container.querySelector('.block:last-child h1')?.textContent).toBe('Last');
      expect([...container.querySelectorAll('.prose > .block > div > p')].map(({ textContent }) => textContent)).toEqual(['The next.']);
      cleanup();
    }
  });
  it('leaves a list together whose numbers are not its own', () => {
    const { container } = render(<Markdown text={items(4 * PIECE, () => '1.').join('')} growing />);
    expect(container.querySelectorAll('ol')).toHaveLength(1);
  });
  it('does not take lists that stand beside each other for one', () => {
    const { container } = render(<Markdown text={'- a\n- b\n\nText\n\n- c\n\n1. d\n\n2) e\n\n* f\n+ g\n'} />);
    expect(container.querySelectorAll('li')).toHaveLength(7);
    expect(container.querySelectorAll('.joined')).toHaveLength(0);
  });
  it('that is long code has elements of its own for the lines that are there, until it is finished', () => {
    const lines = Array.from({ length: 3 * CODE_LINES }, (_, at) => `line ${at}\n`).join('');
    const { container, rerender } = render(<Markdown text={`\`\`\`\n${lines}`} growing />);
    const code = () => container.querySelector('pre code');
    const parts = [...(code()?.children ?? [])];
    expect(parts).toHaveLength(3);
    rerender(<Markdown text={`\`\`\`\n${lines}the last`} growing />);
    expect([...(code()?.children ?? [])].slice(0, 2)).toEqual(parts.slice(0, 2));
    expect(code()?.textContent).toBe(`${lines}the last`);
    rerender(<Markdown text={`\`\`\`\n${lines}the last\n\`\`\``} />);
    expect(code()?.children).toHaveLength(0);
    expect(code()?.textContent).toBe(`${lines}the last`);
  });
});
