import { useMutation } from '@tanstack/react-query';
import { useMemo } from 'react';
import { api } from '@/api/client';
import { ModelSelector } from '@/components/chat/ModelSelector';
import { Button } from '@/components/ui/Button';
import { useT } from '@/i18n';
import { useText } from '@/stores/drafts';
import { cosine } from './tokens';
import { useModelChoice } from './useModelChoice';

const TEXTS_MAX = 32;

/** How near texts are to each other, for a model. */
export function EmbeddingsPlayground() {
  const t = useT();
  const [model, setModel] = useModelChoice();
  const [lines, setLines] = useText('text embeddings');
  const texts = useMemo(() => lines.split('\n').map((line) => line.trim()).filter(Boolean), [lines]);
  const { mutate, data, error, isPending } = useMutation({
    mutationFn: async (input: readonly string[]) => ({ input, answer: await api('POST /v1/embeddings', { body: { model, input } }) }),
  });
  const matrix = useMemo(() => {
    const vectors = [...(data?.answer.data ?? [])].sort((a, b) => a.index - b.index).map(({ embedding }) => embedding);
    return vectors.map((one) => vectors.map((other) => cosine(one, other)));
  }, [data]);
  const nameOf = (at: number) => data?.input[at] ?? '';

  return (
    <div className="flex flex-col gap-3">
      <textarea
        aria-label={t('embeddings.texts')}
        placeholder={t('embeddings.texts')}
        value={lines}
        rows={6}
        onChange={({ target }) => setLines(target.value)}
        className="w-full rounded-md border border-line bg-raised px-2 py-1"
      />
      <div className="flex flex-wrap items-center gap-3 text-sm">
        <ModelSelector value={model} onChange={setModel} />
        <span className={texts.length > TEXTS_MAX ? 'text-danger' : 'text-muted'}>{t('embeddings.count', { n: texts.length, max: TEXTS_MAX })}</span>
        <span className="grow" />
        <Button look="primary" disabled={isPending || !model || texts.length < 2 || texts.length > TEXTS_MAX} onClick={() => mutate(texts)}>
          {t('embeddings.run')}
        </Button>
      </div>
      {error && <p className="text-danger">{error.message}</p>}
      {data?.answer.warnings?.map((warning) => (
        <p key={warning} className="rounded-md bg-warn px-3 py-2 text-sm text-warn-text">
          {warning}
        </p>
      ))}
      {matrix.length > 0 && (
        <div className="overflow-auto" tabIndex={0} role="region" aria-label={t('embeddings.matrix')}>
          <table className="border-collapse text-sm">
            <caption className="pb-1 text-start text-muted">{t('embeddings.matrix')}</caption>
            <thead>
              <tr>
                <td />
                {matrix.map((_, at) => (
                  <th key={at} scope="col" title={nameOf(at)} className="px-2 py-1 text-end font-medium">
                    {at + 1}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {matrix.map((row, at) => (
                <tr key={at}>
                  <th scope="row" title={nameOf(at)} className="max-w-72 truncate pe-3 text-start font-normal">
                    {at + 1}. {nameOf(at)}
                  </th>
                  {row.map((value, other) => (
                    <td
                      key={other}
                      className="border border-line px-2 py-1 text-end tabular-nums"
                      style={{ background: `color-mix(in oklab, var(--accent-soft) ${Math.round(Math.max(0, value) * 100)}%, var(--raised))` }}
                    >
                      {value.toFixed(3)}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}
