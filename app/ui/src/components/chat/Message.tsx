import { memo, useState } from 'react';
import { isConflict } from '@/api/client';
import type { UiMessage, UiStats } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { CopyButton } from '@/components/ui/CopyButton';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { formatBytes, formatMs } from '@/lib/format';
import { missText } from '@/lib/misses';
import { useSetting } from '@/stores/preferences';
import { changeDraft, sendDraft, useDraft, useSending } from '@/stores/drafts';
import { useLive } from '@/stores/streams';
import { showError } from '@/stores/toasts';
import { TokenStream } from './TokenStream';
import { ToolCallView } from './ToolCallView';

export interface MessageActions {
  /** Both fail where the daemon does not take it. */
  resend: (message: UiMessage, content: string) => Promise<void>;
  editInPlace: (message: UiMessage, content: string) => Promise<void>;
  regenerate: (message: UiMessage) => void;
  goOn: (message: UiMessage) => void;
  showBranch: (message: UiMessage) => void;
}

interface Props {
  message: UiMessage;
  siblings: readonly UiMessage[];
  results: ReadonlyMap<string, string>;
  actions: MessageActions;
  /** In the second of two panes, which may show the same message. */
  beside?: boolean;
}

/** What an answer was made with: each on a line, objects as JSON. */
const told = (parameters: UiMessage['parameters']) =>
  Object.entries(parameters ?? {}).map(([name, value]) => [name, typeof value === 'string' ? value : JSON.stringify(value)] as const);

/** The figures of an answer in a line; opened, all of them, with its model and parameters. */
function Stats({ stats, message }: { stats: UiStats | undefined; message: UiMessage }) {
  const t = useT();
  const wanted = useSetting('show_stats');
  if (!stats || !wanted) return null;
  const ms = (time: number | undefined) => (time === undefined ? null : formatMs(time));
  const parts = [
    stats.first_token_ms !== undefined && t('stats.first', { time: formatMs(stats.first_token_ms) }),
    typeof stats.tokens_per_second === 'number' && t('stats.speed', { n: stats.tokens_per_second.toFixed(1) }),
    stats.answer_tokens !== undefined && t('stats.answer', { n: stats.answer_tokens }),
    stats.prompt_tokens !== undefined &&
      t('stats.prompt', { n: stats.prompt_tokens, cached: stats.cached_tokens ?? 0 }),
    stats.finish_reason === 'length' && t('stats.length'),
  ].filter((part) => typeof part === 'string');
  const rows = [
    [t('chat.model'), message.model],
    [t('stats.miss'), stats.cache_miss === undefined ? null : missText(t, stats.cache_miss)],
    [t('stats.load'), ms(stats.load_ms)],
    [t('stats.total'), ms(stats.total_ms)],
    [t('details.context'), stats.context_tokens === undefined ? null : t('stats.answer', { n: stats.context_tokens })],
    ...told(message.parameters),
  ] as const;
  return (
    <details className="min-w-0 text-xs text-muted">
      <summary className="cursor-pointer">{parts.join(' · ') || t('stats.more')}</summary>
      <dl className="grid grid-cols-[auto_1fr] gap-x-3 py-1">
        {rows.map(
          ([name, value]) =>
            value !== null && (
              <div key={name} className="contents">
                <dt>{name}</dt>
                <dd className="break-words">{value}</dd>
              </div>
            ),
        )}
      </dl>
    </details>
  );
}

function Branches({ message, siblings, show }: Pick<Props, 'message' | 'siblings'> & { show: (m: UiMessage) => void }) {
  const t = useT();
  if (siblings.length < 2) return null;
  const at = siblings.findIndex((one) => one.id === message.id);
  const step = (by: number) => {
    const target = siblings[at + by];
    if (target) show(target);
  };
  return (
    <span className="inline-flex items-center text-sm text-muted">
      <Button small look="ghost" aria-label={t('branch.previous')} disabled={at <= 0} onClick={() => step(-1)}>
        ‹
      </Button>
      <span aria-label={t('branch.of', { at: at + 1, n: siblings.length })}>
        {at + 1}/{siblings.length}
      </span>
      <Button small look="ghost" aria-label={t('branch.next')} disabled={at + 1 >= siblings.length} onClick={() => step(1)}>
        ›
      </Button>
    </span>
  );
}

interface EditorProps extends Pick<Props, 'message' | 'actions'> {
  /** Of what is written: the message may be out of sight, and not in the page, before that is sent. */
  draft: `edit ${string}`;
  edited: { text: string; revision: number };
  /** It was opened just now, and is not only in sight again. */
  autoFocus: boolean;
}

