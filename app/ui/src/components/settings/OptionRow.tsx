import { useState, type ReactNode } from 'react';
import type { UiOptions } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { useChangeOptions, type ShownOption } from '@/hooks/useOptions';
import { useT, type TextKey } from '@/i18n';
import { parseSize, writeSize } from '@/lib/sizes';
import { control, SettingRow } from './SettingRow';

type Kind = 'count' | 'size' | 'text' | 'flag' | readonly (string | number)[];
interface Names {
  id: string;
  'aria-describedby'?: string;
}
interface FieldProps {
  names: Names;
  kind: 'count' | 'size' | 'text';
  value: string | number;
  disabled: boolean;
  /** Fails where the daemon refuses it. */
  onChange: (value: string | number) => Promise<unknown>;
}

/** Is sent when it is left, or Enter is pressed; what makes no sense is told by the browser's own means. */
function Field({ names, kind, value, disabled, onChange }: FieldProps) {
  const t = useT();
  const shown = kind === 'size' ? writeSize(Number(value)) : String(value);
  const [draft, setDraft] = useState<string | null>(null);
  const [wrong, setWrong] = useState(false);
  const [refused, setRefused] = useState<string | null>(null);
  const send = (asked: boolean) => {
    if (draft === null || draft === shown) {
      setDraft(null);
      setWrong(false);
      return;
    }
    // That it is left once more is no wish to hear the same again.
    if (draft === refused && !asked) return;
    const next = kind === 'size' ? parseSize(draft) : kind === 'count' ? (/^-?\d+$/.test(draft.trim()) ? Number(draft) : undefined) : draft.trim();
    setWrong(next === undefined);
    if (next === undefined) return;
    setDraft(null);
    // What was refused is there to be put right, unless something else was written since.
    onChange(next).then(
      () => setRefused(null),
      () => {
        setDraft((now) => now ?? draft);
        setRefused(draft);
      },
    );
  };
  return (
    <span className="flex flex-col gap-1">
      <input
        {...names}
        className={`${control} ${kind === 'text' ? 'w-80 max-w-full' : 'w-48'}`}
        value={draft ?? shown}
        disabled={disabled}
        spellCheck={false}
        aria-invalid={wrong}
        onChange={({ target }) => setDraft(target.value)}
        onBlur={() => send(false)}
        onKeyDown={(event) => {
          if (event.key === 'Enter') send(true);
          if (event.key === 'Escape') setDraft(null);
        }}
      />
      {wrong && (
        <span role="alert" className="text-sm text-danger">
          {t(kind === 'size' ? 'options.no_size' : 'options.no_number')}
        </span>
      )}
    </span>
  );
}

interface Props {
  options: UiOptions;
  name: ShownOption;
  kind: Kind;
  /** Beside the control. */
  children?: ReactNode;
}

/** One of the daemon's options: what its file says, whether that is in use, and a way back. */
export function OptionRow({ options, name, kind, children }: Props) {
  const t = useT();
  const change = useChangeOptions();
  const about = options.options.find((one) => one.name === name);
  if (!about) return null;
  const fixed = about.source === 'command_line';
  const value = (fixed ? options.running[name] : (options.saved[name] ?? options.defaults[name])) ?? '';
  const disabled = fixed || !options.writable || change.isPending;
  const put = (next: string | number | boolean) => change.mutate({ [name]: next });
  return (
    <SettingRow label={t(`options.${name}`)} hint={t(`options.${name}.hint`)}>
      {(names) => (
        <div className="flex min-w-0 flex-col items-start gap-1 sm:items-end">
          <div className="flex flex-wrap items-center gap-2">
            {kind === 'flag' ? (
              <input
                {...names}
                type="checkbox"
                className="size-5 accent-accent"
                checked={value === true}
                disabled={disabled}
                onChange={({ target }) => put(target.checked)}
              />
            ) : typeof kind === 'string' ? (
              <Field names={names} kind={kind} value={typeof value === 'boolean' ? String(value) : value} disabled={disabled} onChange={(next) => change.mutateAsync({ [name]: next })} />
            ) : (
              <select {...names} className={control} value={String(value)} disabled={disabled} onChange={({ target }) => put(kind.find((word) => String(word) === target.value) ?? '')}>
                {kind.map((word) => (
                  <option key={word} value={word}>
                    {textKeyOf(name, word) ? t(textKeyOf(name, word) as TextKey) : word}
                  </option>
                ))}
              </select>
            )}
            {children}
            {options.saved[name] !== undefined && !fixed && (
              <Button small look="ghost" disabled={disabled} aria-label={t('options.reset_name', { name: t(`options.${name}`) })} onClick={() => change.mutate({ [name]: null })}>
                {t('options.reset')}
              </Button>
            )}
          </div>
          {fixed && <span className="text-sm text-muted">{t('options.fixed', { option: `--${about.option}` })}</span>}
          {about.pending && <span className="text-sm text-warn-text">{t('options.pending', { value: String(options.running[name]) || '—' })}</span>}
          {change.error && (
            <span role="alert" className="text-sm text-danger">
              {change.error.message}
            </span>
          )}
        </div>
      )}
    </SettingRow>
  );
}

const wordTexts: Readonly<Record<string, TextKey>> = { '': 'options.automatic', none: 'options.off' };

/** Without a scaling of RoPE nothing is automatic, and `none` is one of its words. */
const textKeyOf = (name: ShownOption, word: string | number): TextKey | undefined =>
  name !== 'rope_scaling' ? wordTexts[word] : word === '' ? 'options.off' : undefined;
