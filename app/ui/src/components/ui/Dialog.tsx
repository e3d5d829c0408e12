import { useEffect, useRef, type ReactNode } from 'react';

interface Props {
  label: string;
  onClose: () => void;
  children: ReactNode;
  /** Nothing closes it but its owner. */
  fixed?: boolean;
  /** A panel at the right edge instead of a box in the middle. */
  drawer?: boolean;
}

/** The browser's own modal dialog: it keeps the focus inside and gives it back. */
export function Dialog({ label, onClose, children, fixed = false, drawer = false }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const element = dialog.current;
    if (element && !element.open) element.showModal();
    return () => element?.close();
  }, []);
  const shape = drawer
    ? 'me-0 my-0 h-full max-h-full w-[min(34rem,100vw)] rounded-s-xl'
    : 'w-[min(36rem,94vw)] max-h-[85vh] rounded-xl';
  return (
    <dialog
      ref={dialog}
      aria-label={label}
      onCancel={(event) => {
        if (fixed) event.preventDefault();
      }}
      onClose={() => {
        // Browsers let nobody hold back the second Escape.
        if (fixed) dialog.current?.showModal();
        else onClose();
      }}
      onClick={(event) => {
        if (!fixed && event.target === dialog.current) onClose();
      }}
      className={`overflow-auto border border-line bg-raised shadow-xl ${shape}`}
    >
      {children}
    </dialog>
  );
}
