import { memo, useEffect, useRef, useState } from 'react';
import { CopyButton } from '@/components/ui/CopyButton';
import { highlight } from '@/lib/highlight';
import { clean, codeFenceOf, mayHoldMath, NO_BLOCKS, renderBlock, splitBlocks, type Blocks } from '@/lib/markdown';
import { useMath } from '@/lib/math';

function Markup({ html, as: Tag, className }: { html: TrustedHTML | string; as: 'div' | 'code'; className?: string }) {
  // The one place where markup gets into the page: it comes from clean().
  // eslint-disable-next-line no-restricted-syntax
  return <Tag className={className} dangerouslySetInnerHTML={{ __html: html as string }} />;
}

function CodeBlock({ code, language, finished }: { code: string; language: string; finished: boolean }) {
  const [html, setHtml] = useState<TrustedHTML | string>();
  useEffect(() => {
    if (!finished || !language) return;
    let current = true;
    highlight(code, language)
      .then((markup) => {
        if (current && markup !== undefined) setHtml(clean(markup));
      })
      .catch(() => undefined);
    return () => {
      current = false;
    };
  }, [code, language, finished]);
  return (
    <div className="relative">
      <div className="absolute end-2 top-1 flex items-center gap-2 text-xs text-muted">
        {language}
        <CopyButton text={code} />
      </div>
      <pre tabIndex={0}>{html === undefined ? <code>{code}</code> : <Markup as="code" html={html} />}</pre>
    </div>
  );
}

interface BlockProps {
  source: string;
  finished: boolean;
  /** Formulas can be shown by now: not read here, but reason enough to render again. */
  math: boolean;
}

/** Rendered once: a finished block never changes. */
const Block = memo(function Block({ source, finished }: BlockProps) {
  const fence = codeFenceOf(source);
  return (
    <div className="block">
      {fence ? <CodeBlock {...fence} finished={finished} /> : <Markup as="div" html={renderBlock(source)} />}
    </div>
  );
});

/** Text of a model. While it grows only its last block is read and rendered again. */
export function Markdown({ text, growing = false }: { text: string; growing?: boolean }) {
  const before = useRef<Blocks>(NO_BLOCKS);
  const math = useMath(mayHoldMath(text));
  // Rendering twice gives the same: the blocks kept are a prefix of this text, or are thrown away.
  // eslint-disable-next-line react-hooks/refs
  const blocks = splitBlocks(text, before.current);
  useEffect(() => {
    before.current = blocks;
  });
  return (
    <div className="prose">
      {blocks.finished.map((source, at) => (
        <Block key={at} source={source} finished math={math} />
      ))}
      {blocks.tail && (
        <Block key={blocks.finished.length} source={blocks.tail} finished={!growing} math={math} />
      )}
    </div>
  );
}
