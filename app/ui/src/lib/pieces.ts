// Where a block of Markdown that grows may be cut, so that a frame reads and draws its newest piece only.
//
// Blocks lie in each other: an item of a list has paragraphs, lists, code. A cut in the middle of one says what has to stand before the
// text behind it, so that this is read as it is in the whole: a table's head, the mark of an item, the fence of code.
import type { Token, Tokens } from 'marked';

/** Items of a piece of a list. */
export const PIECE = 16;
/** Rows of a piece of a table, at most. */
export const ROWS = 32;
/** Characters of a piece of anything else, at least; what is twice as long is cut. */
export const PARAGRAPH = 4096;

export interface Cut {
  /** Behind so many characters of the block. */
  at: number;
  /** What the text behind it begins with, in the place of all before. */
  opening: string;
  /** In how many items, one in the other, it lies. */
  inside: number;
}

const plain = (at: number): Cut => ({ at, opening: '', inside: 0 });
const rawOf = (tokens: readonly { raw: string }[]): string => tokens.map(({ raw }) => raw).join('');

/** An item's mark, its number, and what stands between it and the item's text: nothing where that begins in the next line. */
const MARKER = /^( {0,3}(?:[-+*]|(\d{1,9})[.)]))(?: {1,4}(?=\S)|(?=\s|$))/;

/** Where a paragraph may be cut: behind a sentence, else a word, or between two characters of a script without blanks. What follows begins
 * no other kind of block. */
const SENTENCE = /[.!?…:;]["'”’)]* (?=["“(]?\p{L})|[。！？；](?=\p{Lo})/u;
const WORD = / (?=\p{L})|\p{Lo}(?=\p{Lo})/u;

/** It is cut in plain text only. What is opened and not closed by then stands as it is written, until the answer is whole. */
function inParagraph({ tokens = [], raw }: Tokens.Paragraph | Tokens.Text): Cut[] {
  const parts: { from: number; to: number }[] = [];
  let length = 0;
  for (const token of tokens) {
    if (token.type === 'text') parts.push({ from: length, to: length + token.raw.length });
    length += token.raw.length;
  }
  const cutBehind = (where: RegExp, from: number, to: number): number | undefined => {
    for (const part of parts) {
      const [begin, end] = [Math.max(part.from, from), Math.min(part.to, to)];
      const found = begin < end ? where.exec(raw.slice(begin, end + 1)) : null;
      if (found) return begin + found.index + found[0].length;
    }
    return undefined;
  };
  const cuts: Cut[] = [];
  if (!raw.startsWith(rawOf(tokens))) return cuts;
  for (let begin = 0; raw.length - begin >= 2 * PARAGRAPH; ) {
    const [from, most] = [begin + PARAGRAPH, raw.length - PARAGRAPH / 2];
    const end = cutBehind(SENTENCE, from, Math.min(from + PARAGRAPH / 2, most)) ?? cutBehind(WORD, from, most);
    if (end === undefined) break;
    cuts.push(plain(end));
    begin = end;
  }
  return cuts;
}

/** Its last two rows stay. Each piece has the head. */
function inTable({ raw }: Tokens.Table): Cut[] {
  const lines = raw.split(/(?<=\n)/);
  const opening = lines.slice(0, 2).join('');
  const cuts: Cut[] = [];
  let [at, rows, begin] = [opening.length, 0, 0];
  for (const line of lines.slice(2, -2)) {
    at += line.length;
    if (++rows < ROWS && at - begin < PARAGRAPH) continue;
    cuts.push({ at, opening, inside: 0 });
    [rows, begin] = [0, at];
  }
  return cuts;
}

