import { useQueryClient } from '@tanstack/react-query';
import { useId, useRef, useState } from 'react';
import { api, ApiError } from '@/api/client';
import { upload } from '@/api/upload';
import { PathPicker } from '@/components/settings/PathPicker';
import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { Icon } from '@/components/ui/Icon';
import { useModels } from '@/hooks/useModels';
import { useT } from '@/i18n';
import { formatBytes, messageOf } from '@/lib/format';
import { useToasts } from '@/stores/toasts';

/** What a model may be called that comes from this file. */
export const nameOfFile = (file: string): string =>
  (file.split(/[\\/]/).pop() ?? '')
    .replace(/\.(gguf|safetensors)$/i, '')
    .replace(/[^\w.-]+/g, '-')
    .replace(/^[-.]+|[-.]+$/g, '')
    .slice(0, 100);

/** The daemon takes them for one. */
const bare = (name: string): string => name.replace(/:latest$/, '');

type Source = { file: File } | { path: string };

/** A model out of a file: sent from the browser's machine and kept in the store, or used where it lies on the daemon's. */
export function ModelImport({ onClose }: { onClose: () => void }) {
  const t = useT();
  const client = useQueryClient();
  const { rows = [] } = useModels();
  const [source, setSource] = useState<Source | null>(null);
  const [name, setName] = useState('');
  const [picking, setPicking] = useState(false);
  const [over, setOver] = useState(false);
  const [sent, setSent] = useState<number | null>(null);
  const [wrong, setWrong] = useState('');
  /** The name of a model there is, while it is not known whether it is to be replaced. */
  const [taken, setTaken] = useState<string | null>(null);
  const gone = useRef<AbortController | null>(null);
  const id = useId();

  const choose = (next: Source) => {
    setSource(next);
    setWrong('');
    setTaken(null);
    setName(nameOfFile('file' in next ? next.file.name : next.path));
  };
  const run = async (from: Source, replace: boolean) => {
    gone.current = new AbortController();
    const query = replace ? { replace: true } : {};
    setWrong('');
    setTaken(null);
    setSent(0);
    try {
      if ('file' in from) {
        await upload('POST /ui-api/models/import', from.file, { query: { name, ...query }, signal: gone.current.signal, onProgress: setSent });
      } else {
        await api('POST /ui-api/models/register', { query, body: { path: from.path, name } });
      }
      void client.invalidateQueries({ queryKey: ['models'] });
      useToasts.getState().show(t('pull.done', { name }));
      onClose();
    } catch (error) {
      // Somebody else gave the name away meanwhile.
      if (error instanceof ApiError && error.code === 'name_taken') setTaken(name);
      else if (!gone.current.signal.aborted) setWrong(messageOf(error));
      setSent(null);
    }
  };
  const close = () => {
    gone.current?.abort();
    onClose();
  };
  const size = source && 'file' in source ? source.file.size : 0;
  return (
    <Dialog label={t('import.title')} onClose={close}>
      <form
        className="flex flex-col gap-4 p-5"
        onSubmit={(event) => {
          event.preventDefault();
          if (!source) return;
          if (rows.some((row) => bare(row.name) === bare(name))) setTaken(name);
          else void run(source, false);
        }}
      >
        <h2 className="text-lg font-semibold">{t('import.title')}</h2>
        <label
          htmlFor={`${id}-file`}
          onDragOver={(event) => {
            event.preventDefault();
            setOver(true);
          }}
          onDragLeave={() => setOver(false)}
          onDrop={(event) => {
            event.preventDefault();
            setOver(false);
            const file = event.dataTransfer.files[0];
            if (file) choose({ file });
          }}
          className={`flex cursor-pointer flex-col items-center gap-2 rounded-lg border-2 border-dashed p-6 text-center focus-within:border-accent ${over ? 'border-accent bg-accent-soft' : 'border-line'}`}
        >
          <Icon name="upload" className="text-2xl text-accent" />
          {source && 'file' in source ? (
            <span className="font-medium break-all">
              {source.file.name} · {formatBytes(size)}
            </span>
          ) : (
            <span>{t('import.drop')}</span>
          )}
          <span className="text-sm text-muted">{t('import.copied')}</span>
          <input
            id={`${id}-file`}
            type="file"
            accept=".gguf"
            className="sr-only"
            aria-label={t('import.file')}
            onChange={({ target }) => {
              const file = target.files?.[0];
              if (file) choose({ file });
            }}
          />
        </label>
        <div className="flex flex-wrap items-center gap-2">
          <Button onClick={() => setPicking(true)}>
            <Icon name="folder" /> {t('import.path')}
          </Button>
          <span className="min-w-0 grow text-sm break-all text-muted">{source && 'path' in source ? source.path : t('import.in_place')}</span>
        </div>
        <label className="flex flex-col gap-1">
          <span className="font-medium">{t('models.name')}</span>
          <input
            value={name}
            onChange={({ target }) => {
              setName(target.value);
              setTaken(null);
            }}
            spellCheck={false}
            className="rounded-md border border-line bg-ground px-3 py-2"
          />
        </label>
        {sent !== null && source && (
          <div className="flex flex-col gap-1 text-sm text-muted">
            <progress aria-label={name} className="h-2 w-full" {...(size ? { max: size, value: sent } : {})} />
            {sent < size ? t('pull.bytes', { done: formatBytes(sent), total: formatBytes(size) }) : t('import.checking')}
          </div>
        )}
        {wrong && (
          <p role="alert" className="text-sm break-words text-danger">
            {wrong}
          </p>
        )}
        {taken !== null && source && (
          <div role="alert" className="flex flex-wrap items-center gap-3 rounded-md bg-warn px-3 py-2 text-sm text-warn-text">
            <span className="grow break-words">{t('import.taken', { name: taken })}</span>
            <Button small onClick={() => void run(source, true)}>
              {t('import.replace', { name: taken })}
            </Button>
          </div>
        )}
        <div className="flex justify-end gap-2">
          <Button onClick={close}>{t('cancel')}</Button>
          <Button type="submit" look="primary" disabled={!source || !name.trim() || sent !== null}>
            {t('import.do')}
          </Button>
        </div>
      </form>
      {picking && (
        <PathPicker
          files
          label={t('import.path')}
          onClose={() => setPicking(false)}
          onPick={(path) => {
            setPicking(false);
            choose({ path });
          }}
        />
      )}
    </Dialog>
  );
}
