import { useT } from '@/i18n';
import { useSetting } from '@/stores/preferences';
import { Markdown } from './Markdown';

interface Props {
  content: string;
  reasoning: string;
  running: boolean;
  /** It is JSON, by its parameters: shown as code. */
  json?: boolean;
}

/** As a block of code, with its lines as people read them once it is whole. */
function fenced(text: string, running: boolean): string {
  if (!text) return '';
  try {
    return `\`\`\`json\n${JSON.stringify(JSON.parse(text), null, 2)}\n\`\`\``;
  } catch {
    return running ? `\`\`\`json\n${text}` : text; // cut off, perhaps: as it came
  }
}

/** An answer as it comes: reasoning folded, then text. */
export function TokenStream({ content, reasoning, running, json = false }: Props) {
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
      <Markdown text={json ? fenced(content, running) : content} growing={running} />
      {running && !content && !reasoning && <p className="animate-pulse text-muted">{t('chat.waiting')}</p>}
    </>
  );
}