/** What could not be sent stays. */
function Editor({ message, actions, draft, edited: { text, revision }, autoFocus }: EditorProps) {
  const t = useT();
  const sending = useSending(draft);
  const question = message.role === 'user';
  const onDone = () => changeDraft(draft, () => undefined);
  const send = (how: MessageActions['resend']) =>
    void sendDraft(draft, () =>
      // Somebody else may have changed it since: that is not written over before it was told.
      how({ ...message, revision: revision || message.revision }, text).then(onDone, (reason: unknown) => {
        if (isConflict(reason)) changeDraft(draft, (now) => now && { ...now, revision: 0 });
        showError(reason);
      }),
    );
  return (
    <form
      className="flex flex-col gap-2"
      onSubmit={(event) => {
        event.preventDefault();
        send(question ? actions.resend : actions.editInPlace);
      }}
    >
      <textarea
        autoFocus={autoFocus}
        aria-label={t('chat.edit')}
        value={text}
        readOnly={sending}
        rows={Math.min(20, text.split('\n').length + 1)}
        onChange={({ target }) => changeDraft(draft, () => ({ text: target.value, revision }))}
        className="w-full rounded-md border border-line bg-ground p-2"
      />
      <div className="flex gap-2">
        <Button small look="primary" type="submit" disabled={sending || !text.trim()}>
          {question ? t('chat.resend') : t('save')}
        </Button>
        {question && (
          <Button small disabled={sending} onClick={() => send(actions.editInPlace)}>
            {t('chat.save_only')}
          </Button>
        )}
        <Button small look="ghost" disabled={sending} onClick={onDone}>
          {t('cancel')}
        </Button>
      </div>
    </form>
  );
}

/** Whether an answer can be nothing but JSON. */
const boundToJson = ({ parameters }: UiMessage): boolean =>
  /^json/.test((parameters?.response_format as { type?: string } | null | undefined)?.type ?? 'text');

/** A question or an answer with its branches, its figures and what can be done with it. */
export const Message = memo(function Message({ message, siblings, results, actions, beside = false }: Props) {
  const t = useT();
  const live = useLive(message);
  const draft = `edit ${beside ? 'beside ' : ''}${message.id}` as const;
  const edited = useDraft(draft);
  const editing = edited !== undefined;
  const [opened, setOpened] = useState(false);
  const now = live ?? { ...message, calls: message.tool_calls ?? [], stats: message.stats };
  const running = now.state === 'running';
  const answer = message.role === 'assistant';
  const stats = now.stats ?? undefined;

  return (
    <article
      aria-label={answer ? t('chat.answer') : t('chat.question')}
      aria-busy={running}
      data-role={message.role}
      data-state={now.state}
      className={`mx-auto max-w-3xl px-4 py-3 ${answer ? '' : 'flex flex-col items-end'}`}
    >
      {answer && message.model && <p className="text-xs text-muted">{message.model}</p>}
      {editing ? (
        <div className="w-full">
          <Editor message={message} actions={actions} draft={draft} edited={edited} autoFocus={opened} />
        </div>
      ) : answer ? (
        <TokenStream content={now.content} reasoning={now.reasoning} running={running} json={boundToJson(message)} />
      ) : (
        <p className="max-w-full rounded-xl bg-accent-soft px-4 py-2 break-words whitespace-pre-wrap">{message.content}</p>
      )}
      {message.attachments.map((file) => (
        <p key={file.name} className="inline-flex items-center gap-1 text-sm text-muted">
          <Icon name="file" /> {file.name} ({formatBytes(file.n_bytes)})
        </p>
      ))}
      {now.calls.map((call) => (
        <ToolCallView key={call.id} call={call} result={results.get(call.id)} />
      ))}
      {stats?.error && <p className="text-danger">{stats.error.message}</p>}
      {stats?.warnings?.map((warning) => (
        <p key={warning} className="text-sm text-warn-text">
          {warning}
        </p>
      ))}
      {(now.state === 'interrupted' || now.state === 'stopped') && (
        <p className="text-sm text-muted">
          {t(now.state === 'stopped' ? 'chat.stopped' : 'chat.interrupted')}{' '}
          <Button small onClick={() => actions.goOn(message)}>
            {t('chat.continue')}
          </Button>
        </p>
      )}
      {!running && !editing && (
        <div className="flex flex-wrap items-center gap-1">
          <Branches message={message} siblings={siblings} show={actions.showBranch} />
          <CopyButton text={now.content} />
          <Button
            small
            look="ghost"
            onClick={() => {
              setOpened(true);
              changeDraft(draft, () => ({ text: message.content, revision: message.revision }));
            }}
          >
            {t('chat.edit')}
          </Button>
          {answer && (
            <Button small look="ghost" onClick={() => actions.regenerate(message)}>
              {t('chat.regenerate')}
            </Button>
          )}
          {answer && <Stats stats={stats} message={message} />}
        </div>
      )}
    </article>
  );
});
