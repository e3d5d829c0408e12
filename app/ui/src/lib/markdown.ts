// Markdown as blocks, and a block as markup that may be shown.
//
// A model's text is hostile: HTML in it is shown as text, links go to http(s) and mail only, images become links, and what
// is left passes DOMPurify with a list of tags. This is the only file that makes markup of text.
import DOMPurify from 'dompurify';
import { Marked, type Token, type TokenizerAndRendererExtension, type Tokens } from 'marked';

/** Blocks of a full group. */
export const GROUP = 32;
/** Items of a piece of a list that grows. */
export const PIECE = 16;
/** Characters of a piece of a paragraph that grows, at least; one that is twice as long is cut. */
export const PARAGRAPH = 4096;
export type Groups = readonly (readonly string[])[];

export interface Blocks {
  /** The text that they are of. */
  text: string;
  /**
   * Sources of blocks that will not change however the text goes on, in order. In groups, of which only the last gets more: the others stay
   * the very same, so that what shows them need not look into them.
   */
  finished: Groups;
  /** What follows them: the last block, which may still grow. */
  tail: string;
  /** A list or a paragraph that grew is in pieces, each a block of its own. */
  inPieces: boolean;
  /** Something may be a formula: then KaTeX is worth loading. */
  math: boolean;
}

export const NO_BLOCKS: Blocks = { text: '', finished: [], tail: '', inPieces: false, math: false };

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
function withMore(groups: Groups, fresh: readonly string[]): Groups {
  if (!fresh.length) return groups;
  const open = groups.at(-1);
  const [full, rest] = open && open.length < GROUP ? [groups.slice(0, -1), [...open, ...fresh]] : [groups, fresh];
  const made = [...full];
  for (let at = 0; at < rest.length; at += GROUP) made.push(rest.slice(at, at + GROUP));
  return made;
}

const MARKER = /^ {0,3}(?:([-+*])|(\d{1,9})([.)]))(?=[ \t\n]|$)/;
const markerOf = (item: string) => {
  const [, bullet, number, behind] = MARKER.exec(item) ?? [];
  return { kind: bullet ?? behind, number: Number(number) };
};

/** Whether two blocks, one behind the other, are pieces of one list, else blocks of the same marker would be one; or of one paragraph. */
export function continuesBlock(before: string | undefined, block: string): boolean {
  if (before === undefined) return false;
  const { kind } = markerOf(block);
  const inside = !before.endsWith('\n') && !block.startsWith('\n');
  return inside || (kind !== undefined && kind === markerOf(before).kind);
}

/** What of a list can be shown apart because more items follow. Its last two stay: what begins as an item may become a line of the one before. */
function itemsOf({ items, start }: Tokens.List): string[] {
  const pieces: string[] = [];
  for (let at = 0; at + PIECE <= items.length - 2; at += PIECE) {
    // A list counts for itself, whatever its items say: a piece begins with the number of its first one.
    const next = markerOf(items[at + PIECE]?.raw ?? '').number;
    if (start !== '' && next !== start + at + PIECE) break;
    pieces.push(
      items
        .slice(at, at + PIECE)
        .map(({ raw }) => raw)
        .join(''),
    );
  }
  return pieces;
}

/** Where a paragraph may be cut: behind a sentence, else a word, or between two characters of a script without blanks. What follows begins
 * no other kind of block. */
const SENTENCE = /[.!?…:;]["'”’)]* (?=["“(]?\p{L})|[。！？；](?=\p{Lo})/u;
const WORD = / (?=\p{L})|\p{Lo}(?=\p{Lo})/u;

/**
 * What of a paragraph can be shown apart because more of it follows: all but its last pieces' length. It is cut in plain text only. What
 * is opened and not closed by then stands as it is written, until the answer is whole.
 */
function sentencesOf({ tokens, raw }: Tokens.Paragraph): string[] {
  const plain: { from: number; to: number }[] = [];
  let length = 0;
  for (const token of tokens) {
    if (token.type === 'text') plain.push({ from: length, to: length + token.raw.length });
    length += token.raw.length;
  }
  const cutBehind = (where: RegExp, from: number, to: number): number | undefined => {
    for (const part of plain) {
      const [begin, end] = [Math.max(part.from, from), Math.min(part.to, to)];
      const found = begin < end ? where.exec(raw.slice(begin, end + 1)) : null;
      if (found) return begin + found.index + found[0].length;
    }
    return undefined;
  };
  const pieces: string[] = [];
  if (!raw.startsWith(tokens.map((token) => token.raw).join(''))) return pieces;
  for (let begin = 0; raw.length - begin >= 2 * PARAGRAPH; ) {
    const [from, most] = [begin + PARAGRAPH, raw.length - PARAGRAPH / 2];
    const end = cutBehind(SENTENCE, from, Math.min(from + PARAGRAPH / 2, most)) ?? cutBehind(WORD, from, most);
    if (end === undefined) break;
    pieces.push(raw.slice(begin, end));
    begin = end;
  }
  return pieces;
}

function piecesOf(block: Token): string[] {
  if (block.type === 'list') return itemsOf(block as Tokens.List);
  return block.type === 'paragraph' ? sentencesOf(block as Tokens.Paragraph) : [];
}

/**
 * The blocks of a text that has grown since `before`: only what is behind its finished blocks is read again. A text that
 * is another one starts anew. While it is `growing` long lists and
 * paragraphs come in pieces; whether a list's items are apart is then each piece's own.
 */
export function splitBlocks(text: string, before: Blocks = NO_BLOCKS, growing = false): Blocks {
  if (!text.startsWith(before.text) || (before.inPieces && !growing)) return splitBlocks(text, NO_BLOCKS, growing);
  const rest = text.slice(before.text.length - before.tail.length);
  const math = before.math || mayHoldMath(rest);
  const tokens = marked.lexer(rest);
  // The last block may grow, across blank lines, too ("- a\n\n- b").
  let last = tokens.length - 1;
  while (last > 0 && tokens[last]?.type === 'space') last--;
  const tail = tokens[last];
  const pieces = growing && tail ? piecesOf(tail) : [];
  const whole = tokens.slice(0, Math.max(last, 0)).map(({ raw }) => raw);
  const fresh = [...whole, ...pieces].map(owned);
  const n = fresh.reduce((sum, raw) => sum + raw.length, 0);
  const { finished, inPieces } = before;
  // marked normalises line ends and tabs; where its pieces are not the text's, everything stays one block.
  if (!rest.startsWith(fresh.join(''))) return { text, finished, tail: rest, inPieces, math };
  return { text, finished: withMore(finished, fresh), tail: rest.slice(n), inPieces: inPieces || pieces.length > 0, math };
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
