import { lazy, Suspense, useMemo, useState } from 'react';
import type { UiAttachmentFields } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { downloadChat, useChatActions } from '@/hooks/useChats';
import { useChat, useChatTurns } from '@/hooks/useChat';
import { useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { useNavigation } from '@/stores/navigation';
import { usePreferences, useSetting } from '@/stores/preferences';
import { useStreams } from '@/stores/streams';
import { showError } from '@/stores/toasts';
import { Composer } from './Composer';
import type { MessageActions } from './Message';
import { ModelSelector } from './ModelSelector';
import { SamplingControls } from './SamplingControls';

// With what it takes to show markdown: nobody waits for it before the first question.
const MessageList = lazy(() => import('./MessageList'));

/** How much of the model's context the newest answer of this branch took. */
function ContextGauge({ used, size }: { used: number; size: number }) {
  const t = useT();
  if (!size) return null;
  const label = t('chat.context', { used, size });
  return <meter aria-label={label} title={label} min={0} max={size} high={size * 0.9} value={used} className="w-20" />;
}

/** One chat: its messages, and where one writes. */
export function ChatPane({ id }: { id: number | null }) {
  const t = useT();
  const { shown, error, chat } = useChat(id);
  const turns = useChatTurns(id);
  const { change } = useChatActions();
  const preferred = useSetting('default_model');
  const changeSettings = usePreferences((preferences) => preferences.change);
  const { rows } = useModels();
  const [options, setOptions] = useState(false);
  const [parameters, setParameters] = useState<Record<string, number>>({});
  const [system, setSystem] = useState('');

  const first = rows?.find((row) => !row.why_not)?.name ?? '';
  const model = (chat?.model ?? preferred) || first;
  const last = shown.at(-1)?.message;
  const live = useStreams((streams) => (last ? streams.live[last.id] : undefined));
  const state = live?.state ?? last?.state;
  const generation = state === 'running' ? (live?.generation ?? last?.generation ?? null) : null;
  const stats = (live ? live.stats : last?.stats) ?? undefined;
  const used = (stats?.prompt_tokens ?? live?.promptTokens ?? 0) + (stats?.answer_tokens ?? 0);

  const send = async (content: string, attachments: UiAttachmentFields[]) => {
    await turns.ask({ content, attachments, model, parameters, system });
    // They were for this chat, not for those that are begun later.
    setParameters({});
    setSystem('');
  };
  const choose = (name: string) => {
    changeSettings({ default_model: name });
    if (chat) change.mutate({ chat, fields: { model: name } });
  };
  const actions = useMemo<MessageActions>(
    () => ({
      resend: (message, content) => void turns.resend(message, content, model).catch(showError),
      editInPlace: (message, content) => void turns.editInPlace(message, content).catch(showError),
      regenerate: (message) => void turns.regenerate(message, model).catch(showError),
      goOn: (message) => void turns.goOn(message).catch(showError),
      showBranch: (message) => void turns.showBranch(message).catch(showError),
    }),
    [turns, model],
  );

  return (
    <section className="flex h-full min-w-0 flex-col" aria-label={t('nav.chat')}>
      <div className="flex flex-wrap items-center gap-2 border-b border-line px-4 py-1.5">
        <h1 className="min-w-0 grow truncate font-medium">{chat ? chat.title || t('chat.untitled') : t('chat.new')}</h1>
        <ContextGauge used={used} size={stats?.context_tokens ?? live?.contextTokens ?? 0} />
        <ModelSelector value={model} onChange={choose} />
        <Button small aria-expanded={options} onClick={() => setOptions(!options)}>
          {t('chat.options')}
        </Button>
        {chat && (
          <>
            <Button small onClick={() => void downloadChat(chat, 'markdown').catch(showError)}>
              Markdown
            </Button>
            <Button small onClick={() => void downloadChat(chat, 'json').catch(showError)}>
              JSON
            </Button>
          </>
        )}
      </div>
      {options && (
        <div key={chat?.id ?? 'new'} className="grid gap-3 border-b border-line bg-panel px-4 py-3 md:grid-cols-2">
          <label className="flex flex-col gap-1 text-sm">
            {t('chat.system')}
            <textarea
              rows={4}
              defaultValue={chat?.system ?? system}
              onBlur={({ currentTarget: { value } }) => {
                if (!chat) setSystem(value);
                else if (value !== (chat.system ?? '')) change.mutate({ chat, fields: { system: value } });
              }}
              className="rounded-md border border-line bg-ground p-2"
            />
          </label>
          <SamplingControls
            value={chat?.parameters ?? parameters}
            onChange={(fields) => {
              const merged = Object.entries({ ...(chat?.parameters ?? parameters), ...fields });
              const next = Object.fromEntries(merged.filter(([, value]) => value !== null)) as Record<string, number>;
              if (chat) change.mutate({ chat, fields: { parameters: next } });
              else setParameters(next);
            }}
          />
        </div>
      )}
      {error && <p className="p-4 text-danger">{error.message}</p>}
      {id === null ? (
        <div className="grid min-h-0 grow place-items-center p-4 text-center">
          {rows?.length === 0 ? <FirstRun /> : <p className="text-lg text-muted">{t('chat.welcome')}</p>}
        </div>
      ) : (
        <div className="flex min-h-0 grow flex-col">
          <Suspense>
            <MessageList key={id} shown={shown} actions={actions} />
          </Suspense>
        </div>
      )}
      <Composer
        key={id ?? 'new'}
        disabled={!model}
        onStop={generation === null ? null : () => void turns.stop(generation).catch(showError)}
        onSend={send}
      />
    </section>
  );
}

/** Nothing can answer yet: the way to a model. */
function FirstRun() {
  const t = useT();
  const go = useNavigation((navigation) => navigation.go);
  return (
    <div className="flex flex-col items-center gap-3">
      <p className="text-lg">{t('first.text')}</p>
      <Button look="primary" onClick={() => go({ page: 'models' })}>
        {t('models.get')}
      </Button>
    </div>
  );
}
