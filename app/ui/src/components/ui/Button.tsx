import type { ButtonHTMLAttributes } from 'react';

const looks = {
  plain: 'border border-line bg-raised hover:bg-panel',
  primary: 'bg-accent text-accent-text hover:opacity-90',
  ghost: 'text-muted hover:bg-panel hover:text-text',
  danger: 'border border-line text-danger hover:bg-panel',
};

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  look?: keyof typeof looks;
  small?: boolean;
}

export function Button({ look = 'plain', small = false, className = '', type = 'button', ...rest }: Props) {
  const size = small ? 'min-h-7 px-2 text-sm' : 'min-h-9 px-3';
  return (
    <button
      {...rest}
      type={type}
      className={`inline-flex items-center justify-center gap-1.5 rounded-md disabled:opacity-50 ${size} ${looks[look]} ${className}`}
    />
  );
}
