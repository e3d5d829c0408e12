// A second model beside the chat's own: both answer every question, each in a branch of its own. The chat's shown branch is the left one.
import { useMemo, useState, type Dispatch, type SetStateAction } from 'react';
import type { UiMessage } from '@/api/schema';
import type { Ask, Turns } from '@/hooks/useChat';
import { pathTo, type Shown } from '@/lib/tree';
import { showError } from '@/stores/toasts';

interface Beside {
  model: string;
  /** Whose branch it is; another chat begins with the one it shows. */
  chat: number | null;
  leaf: number | null;
}

export interface Compare {
  /** null: nothing is compared. */
  model: string | null;
  /** Of the second pane, from the chat's beginning. */
  shown: readonly Shown[];
  begin: (model: string) => void;
  end: () => void;
  /** The question, and both answers. */
  ask: (question: Ask) => Promise<void>;
  resend: (question: UiMessage, content: string) => Promise<void>;
  regenerate: (answer: UiMessage) => Promise<void>;
  showBranch: (leaf: number) => void;
}

const NONE: readonly Shown[] = [];

export function useCompare(id: number | null, leaf: number | null, messages: readonly UiMessage[], turns: Turns): Compare {
  const [beside, setBeside] = useState<Beside | null>(null);
  const own = beside && beside.chat === id ? beside.leaf : null;
  const model = beside?.model ?? null;
  const shown = useMemo(() => (model === null ? NONE : pathTo(messages, own ?? leaf)), [model, messages, own, leaf]);
  // The same as long as nothing of it changes: messages need not be drawn anew.
  return useMemo(() => comparing({ id, leaf, own, model, shown, turns, setBeside }), [id, leaf, own, model, shown, turns]);
}

interface State {
  id: number | null;
  leaf: number | null;
  own: number | null;
  model: string | null;
  shown: readonly Shown[];
  turns: Turns;
  setBeside: Dispatch<SetStateAction<Beside | null>>;
}

function comparing({ id, leaf, own, model, shown, turns, setBeside }: State): Compare {
  const put = (chat: number | null, at: number | null) => setBeside((before) => before && { ...before, chat, leaf: at });
  return {
    model,
    shown,
    begin: (name) => setBeside({ model: name, chat: id, leaf: own }),
    end: () => setBeside(null),
    ask: async (question) => {
      const made = await turns.ask(question);
      if (model === null) return;
      // Where both branches were the same, so is the question; else each has its own.
      const into = { chat: made.chat.id, model, activate: false };
      const second =
        own === null || own === leaf
          ? turns.answer({ ...into, parent: made.question?.id ?? 0 })
          : turns.answer({ ...into, message: { content: question.content, attachments: question.attachments, parent: own } });
      // The first answer goes on, whatever becomes of the second.
      await second.then(({ answer }) => put(made.chat.id, answer.id), showError);
    },
    resend: async (question, content) => {
      if (id === null || model === null) return;
      const attachments = await turns.attachmentsOf(question);
      const message = { content, attachments, parent: question.parent };
      put(id, (await turns.answer({ chat: id, model, activate: false, message })).answer.id);
    },
    regenerate: async ({ parent }) => {
      if (id === null || model === null || parent === null) return;
      put(id, (await turns.answer({ chat: id, model, activate: false, parent })).answer.id);
    },
    showBranch: (at) => put(id, at),
  };
}
