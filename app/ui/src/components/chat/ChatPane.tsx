import { useQueryClient } from '@tanstack/react-query';
import { lazy, Suspense, useMemo, useState, type ReactNode } from 'react';
import type { UiAttachmentFields, UiMessage } from '@/api/schema';
import { useChat, useChatTurns } from '@/hooks/useChat';
import { changeChat, withParameters, type ChatChange } from '@/hooks/useChatChanges';
import { useCompare } from '@/hooks/useCompare';
import { canChat, useModels } from '@/hooks/useModels';
import { usePresets } from '@/hooks/usePresets';
import { useT } from '@/i18n';
import { changeDraft, forgetNew, useDraft } from '@/stores/drafts';
import { useChangeSettings, useSetting } from '@/stores/preferences';
import { useLive, type Live } from '@/stores/streams';
import { showError } from '@/stores/toasts';
import { ChatHead } from './ChatHead';
import type { Draft } from './ChatOptions';
import { Composer } from './Composer';
import type { MessageActions } from './Message';
import { ModelSelector } from './ModelSelector';

const FirstRun = lazy(() => import('@/components/layout/FirstRun'));
// With what it takes to show markdown: nobody waits for it before the first question.
const MessageList = lazy(() => import('./MessageList'));
const ComparePane = lazy(() => import('./ComparePane'));
const ChatOptions = lazy(() => import('./ChatOptions'));

const EMPTY: Draft & { model: string } = { system: '', parameters: {}, model: '' };

/** What makes an answer now; null: it is at its end. */
const runOf = (message: UiMessage | undefined, live: Live | undefined): number | null =>
  (live?.state ?? message?.state) === 'running' ? (live?.generation ?? message?.generation ?? null) : null;

interface Props {
  id: number | null;
  /** Before the title. */
  lead?: ReactNode;
}

/** One chat: its messages, and where one writes. */
export function ChatPane({ id, lead }: Props) {
  const t = useT();
  const { shown, messages, error, chat } = useChat(id);
  const turns = useChatTurns(id);
  const client = useQueryClient();
  const preferred = useSetting('default_model');
  const changeSettings = useChangeSettings();
  const { rows } = useModels();
  const [options, setOptions] = useState(false);
  // Of a chat that is not begun yet; untouched, it is what new chats begin with.
  const changed = useDraft('options new');
  const byDefault = useSetting('default_preset');
  const { data: presets, isLoading } = usePresets(byDefault !== null);
  const draft = changed ?? presets?.find((preset) => preset.id === byDefault) ?? EMPTY;

  const first = (rows?.find(canChat) ?? rows?.find((row) => !row.why_not))?.name ?? '';
  const model = (id === null ? draft.model : chat?.model) || preferred || first;
  const compare = useCompare(id, chat?.leaf ?? null, messages, turns);
  const second = compare.shown.at(-1)?.message;
  const secondLive = useLive(second);
  const last = shown.at(-1)?.message;
  const live = useLive(last);
  // Until the second model has its own answer both panes end with the same one.
  const runs = [...new Set([runOf(last, live), runOf(second, secondLive)])].filter((run) => run !== null);
  const stats = (live ? live.stats : last?.stats) ?? undefined;
  const used = (stats?.prompt_tokens ?? live?.promptTokens ?? 0) + (stats?.answer_tokens ?? 0);

  const send = async (content: string, attachments: UiAttachmentFields[]) => {
    await compare.ask({ content, attachments, model, parameters: draft.parameters, system: draft.system });
    // They were for this chat, not for those that are begun later.
    if (id === null) forgetNew();
  };
  const setOption = async (change: Omit<ChatChange, 'chat'> & { fields?: Partial<typeof EMPTY> }) => {
    if (chat) {
      await changeChat(client, { chat, ...change }).catch((reason: unknown) => {
        showError(reason);
        throw reason;
      });
    } else {
      const { fields, parameters = {} } = change;
      changeDraft('options new', (before = { system: draft.system, parameters: draft.parameters, model: draft.model }) => {
        const now = { ...before, ...fields };
        return { ...now, parameters: withParameters(now.parameters, parameters) };
      });
    }
  };
  const choose = (name: string) => {
    changeSettings({ default_model: name });
    if (id === null ? changed : chat) void setOption({ fields: { model: name } }).catch(() => undefined);
  };
  const actions = useMemo<MessageActions>(
    () => ({
      resend: (message, content) => turns.resend(message, content, model),
      editInPlace: turns.editInPlace,
      regenerate: (message) => void turns.regenerate(message, model).catch(showError),
      goOn: (message) => void turns.goOn(message).catch(showError),
      showBranch: (message) => void turns.showBranch(message).catch(showError),
    }),
    [turns, model],
  );

  return (
    <section className="flex h-full min-w-0 flex-col" aria-label={t('nav.chat')}>
      <ChatHead
        lead={lead}
        chat={chat}
        model={model}
        onModel={choose}
        used={used}
        contextSize={stats?.context_tokens ?? live?.contextTokens ?? 0}
        comparing={compare.model !== null}
        onCompare={() => (compare.model === null ? compare.begin(model) : compare.end())}
        options={options}
        onOptions={() => setOptions(!options)}
      />
      {options && (id === null || chat) && (
        <Suspense>
          <ChatOptions
            key={id ?? 'new'}
            chat={id}
            value={chat ? { system: chat.system ?? '', parameters: chat.parameters ?? {} } : draft}
            model={model}
            onChange={(fields) => setOption({ fields })}
            onParameters={(parameters) => setOption({ parameters })}
          />
        </Suspense>
      )}
      {error && <p className="p-4 text-danger">{error.message}</p>}
      {id === null ? (
        <div className="grid min-h-0 grow place-items-center p-4 text-center">
          {rows?.length === 0 ? (
            <Suspense>
              <FirstRun />
            </Suspense>
          ) : (
            <div>
              <p className="text-lg text-muted">{t('chat.welcome')}</p>
              {compare.model !== null && (
                <p className="mt-3">
                  {t('compare.with')} <ModelSelector chat label={t('compare.model')} value={compare.model} onChange={compare.begin} />
                </p>
              )}
            </div>
          )}
        </div>
      ) : (
        <div className={`min-h-0 grow ${compare.model === null ? 'flex flex-col' : 'grid max-md:grid-rows-2 md:grid-cols-2'}`}>
          <Suspense>
            <MessageList key={id} shown={shown} actions={actions} />
            {compare.model !== null && <ComparePane key={`beside ${id}`} compare={compare} turns={turns} />}
          </Suspense>
        </div>
      )}
      <Composer
        key={id ?? 'new'}
        chat={id}
        disabled={!model || isLoading}
        onStop={runs.length === 0 ? null : () => runs.forEach((run) => void turns.stop(run).catch(showError))}
        onSend={send}
      />
    </section>
  );
}
