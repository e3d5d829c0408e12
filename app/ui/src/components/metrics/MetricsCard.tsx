import { useId, type ReactNode } from 'react';

interface Props {
  title: string;
  about?: string;
  /** At the right of the title. */
  control?: ReactNode;
  children: ReactNode;
}

/** The frame of a chart. */
export function MetricsCard({ title, about, control, children }: Props) {
  const id = useId();
  return (
    <section aria-labelledby={id} className="flex min-w-0 flex-col gap-2 rounded-lg border border-line bg-raised p-4">
      <div className="flex flex-wrap items-center gap-2">
        <h2 id={id} className="font-semibold">
          {title}
        </h2>
        <span className="grow" />
        {control}
      </div>
      {about && <p className="text-sm text-muted">{about}</p>}
      {children}
    </section>
  );
}
