import { memo, useEffect, useRef, useState } from 'react';
import { CopyButton } from '@/components/ui/CopyButton';
import { highlight } from '@/lib/highlight';
import { clean, codeFenceOf, GROUP, NO_BLOCKS, renderBlock, splitBlocks, type Block as Source, type Blocks } from '@/lib/markdown';
import { useMath } from '@/lib/math';
import { PARAGRAPH } from '@/lib/pieces';

function Markup({ html, as: Tag, className }: { html: TrustedHTML | string; as: 'div' | 'code'; className?: string }) {
  // The one place where markup gets into the page: it comes from clean().
  // eslint-disable-next-line no-restricted-syntax
  return <Tag className={className} dangerouslySetInnerHTML={{ __html: html as string }} />;
}

/** Lines of code that are laid out together while more of them come. */
export const CODE_LINES = 64;

/** Code as it comes, in parts of which only the last changes. */
function GrowingCode({ code }: { code: string }) {
  const lines = code.split(/(?<=\n)/);
  if (lines.length <= CODE_LINES) return code;
  const parts = Array.from({ length: Math.ceil(lines.length / CODE_LINES) }, (_, at) => lines.slice(at * CODE_LINES, (at + 1) * CODE_LINES));
  return parts.map((part, at) => (
    <span key={at} className="block">
      {part.join('')}
    </span>
  ));
}

function CodeBlock({ code, language, finished }: { code: string; language: string; finished: boolean }) {
  const [coloured, setColoured] = useState<{ code: string; html: TrustedHTML | string }>();
  useEffect(() => {
    if (!finished || !language) return;
    let current = true;
    highlight(code, language)
      .then((markup) => {
        if (current && markup !== undefined) setColoured({ code, html: clean(markup) });
      })
      .catch(() => undefined);
    return () => {
      current = false;
    };
  }, [code, language, finished]);
  return (
    <div className="code-block">
      <div className="code-head">
        <span className="min-w-0 truncate">{language}</span>
        <CopyButton text={code} />
      </div>
      <pre tabIndex={0}>
        {coloured?.code === code ? <Markup as="code" html={coloured.html} /> : <code>{finished ? code : <GrowingCode code={code} />}</code>}
      </pre>
    </div>
  );
}

interface BlockProps extends Source {
  finished: boolean;
  /** Formulas can be shown by now: not read here, but reason enough to render again. */
  math: boolean;
}

/** Marks of so many items, one in the other, are left out of a piece that goes on in them. */
const INSIDE = ['', ' inside', ' inside inside-2'];

/** Rendered once: a finished block never changes. */
const Block = memo(function Block({ source, joined, inside, finished }: BlockProps) {
  const fence = codeFenceOf(source);
  // One that was in pieces is laid out where it stands: by the height of its first piece the page would jump below it.
  const whole = finished && !fence && source.length >= 2 * PARAGRAPH;
  return (
    <div className={`block${joined ? ' joined' : ''}${INSIDE[Math.min(inside, 2)]}${whole ? ' whole' : ''}`}>
      {fence ? <CodeBlock {...fence} finished={finished} /> : <Markup as="div" html={renderBlock(source)} />}
    </div>
  );
});

interface GroupProps {
  finished: readonly Source[];
  /** The block behind them, which may grow. */
  tail: Source | undefined;
  growing: boolean;
  math: boolean;
}

/** A full one is passed over whole. The last holds the block that grows, too, which so stays the same element when it is finished. */
const Group = memo(function Group({ finished, tail, growing, math }: GroupProps) {
  const blocks = tail ? [...finished, tail] : finished;
  return blocks.map((block, at) => <Block key={at} {...block} finished={at < finished.length || !growing} math={math} />);
});

const EMPTY: readonly Source[] = [];

/** Text of a model. While it grows only its last block is read and rendered again. */
export function Markdown({ text, growing = false }: { text: string; growing?: boolean }) {
  const before = useRef<Blocks>(NO_BLOCKS);
  // Rendering twice gives the same: the blocks kept are of a prefix of this text, or are thrown away.
  // eslint-disable-next-line react-hooks/refs
  const blocks = splitBlocks(text, before.current, growing);
  const math = useMath(blocks.math);
  useEffect(() => {
    before.current = blocks;
  });
  const { finished } = blocks;
  const tail = blocks.tail.source ? blocks.tail : undefined;
  const full = (finished.at(-1)?.length ?? GROUP) === GROUP;
  const groups = full && tail ? [...finished, EMPTY] : finished;
  return (
    <div className="prose">
      {groups.map((group, at) => {
        const last = at === groups.length - 1;
        return <Group key={at} finished={group} tail={last ? tail : undefined} growing={last && growing} math={math} />;
      })}
    </div>
  );
}
