import { memo, useEffect, useRef, useState } from 'react';
import { apiEvents } from '@/api/client';
import type { Completion } from '@/api/types';
import { ModelSelector } from '@/components/chat/ModelSelector';
import { Button } from '@/components/ui/Button';
import { useT } from '@/i18n';
import { formatShare, messageOf } from '@/lib/format';
import { useText } from '@/stores/drafts';
import { perplexityOf, tokensOf, visible, type Token } from './tokens';
import { useModelChoice } from './useModelChoice';

const TOKENS_MAX = 1000;
const ALTERNATIVES = 5; // as many as the route gives

const field = 'rounded-md border border-line bg-raised px-2 py-1';
const tintOf = (probability: number) =>
  probability >= 0.9 ? 'bg-accent-soft' : probability >= 0.5 ? 'bg-accent-soft/50' : probability >= 0.1 ? '' : 'bg-warn text-warn-text';

interface ShownProps {
  token: Token;
  at: number;
  chosen: boolean;
  /** Where Tab comes to: one of all tokens. */
  reachable: boolean;
  onChoose: (at: number) => void;
}

const ShownToken = memo(function ShownToken({ token, at, chosen, reachable, onChoose }: ShownProps) {
  const share = Math.exp(token.logprob);
  return (
    <>
      <button
        type="button"
        tabIndex={reachable ? 0 : -1}
        aria-pressed={chosen}
        aria-label={`${visible(token.text)} ${formatShare(share)}`}
        onClick={() => onChoose(at)}
        onFocus={() => onChoose(at)}
        className={`rounded-sm whitespace-pre-wrap ${tintOf(share)} ${chosen ? 'outline-2 outline-accent' : ''}`}
      >
        {token.text.trim() === '' ? visible(token.text) : token.text}
      </button>
      {token.text.includes('\n') && <br />}
    </>
  );
});

function Alternatives({ token }: { token: Token }) {
  const t = useT();
  const rows = token.alternatives.some(({ text }) => text === token.text) ? token.alternatives : [...token.alternatives, token];
  return (
    <table className="w-full max-w-md text-sm">
      <caption className="pb-1 text-start text-muted">{t('completion.alternatives', { token: visible(token.text) })}</caption>
      <thead className="text-muted">
        <tr>
          <th scope="col" className="text-start font-normal">{t('completion.token')}</th>
          <th scope="col" className="text-end font-normal">{t('completion.probability')}</th>
          <th scope="col" className="text-end font-normal">{t('completion.logprob')}</th>
        </tr>
      </thead>
      <tbody>
        {rows.map(({ text, logprob }) => (
          <tr key={text} className={text === token.text ? 'font-semibold' : ''}>
            <th scope="row" className={`text-start font-mono ${text === token.text ? '' : 'font-normal'}`}>{visible(text)}</th>
            <td className="text-end tabular-nums">{formatShare(Math.exp(logprob))}</td>
            <td className="text-end tabular-nums">{logprob.toFixed(3)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

/** A text goes on, and each of its tokens tells how likely it was and what else could have come. */
export function CompletionPlayground() {
  const t = useT();
  const [model, setModel] = useModelChoice();
  const [prompt, setPrompt] = useText('text completion');
  const [length, setLength] = useState(64);
  const [temperature, setTemperature] = useState(0);
  const [tokens, setTokens] = useState<readonly Token[]>([]);
  const [chosen, setChosen] = useState<number | null>(null);
  const [running, setRunning] = useState<AbortController | null>(null);
  const [error, setError] = useState<string | null>(null);
  const list = useRef<HTMLDivElement>(null);
  const gone = useRef<AbortController>(null);
  useEffect(() => () => gone.current?.abort(), []);

  const run = async () => {
    const control = new AbortController();
    gone.current = control;
    setRunning(control);
    setError(null);
    setTokens([]);
    setChosen(null);
    let fresh: Token[] = [];
    let frame = 0;
    const flush = () => {
      frame = 0;
      const more = fresh;
      fresh = [];
      setTokens((before) => [...before, ...more]);
    };
    const body = { model, prompt, max_tokens: length, temperature, logprobs: ALTERNATIVES, stream: true };
    try {
      for await (const { data } of apiEvents('POST /v1/completions', { body, signal: control.signal })) {
        if (data === '[DONE]') break;
        const piece = JSON.parse(data) as Partial<Completion>;
        if (piece.error) throw new Error(piece.error.message);
        fresh.push(...tokensOf({ choices: piece.choices ?? [] }));
        // Once a frame, however fast they come.
        frame ||= requestAnimationFrame(flush);
      }
    } catch (failed) {
      if (!control.signal.aborted) setError(messageOf(failed));
    }
    if (frame) cancelAnimationFrame(frame);
    flush();
    setRunning(null);
  };
  const move = (by: number) => {
    const next = Math.max(0, Math.min(tokens.length - 1, (chosen ?? 0) + by));
    list.current?.querySelectorAll('button')[next]?.focus();
  };
  const shown = chosen === null ? undefined : tokens[chosen];

  return (
    <div className="flex flex-col gap-3">
      <textarea
        aria-label={t('completion.prompt')}
        placeholder={t('completion.prompt')}
        value={prompt}
        rows={5}
        onChange={({ target }) => setPrompt(target.value)}
        className={`w-full ${field}`}
      />
      <div className="flex flex-wrap items-center gap-3 text-sm">
        <ModelSelector value={model} onChange={setModel} />
        <label className="flex items-center gap-2">
          {t('sampling.max_tokens')}
          <input type="number" min={1} max={TOKENS_MAX} value={length} onChange={({ target }) => setLength(Math.max(1, Math.min(TOKENS_MAX, Number(target.value))))} className={`w-20 ${field}`} />
        </label>
        <label className="flex items-center gap-2">
          {t('sampling.temperature')}
          <input type="number" min={0} max={2} step={0.1} value={temperature} onChange={({ target }) => setTemperature(Math.max(0, Math.min(2, Number(target.value))))} className={`w-20 ${field}`} />
        </label>
        <span className="grow" />
        {running ? (
          <Button onClick={() => running.abort()}>{t('chat.stop')}</Button>
        ) : (
          <Button look="primary" disabled={!model || !prompt} onClick={() => void run()}>
            {t('completion.run')}
          </Button>
        )}
      </div>
      {error && <p className="text-danger">{error}</p>}
      {tokens.length > 0 && (
        <>
          <div
            ref={list}
            role="group"
            aria-label={t('completion.tokens')}
            className="rounded-lg border border-line bg-ground p-3 leading-7"
            onKeyDown={(event) => {
              const by = { ArrowRight: 1, ArrowLeft: -1, Home: -TOKENS_MAX, End: TOKENS_MAX }[event.key];
              if (by === undefined) return;
              event.preventDefault();
              move(by);
            }}
          >
            {tokens.map((token, at) => (
              <ShownToken key={at} token={token} at={at} chosen={at === chosen} reachable={at === (chosen ?? 0)} onChoose={setChosen} />
            ))}
          </div>
          <p role="status" className="text-sm text-muted">
            {t('completion.summary', { n: tokens.length, perplexity: perplexityOf(tokens).toFixed(2) })}
          </p>
        </>
      )}
      {shown ? <Alternatives token={shown} /> : tokens.length > 0 && <p className="text-sm text-muted">{t('completion.choose')}</p>}
    </div>
  );
}
