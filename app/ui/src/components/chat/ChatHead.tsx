import { useId, useState, type ReactNode } from 'react';
import type { UiChat } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { downloadChat } from '@/hooks/useChats';
import { useT } from '@/i18n';
import { showError } from '@/stores/toasts';
import { ModelSelector } from './ModelSelector';

/** How much of the model's context the newest answer of this branch took. */
function ContextGauge({ used, size }: { used: number; size: number }) {
  const t = useT();
  if (!size) return null;
  const label = t('chat.context', { used, size });
  return <meter aria-label={label} title={label} min={0} max={size} high={size * 0.9} value={used} className="w-20" />;
}

interface Props {
  /** Undefined: it is not begun, or not read yet. */
  chat: UiChat | undefined;
  model: string;
  onModel: (name: string) => void;
  /** In tokens; of the context 0: not known. */
  used: number;
  contextSize: number;
  comparing: boolean;
  onCompare: () => void;
  options: boolean;
  onOptions: () => void;
  /** Before the title. */
  lead?: ReactNode;
}

/** A chat's title and model, and what is done with all of it. On a small screen two rows: the rest is behind a button. */
export function ChatHead({ chat, model, onModel, used, contextSize, comparing, onCompare, options, onOptions, lead }: Props) {
  const t = useT();
  const [more, setMore] = useState(false);
  const id = useId();
  // What closes the options is in sight as long as they are.
  const open = more || options;
  const toggle = () => {
    setMore(!open);
    if (options) onOptions();
  };
  return (
    <div className="flex flex-wrap items-center gap-2 border-b border-line px-4 py-1.5">
      <div className="flex min-w-0 grow basis-40 items-center gap-2 max-md:basis-full">
        {lead}
        <h1 className="min-w-0 grow truncate font-medium">{chat ? chat.title || t('chat.untitled') : t('chat.new')}</h1>
        <Button small look="ghost" className="md:hidden" aria-label={t('chat.more_here')} aria-expanded={open} aria-controls={id} onClick={toggle}>
          <Icon name="more" />
        </Button>
      </div>
      <div className="flex min-w-0 items-center gap-2 max-md:basis-full">
        <ContextGauge used={used} size={contextSize} />
        <ModelSelector chat value={model} onChange={onModel} />
      </div>
      <div id={id} className={`flex flex-wrap gap-2 ${open ? 'max-md:basis-full' : 'max-md:hidden'}`}>
        <Button small aria-pressed={comparing} onClick={onCompare}>
          {t('compare')}
        </Button>
        <Button small aria-expanded={options} onClick={onOptions}>
          {t('chat.options')}
        </Button>
        {chat &&
          (['markdown', 'json'] as const).map((format) => {
            const kind = format === 'json' ? 'JSON' : 'Markdown';
            const name = t('chat.export', { format: kind });
            return (
              <Button small key={format} aria-label={name} onClick={() => void downloadChat(chat, format).catch(showError)}>
                <span className="max-md:hidden">{name}</span>
                <span className="md:hidden">↓ {kind}</span>
              </Button>
            );
          })}
      </div>
    </div>
  );
}
