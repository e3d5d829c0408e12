import { useT } from '@/i18n';
import { useSetting } from '@/stores/preferences';
import { Markdown } from './Markdown';

interface Props {
  content: string;
  reasoning: string;
  running: boolean;
}

/** An answer as it comes: reasoning folded, then text. */
export function TokenStream({ content, reasoning, running }: Props) {
  const t = useT();
  const reasons = useSetting('show_reasoning');
  return (
    <>
      {reasoning && reasons !== 'hidden' && (
        <details open={reasons === 'open'} className="my-1 border-s-2 border-line ps-3 text-sm text-muted">
          <summary className="cursor-pointer">{running && !content ? t('chat.thinking') : t('chat.reasoning')}</summary>
          <Markdown text={reasoning} growing={running && !content} />
        </details>
      )}
      <Markdown text={content} growing={running} />
      {running && !content && !reasoning && <p className="animate-pulse text-muted">{t('chat.waiting')}</p>}
    </>
  );
}
