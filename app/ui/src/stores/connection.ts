// Whether the daemon answers, and whether it wants a key.
import { create } from 'zustand';
import { ApiError } from '@/api/client';

interface Connection {
  online: boolean;
  needsKey: boolean;
  /** What an answer, or the lack of one, tells. */
  seen: (error?: unknown) => void;
}

export const useConnection = create<Connection>((set, get) => ({
  online: true,
  needsKey: false,
  seen: (error) => {
    const now = get();
    const next =
      error === undefined
        ? { online: true, needsKey: false }
        : error instanceof ApiError
          ? { online: error.status !== 0, needsKey: error.status === 401 || (now.needsKey && error.status === 0) }
          : now;
    if (next.online !== now.online || next.needsKey !== now.needsKey) set(next);
  },
}));
