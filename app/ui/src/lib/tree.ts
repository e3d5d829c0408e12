// A chat's messages are a tree: every edit and every other answer is a branch. What is shown is the path to a leaf.
import type { UiMessage } from '@/api/schema';

export interface Shown {
  message: UiMessage;
  /** All messages with the same parent, oldest first, this one among them. */
  siblings: readonly UiMessage[];
}

export function childrenOf(messages: readonly UiMessage[]): Map<number | null, UiMessage[]> {
  const children = new Map<number | null, UiMessage[]>();
  for (const message of messages) {
    const list = children.get(message.parent);
    if (list) list.push(message);
    else children.set(message.parent, [message]);
  }
  return children;
}

/** From the chat's beginning to the leaf; without one, or with one that is gone, along the newest messages. */
export function pathTo(messages: readonly UiMessage[], leaf: number | null): Shown[] {
  const children = childrenOf(messages);
  const byId = new Map(messages.map((message) => [message.id, message]));
  const shown: Shown[] = [];
  let at = (leaf === null ? undefined : byId.get(leaf)) ?? newestBelow(children, null);
  while (at && shown.length <= messages.length) {
    shown.push({ message: at, siblings: children.get(at.parent) ?? [at] });
    at = at.parent === null ? undefined : byId.get(at.parent);
  }
  return shown.reverse();
}

/** The end of the branch that begins at this message, along its newest children. */
export function newestBelow(children: Map<number | null, UiMessage[]>, from: UiMessage | null): UiMessage | undefined {
  let at = from ?? undefined;
  for (;;) {
    const next = children.get(at?.id ?? null)?.at(-1);
    if (!next) return at;
    at = next;
  }
}
