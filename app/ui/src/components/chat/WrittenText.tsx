import { useId, type ReactNode } from 'react';
import type { Written } from '@/hooks/useWritten';

interface Props {
  label: ReactNode;
  written: Written;
  rows: number;
  /** A program reads it. */
  code?: boolean;
}

/** Where a text is written that is kept elsewhere, and why it was not taken. */
export function WrittenText({ label, written: { text, error, write, leave }, rows, code = false }: Props) {
  const id = useId();
  return (
    <div className="flex flex-col gap-1 text-sm">
      <label htmlFor={id}>{label}</label>
      <textarea
        id={id}
        rows={rows}
        spellCheck={!code}
        value={text}
        aria-invalid={!!error}
        aria-describedby={error && `${id}-error`}
        onChange={({ target }) => write(target.value)}
        onBlur={leave}
        className={`rounded-md border border-line bg-ground p-2 ${code ? 'font-mono text-xs' : ''}`}
      />
      {error && (
        <span id={`${id}-error`} role="alert" className="text-danger">
          {error}
        </span>
      )}
    </div>
  );
}
