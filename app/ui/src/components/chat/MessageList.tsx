import { useCallback, useMemo } from 'react';
import { TailList } from '@/components/TailList';
import { useT } from '@/i18n';
import type { Shown } from '@/lib/tree';
import { Message, type MessageActions } from './Message';

interface Props {
  shown: readonly Shown[];
  actions: MessageActions;
  /** It is the second of two panes. */
  beside?: boolean;
}

/** The messages of a branch, with the results of tools where they were called. */
export default function MessageList({ shown, actions, beside = false }: Props) {
  const t = useT();
  const rows = useMemo(() => shown.filter(({ message }) => message.role !== 'tool'), [shown]);
  const results = useMemo(
    () => new Map(shown.map(({ message }) => [message.tool_call_id ?? '', message.content])),
    [shown],
  );
  const keyOf = useCallback((at: number) => rows[at]?.message.id ?? at, [rows]);
  return (
    <TailList
      label={t(beside ? 'compare.messages' : 'chat.messages')}
      count={rows.length}
      estimatePx={140}
      overscan={4}
      keyOf={keyOf}
      version={rows.length}
      className="overflow-y-auto"
      row={(at) => {
        const one = rows[at];
        return one && <Message message={one.message} siblings={one.siblings} results={results} actions={actions} beside={beside} />;
      }}
    />
  );
}
