import { useMemo } from 'react';
import { Button } from '@/components/ui/Button';
import type { Turns } from '@/hooks/useChat';
import type { Compare } from '@/hooks/useCompare';
import { useT } from '@/i18n';
import { showError } from '@/stores/toasts';
import type { MessageActions } from './Message';
import MessageList from './MessageList';
import { ModelSelector } from './ModelSelector';

/** The answers of a second model, beside those of the chat's own. */
export default function ComparePane({ compare, turns }: { compare: Compare; turns: Turns }) {
  const t = useT();
  const actions = useMemo<MessageActions>(
    () => ({
      resend: compare.resend,
      editInPlace: turns.editInPlace,
      regenerate: (message) => void compare.regenerate(message).catch(showError),
      goOn: (message) => void turns.goOn(message).catch(showError),
      showBranch: (message) => compare.showBranch(turns.leafBelow(message)),
    }),
    [turns, compare],
  );
  const last = compare.shown.at(-1)?.message;
  return (
    <section aria-label={t('compare.second')} className="flex min-h-0 min-w-0 flex-col border-line max-md:border-t md:border-s">
      <div className="flex flex-wrap items-center gap-2 border-b border-line px-4 py-1.5">
        <ModelSelector chat label={t('compare.model')} value={compare.model ?? ''} onChange={compare.begin} />
        <span className="grow" />
        {last && (
          <Button
            small
            onClick={() => {
              void turns.showBranch(last).catch(showError);
              compare.end();
            }}
          >
            {t('compare.keep')}
          </Button>
        )}
      </div>
      <MessageList shown={compare.shown} actions={actions} beside />
    </section>
  );
}
