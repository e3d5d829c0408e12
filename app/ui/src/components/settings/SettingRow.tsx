import { useId, type ReactNode } from 'react';

export const control = 'min-h-9 min-w-48 rounded-md border border-line bg-ground px-2 disabled:opacity-70';

interface Props {
  label: string;
  hint?: string;
  /** Gets the ids of label and hint, for the control that it draws. */
  children: (names: { id: string; 'aria-describedby'?: string }) => ReactNode;
}

/** One setting: its name, what it does, and the control that changes it. */
export function SettingRow({ label, hint, children }: Props) {
  const id = useId();
  return (
    <div className="flex flex-wrap items-center gap-x-6 gap-y-2 border-t border-line py-3 first:border-t-0">
      <div className="min-w-56 grow basis-0">
        <label htmlFor={id} className="font-medium">
          {label}
        </label>
        {hint && (
          <p id={`${id}-hint`} className="text-sm text-muted">
            {hint}
          </p>
        )}
      </div>
      {children(hint ? { id, 'aria-describedby': `${id}-hint` } : { id })}
    </div>
  );
}

export function Panel({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section aria-label={title} className="rounded-xl border border-line bg-raised px-5 py-4">
      <h2 className="pb-2 text-lg font-semibold">{title}</h2>
      {children}
    </section>
  );
}
