// Short notes at the edge of the page, some with an action such as Undo.
import { create } from 'zustand';
import { messageOf } from '@/lib/format';

export interface Toast {
  id: number;
  text: string;
  error: boolean;
  action: { label: string; run: () => void } | undefined;
}

interface Toasts {
  toasts: Toast[];
  show: (text: string, options?: { error?: boolean; action?: Toast['action']; seconds?: number }) => void;
  close: (id: number) => void;
}

let newest = 0;

export const useToasts = create<Toasts>((set, get) => ({
  toasts: [],
  show: (text, { error = false, action, seconds = 6 } = {}) => {
    const id = ++newest;
    set({ toasts: [...get().toasts.slice(-3), { id, text, error, action }] });
    setTimeout(() => get().close(id), seconds * 1000);
  },
  close: (id) => set({ toasts: get().toasts.filter((toast) => toast.id !== id) }),
}));

export const showError = (error: unknown): void =>
  useToasts.getState().show(messageOf(error), { error: true, seconds: 10 });
