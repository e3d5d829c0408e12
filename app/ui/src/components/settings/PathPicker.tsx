import { keepPreviousData, useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '@/api/client';
import { Button } from '@/components/ui/Button';
import { Dialog } from '@/components/ui/Dialog';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { formatBytes } from '@/lib/format';

interface Props {
  label: string;
  /** Where it begins; else in the user's own folder. */
  from?: string | undefined;
  /** A model file is meant; else a folder. */
  files?: boolean;
  onPick: (path: string) => void;
  onClose: () => void;
}

const join = (folder: string, name: string) => `${folder === '/' ? '' : folder}/${name}`;

/** A folder, or a model file, of the daemon's machine. */
export function PathPicker({ label, from = '', files = false, onPick, onClose }: Props) {
  const t = useT();
  const [path, setPath] = useState(from);
  const [typed, setTyped] = useState<string | null>(null);
  const [hidden, setHidden] = useState(false);
  const { data, error } = useQuery({
    queryKey: ['directory', path, hidden],
    queryFn: ({ signal }) => api('GET /ui-api/directories', { query: { path: path || undefined, hidden }, signal }),
    placeholderData: keepPreviousData,
    retry: false,
  });
  const go = (to: string) => {
    setTyped(null);
    setPath(to);
  };
  const entry = 'flex w-full items-center gap-2 rounded-md px-3 py-1.5 text-start hover:bg-accent-soft';
  return (
    <Dialog label={label} onClose={onClose}>
      <div className="flex flex-col gap-3 p-5">
        <h2 className="text-lg font-semibold">{label}</h2>
        <form
          className="flex gap-2"
          onSubmit={(event) => {
            event.preventDefault();
            if (typed !== null) go(typed.trim());
          }}
        >
          <input
            autoFocus
            aria-label={t('paths.path')}
            value={typed ?? data?.path ?? path}
            onChange={(event) => setTyped(event.target.value)}
            spellCheck={false}
            className="min-w-0 grow rounded-md border border-line bg-ground px-3 py-2 font-mono text-sm"
          />
          <Button type="submit" disabled={typed === null}>
            {t('paths.go')}
          </Button>
        </form>
        {error && (
          <p role="alert" className="text-sm text-danger">
            {error.message}
          </p>
        )}
        <ul aria-label={t('paths.folders')} className="h-72 overflow-auto rounded-md border border-line p-1">
          {data?.parent != null && (
            <li>
              <button type="button" className={entry} onClick={() => go(data.parent ?? '/')}>
                <Icon name="back" /> {t('paths.up')}
              </button>
            </li>
          )}
          {data?.folders.map((name) => (
            <li key={name}>
              <button type="button" className={entry} onClick={() => go(join(data.path, name))}>
                <Icon name="folder" className="text-accent" /> <span className="truncate">{name}</span>
              </button>
            </li>
          ))}
          {files &&
            data?.files.map(({ name, bytes }) => (
              <li key={name}>
                <button type="button" className={entry} onClick={() => onPick(join(data.path, name))}>
                  <Icon name="model" className="text-accent" /> <span className="grow truncate">{name}</span>
                  <span className="text-sm text-muted">{formatBytes(bytes)}</span>
                </button>
              </li>
            ))}
          {data && !data.folders.length && !(files && data.files.length) && <li className="p-3 text-sm text-muted">{t(files ? 'paths.no_models' : 'paths.empty')}</li>}
          {data && data.left_out > 0 && <li className="p-3 text-sm text-muted">{t('paths.left_out', { n: data.left_out })}</li>}
        </ul>
        <div className="flex flex-wrap items-center gap-2">
          <label className="flex items-center gap-2 text-sm">
            <input type="checkbox" className="size-4 accent-accent" checked={hidden} onChange={({ target }) => setHidden(target.checked)} />
            {t('paths.hidden')}
          </label>
          <span className="grow" />
          <Button onClick={onClose}>{t('cancel')}</Button>
          {!files && (
            <Button look="primary" disabled={!data || error !== null} onClick={() => data && onPick(typed?.trim() || data.path)}>
              {t('paths.take')}
            </Button>
          )}
        </div>
      </div>
    </Dialog>
  );
}
