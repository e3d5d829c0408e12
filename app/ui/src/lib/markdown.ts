// Markdown as blocks, and a block as markup that may be shown.
//
// A model's text is hostile: HTML in it is shown as text, links go to http(s) and mail only, images become links, and what
// is left passes DOMPurify with a list of tags. This is the only file that makes markup of text.
import DOMPurify from 'dompurify';
import { Marked, type TokenizerAndRendererExtension, type Tokens } from 'marked';
import { cutsOf, type Cut } from './pieces';

/** Blocks of a full group. */
export const GROUP = 32;
export type Groups = readonly (readonly Block[])[];

/** A block, or a piece of one that grows: markup is made of `source` alone. */
export interface Block {
  /** Its text, behind what opens a piece in the middle of a table, a quotation or an item: the table's head, the item's mark. */
  source: string;
  /** It goes on with the block before. */
  joined: boolean;
  /** In how many items, one in the other, it goes on: their marks stand with the piece before. */
  inside: number;
}

export interface Blocks {
  /** The text that they are of. */
  text: string;
  /**
   * Blocks that will not change however the text goes on, in order. In groups, of which only the last gets more: the others stay
   * the very same, so that what shows them need not look into them.
   */
  finished: Groups;
  /** What follows them: the last block, which may still grow. */
  tail: Block;
  /** So many characters of its source are not the text's. */
  opening: number;
  /** A block that grew is in pieces, each a block of its own. */
  inPieces: boolean;
  /** Something may be a formula: then KaTeX is worth loading. */
  math: boolean;
}

const NOTHING: Block = { source: '', joined: false, inside: 0 };
export const NO_BLOCKS: Blocks = { text: '', finished: [], tail: NOTHING, opening: 0, inPieces: false, math: false };

