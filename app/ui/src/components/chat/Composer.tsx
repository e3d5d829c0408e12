import { useEffect, useEffectEvent, useId, type ClipboardEvent } from 'react';
import type { UiAttachmentFields } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { messageOf } from '@/lib/format';
import { changeDraft, sendDraft, useDraft, useSending } from '@/stores/drafts';
import { useSetting } from '@/stores/preferences';
import { showError } from '@/stores/toasts';
import { AttachmentButton, useFileReader } from './AttachmentButton';

const EMPTY: { text: string; error?: string } = { text: '' };
const NONE: readonly UiAttachmentFields[] = [];

/** What is left when `sent` was taken: what was written in the meantime. */
const rest = (text: string, sent: string): string => (text.startsWith(sent) ? text.slice(sent.length) : text);

interface Props {
  /** null: one that is not begun yet. What is written for each stays with it. */
  chat: number | null;
  disabled: boolean;
  /** Under way: the button stops it. */
  onStop: (() => void) | null;
  onSend: (content: string, attachments: UiAttachmentFields[]) => Promise<void>;
}

/** Enter sends (or, as it is set, Ctrl+Enter only), Shift+Enter makes a line. What could not be sent stays. */
export function Composer({ chat, disabled, onStop, onSend }: Props) {
  const t = useT();
  const sendKey = useSetting('send_key');
  const key = `question ${chat ?? 'new'}` as const;
  const filesKey = `files ${chat ?? 'new'}` as const;
  const { text, error } = useDraft(key) ?? EMPTY;
  const files = useDraft(filesKey) ?? NONE;
  const id = useId();
  const sending = useSending(key);
  const ready = text.trim() !== '' && !disabled && !sending && !onStop;
  const setText = (words: string) => changeDraft(key, () => (words ? { text: words } : undefined));
  const changeFiles = (how: (before: readonly UiAttachmentFields[]) => UiAttachmentFields[]) =>
    changeDraft(filesKey, (before = NONE) => {
      const now = how(before);
      return now.length > 0 ? now : undefined;
    });
  const addFiles = (more: UiAttachmentFields[]) => changeFiles((before) => [...before, ...more]);
  const read = useFileReader(addFiles);
  const takeFrom = (event: ClipboardEvent | DragEvent, { files: found }: DataTransfer) => {
    if (!found.length) return;
    event.preventDefault();
    read([...found]);
  };
  const dropped = useEffectEvent((event: DragEvent) => event.dataTransfer && takeFrom(event, event.dataTransfer));
  useEffect(() => {
    // Wherever it is dropped: the browser would leave the page for it.
    const over = (event: DragEvent) => event.dataTransfer?.types.includes('Files') && event.preventDefault();
    window.addEventListener('dragover', over);
    window.addEventListener('drop', dropped);
    return () => {
      window.removeEventListener('dragover', over);
      window.removeEventListener('drop', dropped);
    };
  }, []);
  const send = () => {
    if (!ready) return;
    void sendDraft(key, () =>
      onSend(text, [...files]).then(
        () => {
          changeDraft(key, (now) => {
            const left = rest(now?.text ?? '', text);
            return left ? { text: left } : undefined;
          });
          changeFiles((now) => now.filter((file) => !files.includes(file)));
        },
        (reason: unknown) => {
          // Also told where somebody has gone meanwhile; in its chat it stays until something else is written.
          showError(reason);
          changeDraft(key, (now) => ({ text: now?.text ?? '', error: messageOf(reason) }));
        },
      ),
    );
  };
  return (
    <form
      className="mx-auto w-full max-w-3xl px-4 pb-3"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <div className="rounded-xl border border-line bg-raised p-2 focus-within:border-accent">
        {files.map((file, at) => (
          <span key={`${at} ${file.name}`} className="me-2 inline-flex items-center rounded bg-panel px-2 text-sm">
            {file.name}
            <Button
              small
              look="ghost"
              aria-label={t('chat.detach', { name: file.name })}
              onClick={() => changeFiles((before) => before.filter((one) => one !== file))}
            >
              <Icon name="close" />
            </Button>
          </span>
        ))}
        <textarea
          autoFocus
          aria-label={t('chat.ask')}
          placeholder={t('chat.ask')}
          aria-invalid={!!error}
          aria-describedby={error && id}
          value={text}
          rows={Math.min(10, Math.max(2, text.split('\n').length))}
          onChange={(event) => setText(event.target.value)}
          onPaste={(event) => takeFrom(event, event.clipboardData)}
          onKeyDown={(event) => {
            const modified = event.ctrlKey || event.metaKey;
            if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing && (modified || sendKey === 'enter')) {
              event.preventDefault();
              send();
            }
          }}
          className="w-full resize-none bg-transparent px-2 py-1 outline-none"
        />
        {error && (
          <p id={id} role="alert" className="px-2 pb-1 text-sm break-words text-danger">
            {error}
          </p>
        )}
        <div className="flex flex-wrap items-center gap-2">
          <AttachmentButton onFiles={addFiles} />
          <span className="grow" />
          {onStop ? (
            <Button look="danger" onClick={onStop}>
              {t('chat.stop')}
            </Button>
          ) : (
            <Button look="primary" type="submit" disabled={!ready}>
              {t('chat.send')}
            </Button>
          )}
        </div>
      </div>
    </form>
  );
}
