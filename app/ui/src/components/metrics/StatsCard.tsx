/** One figure. */
export function StatsCard({ label, value, more }: { label: string; value: string; more?: string | undefined }) {
  return (
    <div className="rounded-lg border border-line bg-panel px-4 py-2.5">
      <dt className="text-sm text-muted">{label}</dt>
      <dd className="text-xl font-semibold tabular-nums">
        {value}
        {more && <span className="ps-2 text-sm font-normal text-muted">{more}</span>}
      </dd>
    </div>
  );
}