/** Code with a fence, by lines; only inside of other blocks: what shows code keeps its lines in parts of its own. */
function inCode({ raw }: Tokens.Code): Cut[] {
  const lines = raw.split(/(?<=\n)/);
  const [opening = ''] = lines;
  const cuts: Cut[] = [];
  if (!/^ {0,3}(?:```|~~~)/.test(opening)) return cuts;
  let [at, begin] = [opening.length, 0];
  for (const line of lines.slice(1, -2)) {
    at += line.length;
    if (at - begin < PARAGRAPH) continue;
    cuts.push({ at, opening, inside: 0 });
    begin = at;
  }
  return cuts;
}

/** Of blocks that follow each other inside of another one: between two, and in each. */
function inBlocks(tokens: readonly Token[]): Cut[] {
  const cuts: Cut[] = [];
  let [at, begin] = [0, 0];
  tokens.forEach((token, n) => {
    if (n && token.type !== 'space' && at - begin >= PARAGRAPH) {
      cuts.push(plain(at));
      begin = at;
    }
    const inside = token.type === 'code' ? inCode(token as Tokens.Code) : cutsOf(token);
    for (const cut of inside) cuts.push({ ...cut, at: at + cut.at });
    begin = cuts.at(-1)?.at ?? 0;
    at += token.raw.length;
  });
  return cuts;
}

/** Cuts of what is inside, as cuts of the whole, of which each line has something before that line of the inside. */
function cutsThrough(raw: string, inner: string, tokens: readonly Token[], opened: (opening: string, inLine: boolean) => string): Cut[] {
  const [outside, inside] = [raw.split('\n'), inner.split('\n')];
  // Of the last one marked may have another end.
  if (!inner.startsWith(rawOf(tokens).trimEnd()) || !inside.every((line, at) => outside[at]?.endsWith(line))) return [];
  const cuts: Cut[] = [];
  let [line, from, to] = [0, 0, 0]; // of the line, where it begins in the whole and on the inside
  for (const cut of inBlocks(tokens)) {
    for (let length = inside[line]?.length ?? 0; to + length < cut.at; length = inside[line]?.length ?? 0) {
      to += length + 1;
      from += (outside[line]?.length ?? 0) + 1;
      line++;
    }
    const before = (outside[line]?.length ?? 0) - (inside[line]?.length ?? 0);
    const inLine = cut.at > to;
    cuts.push({ ...cut, at: inLine ? from + before + (cut.at - to) : from, opening: opened(cut.opening, inLine) });
  }
  return cuts;
}

function inQuotation({ raw, text, tokens }: Tokens.Blockquote): Cut[] {
  return cutsThrough(raw, text, tokens, (opening, inLine) => {
    const lines = opening.split('\n');
    return lines.map((line, n) => (n < lines.length - 1 || inLine ? `> ${line}` : line)).join('\n');
  });
}

/** A long item of a list, which has `number` there, if any. */
function inItem({ raw, text, tokens }: Tokens.ListItem, number: number | undefined): Cut[] {
  const [whole = '', mark = '', written] = MARKER.exec(raw) ?? [];
  if (!mark || (number !== undefined && Number(written) !== number)) return [];
  const before = whole === mark ? `${mark} ` : whole;
  const indent = ' '.repeat(before.length);
  return cutsThrough(raw, text, tokens, (opening, inLine) =>
    opening || inLine ? before + opening.replace(/\n(?=.)/g, `\n${indent}`) : `${mark}\n`,
  ).map((cut) => ({ ...cut, inside: cut.inside + 1 }));
}

/** Between items, so many or so long, of which the last two stay: what begins as an item may become a line of the one before. And in those that are long. */
function inList({ items, start }: Tokens.List): Cut[] {
  const cuts: Cut[] = [];
  let [at, since, begin] = [0, 0, 0];
  for (const [n, item] of items.entries()) {
    // A list counts for itself, whatever its items say: a piece begins with the number of its first one.
    const number = start === '' ? undefined : start + n;
    if ((since >= PIECE || (n && at - begin >= PARAGRAPH)) && n <= items.length - 2) {
      if (number !== undefined && Number(MARKER.exec(item.raw)?.[2]) !== number) break;
      cuts.push(plain(at));
      [since, begin] = [0, at];
    }
    if (item.raw.length >= 2 * PARAGRAPH) {
      for (const cut of inItem(item, number)) {
        cuts.push({ ...cut, at: at + cut.at });
        begin = at + cut.at;
      }
    }
    at += item.raw.length;
    since++;
  }
  return cuts;
}

/** Cuts of a block that more may follow in; its end, which may be another thing yet, stays behind the last of them. */
export function cutsOf(block: Token): Cut[] {
  switch (block.type) {
    case 'list':
      return inList(block as Tokens.List);
    case 'table':
      return inTable(block as Tokens.Table);
    case 'blockquote':
      return inQuotation(block as Tokens.Blockquote);
    case 'paragraph':
    case 'text':
      return inParagraph(block as Tokens.Paragraph | Tokens.Text);
    default:
      return [];
  }
}
