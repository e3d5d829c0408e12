// How a choice looks, in one place. By its height in quarters of a rem.
const sizes = { 7: 'min-h-7 px-1', 8: 'min-h-8 px-2', 9: 'min-h-9 px-2' };

interface Props<V extends string | number> {
  label?: string;
  value: V;
  options: readonly (readonly [value: V, text: string])[];
  onChange: (value: V) => void;
  size?: keyof typeof sizes;
  className?: string;
}

export const controlClass = (size: keyof typeof sizes): string => `rounded-md border border-line bg-raised text-sm ${sizes[size]}`;

/** One of several; what is chosen comes back with the type that it has among the options. */
export function Select<V extends string | number>({ label, value, options, onChange, size = 7, className = '' }: Props<V>) {
  return (
    <select
      aria-label={label}
      value={value}
      onChange={({ target }) => {
        const chosen = options[target.selectedIndex];
        if (chosen) onChange(chosen[0]);
      }}
      className={`${controlClass(size)} ${className}`}
    >
      {options.map(([one, text]) => (
        <option key={one} value={one}>
          {text}
        </option>
      ))}
    </select>
  );
}
