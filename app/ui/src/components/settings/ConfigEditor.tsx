import { useEffect, useId, useRef, useState } from 'react';
import { Button } from '@/components/ui/Button';
import { checkOptions, useChangeOptions, useOptions } from '@/hooks/useOptions';
import { useT } from '@/i18n';
import { lineOfMember, readChange } from '@/lib/changes';
import { messageOf } from '@/lib/format';
import { changeDraft, useDraft } from '@/stores/drafts';
import { Panel } from './SettingRow';

const KEY = 'text config';
const textOf = (saved: object) => `${JSON.stringify(saved, null, 2)}\n`;

/** The file of options as text. What is typed is checked by the daemon itself before it can be saved. */
export function ConfigEditor() {
  const t = useT();
  const { data, error } = useOptions();
  const change = useChangeOptions();
  const kept = useDraft(KEY);
  const draft = kept?.text ?? null;
  const [judged, setJudged] = useState<{ text: string; wrong: string; line: number } | null>(null);
  const box = useRef<HTMLTextAreaElement>(null);
  const id = useId();
  const saved = data?.saved;
  const write = (words: string) => changeDraft(KEY, (before) => ({ text: words, from: before?.from ?? textOf(saved ?? {}) }));
  const forget = () => changeDraft(KEY, () => undefined);
  const text = draft ?? (saved ? textOf(saved) : '');
  const reading = draft === null || !saved ? null : readChange(draft, saved);
  // Since it was begun, by another window or another row of this page.
  const stale = kept?.from !== undefined && saved !== undefined && kept.from !== textOf(saved);
  const changed = reading !== null && Object.keys(reading.change).length > 0;

  useEffect(() => {
    if (draft === null || !saved) return;
    const { change: values, wrong } = readChange(draft, saved);
    if (wrong) return;
    const gone = new AbortController();
    const timer = setTimeout(() => {
      checkOptions(values, gone.signal).then(
        () => setJudged({ text: draft, wrong: '', line: 0 }),
        (reason: unknown) => {
          if (gone.signal.aborted) return;
          const message = messageOf(reason);
          const name = Object.keys(values).find((one) => message.includes(one)) ?? '';
          setJudged({ text: draft, wrong: message, line: lineOfMember(draft, name) });
        },
      );
    }, 300);
    return () => {
      clearTimeout(timer);
      gone.abort();
    };
  }, [draft, saved]);

  const verdict = reading?.wrong ? reading : judged?.text === draft ? judged : null;
  const save = () => {
    if (draft === null || !reading) return;
    // Also when this page is left before the daemon has answered; what was written meanwhile stays.
    change.mutateAsync(reading.change).then(
      (answer) => changeDraft(KEY, (now) => (now && now.text !== draft ? { text: now.text, from: textOf(answer.saved) } : undefined)),
      () => undefined, // it is shown
    );
  };
  const show = (line: number) => {
    const lines = text.split('\n');
    const start = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    box.current?.focus();
    box.current?.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  };
  return (
    <Panel title={t('config.title')}>
      <p id={`${id}-hint`} className="pb-2 text-sm break-all text-muted">
        {data?.file ? t('config.file', { file: data.file }) : ''}
      </p>
      {error && <p className="text-danger">{error.message}</p>}
      {data && (
        <>
          <textarea
            ref={box}
            aria-label={t('config.title')}
            aria-describedby={`${id}-hint ${id}-said`}
            aria-invalid={!!verdict?.wrong}
            value={text}
            readOnly={!data.writable}
            onChange={({ target }) => write(target.value)}
            spellCheck={false}
            rows={Math.min(Math.max(text.split('\n').length, 6), 20)}
            className="w-full rounded-md border border-line bg-ground p-3 font-mono text-sm"
          />
          <div id={`${id}-said`} role="status" className="min-h-6 py-1 text-sm">
            {verdict?.wrong ? (
              <span className="text-danger">
                {verdict.line > 0 && (
                  <button type="button" className="me-2 underline" onClick={() => show(verdict.line)}>
                    {t('config.line', { n: verdict.line })}
                  </button>
                )}
                {verdict.wrong}
              </span>
            ) : verdict && changed ? (
              <span className="text-accent">{t('config.valid')}</span>
            ) : null}
            {stale && changed && <span className="text-warn-text"> {t('config.stale')}</span>}
            {change.error && draft !== null && <span className="text-danger"> {change.error.message}</span>}
          </div>
          <div className="flex gap-2">
            <Button
              small
              look="primary"
              disabled={!changed || !verdict || verdict.wrong !== '' || change.isPending}
              onClick={save}
            >
              {t('save')}
            </Button>
            <Button small disabled={draft === null} onClick={forget}>
              {t('config.revert')}
            </Button>
          </div>
        </>
      )}
    </Panel>
  );
}