export type MathRenderer = (tex: string, display: boolean) => string;
let renderMath: MathRenderer | undefined;

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
export const escapeHtml = (text: string): string => text.replace(/[&<>"']/g, (c) => escapes[c] ?? c);

const mayHoldMath = (text: string): boolean => /\$\$|\\\(|\\\[|\$[^\s$]/.test(text);

export function setMathRenderer(render: MathRenderer): void {
  renderMath = render;
}

function mathExtension(name: string, display: boolean, level: 'block' | 'inline', start: RegExp, whole: RegExp) {
  const extension: TokenizerAndRendererExtension = {
    name,
    level,
    start: (src) => {
      const at = src.search(start);
      return at < 0 ? undefined : at;
    },
    tokenizer: (src) => {
      const found = whole.exec(src);
      return found ? { type: name, raw: found[0], text: (found[1] ?? found[2] ?? '').trim() } : undefined;
    },
    renderer: (token) => {
      const tex = String(token.text);
      return renderMath ? renderMath(tex, display) : `<code>${escapeHtml(tex)}</code>`;
    },
  };
  return extension;
}

const marked = new Marked({
  gfm: true,
  breaks: false,
  renderer: {
    html: ({ text }: Tokens.HTML | Tokens.Tag) => escapeHtml(text),
    image({ href, text }: Tokens.Image) {
      const name = escapeHtml(text || href);
      return /^https?:/i.test(href) ? `<a href="${escapeHtml(href)}">${name}</a>` : name;
    },
  },
  extensions: [
    mathExtension('mathBlock', true, 'block', /\$\$|\\\[/, /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])(?:\n+|$)/),
    mathExtension('mathDisplay', true, 'inline', /\$\$|\\\[/, /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])/),
    // A price is no formula: no blank inside the dollars, no digit behind them.
    mathExtension('mathInline', false, 'inline', /\$|\\\(/, /^(?:\$(?!\s)((?:\\.|[^$\\\n])+?)(?<!\s)\$(?!\d)|\\\(([\s\S]+?)\\\))/),
  ],
});

/**
 * A copy with memory of its own. Engines make a part of a text point into the whole: each finished block would keep all that the
 * answer was when it was finished, and an answer of 57,000 tokens held 200 MiB.
 */
const owned = (part: string): string => part.split('').join('');

/** Groups with more blocks at the end. */
function withMore(groups: Groups, fresh: readonly Block[]): Groups {
  if (!fresh.length) return groups;
  const open = groups.at(-1);
  const [full, rest] = open && open.length < GROUP ? [groups.slice(0, -1), [...open, ...fresh]] : [groups, fresh];
  const made = [...full];
  for (let at = 0; at < rest.length; at += GROUP) made.push(rest.slice(at, at + GROUP));
  return made;
}

/**
 * The blocks of a text that has grown since `before`: only what is behind its finished blocks is read again. A text that
 * is another one starts anew. While it is `growing` long lists, tables, quotations and
 * paragraphs come in pieces; whether a list's items are apart is then each piece's own.
 */
export function splitBlocks(text: string, before: Blocks = NO_BLOCKS, growing = false): Blocks {
  if (!text.startsWith(before.text) || (before.inPieces && !growing)) return splitBlocks(text, NO_BLOCKS, growing);
  const { finished, inPieces, opening, tail } = before;
  const rest = tail.source.slice(0, opening) + text.slice(before.text.length - (tail.source.length - opening));
  const math = before.math || mayHoldMath(rest);
  const tokens = marked.lexer(rest);
  // The last block may grow, across blank lines, too ("- a\n\n- b").
  let last = tokens.length - 1;
  while (last > 0 && tokens[last]?.type === 'space') last--;
  let end = 0;
  const cuts: (Cut & { joined: boolean })[] = [];
  for (const { raw } of tokens.slice(0, Math.max(last, 0))) cuts.push({ at: (end += raw.length), opening: '', inside: 0, joined: false });
  const newest = tokens[last];
  const inLast = growing && newest ? cutsOf(newest) : [];
  for (const cut of inLast) cuts.push({ ...cut, at: end + cut.at, joined: true });
  // marked normalises line ends and tabs; where its pieces are not the text's, everything stays one block.
  const read = tokens.slice(0, last + Number(inLast.length > 0)).map(({ raw }) => raw);
  if (!rest.startsWith(read.join('')) || (cuts[0]?.at ?? opening) < opening) cuts.length = 0;
  const fresh: Block[] = [];
  let next = { at: 0, opening: '', inside: tail.inside, joined: tail.joined };
  const blockUntil = (at?: number): Block => ({ source: next.opening + rest.slice(next.at, at), joined: next.joined, inside: next.inside });
  for (const cut of cuts) {
    const block = blockUntil(cut.at);
    fresh.push({ ...block, source: owned(block.source) });
    next = cut;
  }
  return {
    text,
    finished: withMore(finished, fresh),
    tail: blockUntil(),
    opening: cuts.length ? next.opening.length : opening,
    inPieces: inPieces || (cuts.at(-1)?.joined ?? false),
    math,
  };
}

export interface CodeFence {
  language: string;
  code: string;
}

/** The block's code, if it is nothing but a fence. */
export function codeFenceOf(block: string): CodeFence | undefined {
  if (!/^ {0,3}(?:```|~~~)/.test(block)) return undefined;
  const tokens = marked.lexer(block).filter((token) => token.type !== 'space');
  const [code] = tokens;
  if (tokens.length !== 1 || code?.type !== 'code') return undefined;
  const { text, lang } = code as Tokens.Code;
  return { code: text, language: /^[\w+#-]+/.exec(lang ?? '')?.[0].toLowerCase() ?? '' };
}

const TAGS =
  'p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li table thead tbody tr th td a input span ' +
  'math semantics mrow mi mo mn ms mtext mspace msup msub msubsup mfrac msqrt mroot mtable mtr mtd mover munder ' +
  'munderover mstyle mpadded mphantom menclose';
const ATTRIBUTES =
  'href title class align start type checked disabled ' +
  'mathvariant stretchy fence separator lspace rspace accent accentunder displaystyle scriptlevel columnalign ' +
  'rowspacing columnspacing width height depth voffset minsize maxsize linethickness display notation';

const purify = DOMPurify();
purify.addHook('afterSanitizeAttributes', (node) => {
  if (node.tagName === 'A') {
    const href = node.getAttribute('href') ?? '';
    if (!/^(?:https?:\/\/|mailto:)/i.test(href)) {
      node.removeAttribute('href');
      return;
    }
    node.setAttribute('target', '_blank');
    node.setAttribute('rel', 'noopener noreferrer nofollow');
  } else if (node.tagName === 'INPUT') {
    // Task lists have boxes; nothing else of a form is wanted.
    if (node.getAttribute('type') !== 'checkbox') node.remove();
    else node.setAttribute('disabled', '');
  }
  // Classes are ours: those of highlight.js. Others could dress text up as a part of the page.
  const name = node.getAttribute('class');
  if (name && !name.split(' ').every((part) => /^(?:hljs-[\w-]+|language-[\w-]+|[a-z]+_)$/.test(part))) node.removeAttribute('class');
});

/** Markup that was cleaned; with trusted types, of that type. */
export function clean(html: string): TrustedHTML | string {
  return purify.sanitize(html, {
    ALLOWED_TAGS: TAGS.split(' '),
    ALLOWED_ATTR: ATTRIBUTES.split(' '),
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    RETURN_TRUSTED_TYPE: true,
  });
}

export function renderBlock(block: string): TrustedHTML | string {
  return clean(marked.parse(block, { async: false }));
}
