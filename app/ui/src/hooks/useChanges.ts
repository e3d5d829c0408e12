// What others change (another window, another client) is read anew.
import { useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';
import { ApiError, apiEvents } from '@/api/client';
import type { UiChange } from '@/api/schema';
import { useConnection } from '@/stores/connection';
import { usePreferences } from '@/stores/preferences';

/** The daemon's clock stands still while it does something. */
const SLACK_MS = 1000;

export function useChanges(): void {
  const client = useQueryClient();
  useEffect(() => {
    const gone = new AbortController();
    const stale = (...queryKey: unknown[]) => void client.invalidateQueries({ queryKey });
    const changed = ({ kind, chat, id }: UiChange) => {
      if (kind === 'chat' || kind === 'folder') {
        stale('chats');
        stale('folders');
        if (kind === 'chat') stale('chat', id);
      } else if (kind === 'message' || kind === 'generation') {
        stale('messages', chat);
        stale('chat', chat);
        stale('chats');
      } else if (kind === 'preset') {
        stale('presets');
      } else if (kind === 'settings') {
        void usePreferences.getState().read();
      } else if (kind === 'models' || kind === 'loaded') {
        if (kind === 'models') stale('models');
        stale('model'); // whether it fits depends on the others
        stale('loaded');
      }
    };
    // What failed while the daemon was away is not asked for again by itself.
    const back = useConnection.subscribe(({ online }, before) => {
      if (online && !before.online) void client.invalidateQueries({ predicate: ({ state }) => state.status === 'error' });
    });
    const hello = ({ quiet_ms: quiet = 0 }: { quiet_ms?: number }) => {
      void usePreferences.getState().read();
      // Whatever the page has asked for, it did since it was opened; a change since then may not have been in the answer, and is not told.
      if (quiet < performance.now() + SLACK_MS) void client.invalidateQueries();
    };
    const run = async () => {
      let last: string | undefined;
      for (;;) {
        try {
          for await (const event of apiEvents('GET /ui-api/events', { query: { after: last }, signal: gone.signal, priority: 'low' })) {
            last = event.id || last;
            useConnection.getState().seen();
            if (event.event === 'hello') hello(JSON.parse(event.data) as { quiet_ms?: number });
            else if (event.event === 'change') changed(JSON.parse(event.data) as UiChange);
            else if (event.event === 'reset') {
              void usePreferences.getState().read();
              void client.invalidateQueries();
            }
          }
        } catch (error) {
          if (gone.signal.aborted) return;
          if (error instanceof ApiError && error.status === 404) return;
          useConnection.getState().seen(error);
        }
        await new Promise((done) => setTimeout(done, 1000));
      }
    };
    void run();
    return () => {
      back();
      gone.abort();
    };
  }, [client]);
}
