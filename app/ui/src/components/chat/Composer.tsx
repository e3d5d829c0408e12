import { useState, type ClipboardEvent, type DragEvent } from 'react';
import type { UiAttachmentFields } from '@/api/schema';
import { Button } from '@/components/ui/Button';
import { Icon } from '@/components/ui/Icon';
import { useT } from '@/i18n';
import { useSetting } from '@/stores/preferences';
import { showError } from '@/stores/toasts';
import { AttachmentButton, useFileReader } from './AttachmentButton';

interface Props {
  disabled: boolean;
  /** Under way: the button stops it. */
  onStop: (() => void) | null;
  onSend: (content: string, attachments: UiAttachmentFields[]) => Promise<void>;
}

/** Enter sends (or, as it is set, Ctrl+Enter only), Shift+Enter makes a line. What could not be sent stays. */
export function Composer({ disabled, onStop, onSend }: Props) {
  const t = useT();
  const sendKey = useSetting('send_key');
  const [text, setText] = useState('');
  const [files, setFiles] = useState<UiAttachmentFields[]>([]);
  const [sending, setSending] = useState(false);
  const ready = text.trim() !== '' && !disabled && !sending && !onStop;
  const addFiles = (more: UiAttachmentFields[]) => setFiles((before) => [...before, ...more]);
  const read = useFileReader(addFiles);
  const takeFrom = (event: ClipboardEvent | DragEvent, { files: found }: DataTransfer) => {
    if (!found.length) return;
    event.preventDefault();
    read([...found]);
  };
  const send = () => {
    if (!ready) return;
    setSending(true);
    onSend(text, files)
      .then(() => {
        setText('');
        setFiles([]);
      })
      .catch(showError)
      .finally(() => setSending(false));
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
              onClick={() => setFiles(files.filter((one) => one !== file))}
            >
              <Icon name="close" />
            </Button>
          </span>
        ))}
        <textarea
          autoFocus
          aria-label={t('chat.ask')}
          placeholder={t('chat.ask')}
          value={text}
          rows={Math.min(10, Math.max(2, text.split('\n').length))}
          onChange={(event) => setText(event.target.value)}
          onPaste={(event) => takeFrom(event, event.clipboardData)}
          onDrop={(event) => takeFrom(event, event.dataTransfer)}
          onKeyDown={(event) => {
            const modified = event.ctrlKey || event.metaKey;
            if (event.key === 'Enter' && !event.shiftKey && !event.nativeEvent.isComposing && (modified || sendKey === 'enter')) {
              event.preventDefault();
              send();
            }
          }}
          className="w-full resize-none bg-transparent px-2 py-1 outline-none"
        />
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
